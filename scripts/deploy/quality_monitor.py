"""Watch a new model beside the old one in production: log each answer, compare, and decide to switch or to go back.

    from quality_monitor import ABTestMonitor

    monitor = ABTestMonitor("monitor.sqlite", models=("old", "new"))
    model = monitor.assign(user_id)
    monitor.log_metric(model=model, text=answer, gen_time=seconds)
    monitor.get_comparison_report()
    monitor.decision()["decision"]  # switch, keep, rollback or inconclusive

    python quality_monitor.py report monitor.sqlite --page page.html
    python quality_monitor.py decide monitor.sqlite

This file needs only Python 3.9 or later, so it can be copied into any application. The words of a text are those of
snaketune's score stage (scripts/score/tokenize_text.py), so that repetition, length variation and generic phrases have
the same values in production as in a report.

Repetition, length variation and errors each have a confidence sequence: an interval that holds the true value at all
times at once, so the monitor may be asked after every text (Waudby-Smith and Ramdas 2024, Estimating means of bounded
random variables by betting, JRSS B 86(1)). For a candidate r of E[A] / E[B], a share of a wealth is bet on each next
A - r B. If E[A] <= r E[B], the wealth is a nonnegative supermartingale whatever the predictable bets are, and exceeds
1 / alpha at any time with a probability of at most alpha (Ville's inequality). Then r is excluded.

    repetition         A = repetition of a text, B = 1
    errors             A = 1 for a call that failed, else 0, B = 1
    length variation   A = (X - Y)^2 / 2, B = X Y, for the lengths X, Y of two texts: E[A] is the variance and E[B] the
                       squared mean, so the candidate c of the variation is r = c^2

The two texts are drawn at random from WAITING texts that were in no pair yet: of answers that are computed at the same
time the short ones are logged first, so texts in a row have similar lengths.

Each bet is mean / mean square of the earlier A - r B, at most 0.9 of what cannot ruin (aGRAPA, section B.3 of that
paper). Later texts weigh more in these means, so that a model that turns bad is noticed. The three intervals have six
limits; the probability that any of them is ever wrong is at most 0.05.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import html
import json
import math
import os
import random
import re
import sqlite3
import statistics
import sys
import threading
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path

LANGUAGE = None  # of the texts, such as "fr"; a bundle has the language of its dataset here
GENERIC_PHRASES = ()  # regular expressions; a bundle has those of its run's `score.generic_phrases` here

SETTINGS = {
    "models": ("old", "new"),
    "language": LANGUAGE,
    "generic_phrases": GENERIC_PHRASES,
    "most_repetition": 0.25,  # the new model repeats itself less, or it is not switched to
    "rollback_repetition": 0.35,
    "least_variation": 0.15,
    "most_errors": 0.05,  # share of calls
    "errors_in_a_row": 5,
    "longest": 200,  # words; longer texts count as this long in the decision, not in the report
    "keep": 10_000,  # texts of each model that the file keeps
}

# --- Words, as scripts/score/tokenize_text.py and unify_text.py have them; there `regex` has the character classes.


def characters(*categories: str) -> str:
    """Return the characters of Unicode categories, for a character class; no other plane has any of these."""
    planes = (*range(0x20000), *range(0xE0100, 0xE01F0))
    return "".join(character for character in map(chr, planes) if unicodedata.category(character) in categories)


MARKS, OTHER_NUMBERS, CAPITALS = characters("Mn", "Mc", "Me"), characters("Nl", "No"), characters("Lu")
WORD = rf"[\w{MARKS}]"  # \w of `re`: letters, numbers, _
LETTER, NUMERAL = rf"[^\W\d_{OTHER_NUMBERS}]", rf"[\d{OTHER_NUMBERS}]"
LATIN = (
    "[A-Za-zªºÀ-ÖØ-öø-\u02b8\u02e0-\u02e4\u1d00-\u1d25\u1d2c-\u1d5c\u1d62-\u1d65\u1d6b-\u1d77\u1d79-\u1dbeḀ-ỿⁱⁿ\u2090-\u209c"
    "Ⅎⅎ\u2160-\u2188\u2c60-\u2c7f\ua722-\ua787\ua78b-\ua7ff\uab30-\uab5a\uab5c-\uab64\uab66-\uab69ﬀ-ﬆＡ-Ｚａ-ｚ]"
)
# What stays with the character before it in a grapheme cluster (UAX 29), and marks of Myanmar that do not.
JOINING = "\u0e33\u0eb3\u200c\u200d\uff9e\uff9f\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f"
APART = re.compile("[\u102b\u102c\u1038\u1062-\u1064\u1067-\u106d\u1083\u1087-\u108c\u108f\u109a-\u109c]")
NUMBER = rf"{NUMERAL}+(?:[.,:\u202f\u00a0]{NUMERAL}+)*(?:'\+?{NUMERAL}*)?(?!{LETTER})"
WHOLE = (
    rf"aujourd'hui|quelqu'une?s?|quelques-un(?:e)?s|presqu'îles?|prud'hom{WORD}+|entr'{WORD}+|rendez-vous"
    rf"|o'[{CAPITALS}]{WORD}+"
)
ELIDED = r"(?:[ldjmtsnc]|qu|jusqu|lorsqu|puisqu|quoiqu|quelqu)'(?=(?!_)\w)"
START = rf"(?<![\w{MARKS}\u200c\u200d])"
AFTER_VERB = "je|tu|il|elle|on|nous|vous|ils|elles|ce|le|la|les|lui|leur|moi|toi|y|en|ci|là"
TAIL = re.compile(rf"(.*?[^-])((?:-t)?-(?:{AFTER_VERB}))", re.IGNORECASE)
FRENCH = re.compile(rf"{START}(?:{WHOLE})(?!{LETTER})|{START}{ELIDED}|{NUMBER}|{WORD}+(?:-{WORD}+)*", re.IGNORECASE)
DEFAULT = re.compile(rf"{NUMBER}|{WORD}+(?:['-]{WORD}+)*")
VIETNAMESE = re.compile(rf"{NUMBER}|{WORD}+")
CONTROLS = "".join(set(characters("Cc", "Cf", "Zl", "Zp")) - {"\u200c", "\u200d"})
CHARACTERS = re.compile(rf"{NUMERAL}+|{LATIN}+|[^{CONTROLS}][{APART.sub('', MARKS)}{JOINING}]*")
WORD_STARTS = re.compile(rf"(?!_){WORD}")
WITHOUT_SPACES = ("zh", "ja", "th", "lo", "km", "my")

APOSTROPHES, HYPHENS = "'’ʼ‘′", "‐‑-"
LIGATURES = {"œ": "oe", "Œ": "Oe", "æ": "ae", "Æ": "Ae"}
FORMS = {**dict.fromkeys(APOSTROPHES[1:], "'"), **dict.fromkeys(HYPHENS[:-1], "-"), "\u00ad": "", **LIGATURES}
IN_CAPITALS = re.compile(rf"[ŒÆ](?=[{CAPITALS}])|(?<=[{CAPITALS}])[ŒÆ]")
VIETNAMESE_TONE = re.compile(
    rf"(?<!q)(o(?=[ae])|u(?=y))([aey])([\u0300\u0301\u0303\u0309\u0323])(?!{LETTER}|[{MARKS}])", re.IGNORECASE
)
NAMED = re.compile(
    r"\\N\{[^}]*\}|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?[a-zA-Z]*-[a-z]+[:)]"
    rf"|\\[^{APOSTROPHES}{HYPHENS}]|\\?(?P<form>[{''.join(LIGATURES)}{APOSTROPHES}{HYPHENS}])",
    re.DOTALL,
)


def unified(text: str, language: str) -> str:
    """Return a text in NFC with one form of apostrophes, hyphens, œ, æ and Vietnamese tone marks."""
    if text.isascii():
        return text
    text = unicodedata.normalize("NFC", text)
    if "Œ" in text or "Æ" in text:
        text = IN_CAPITALS.sub(lambda found: LIGATURES[found[0]].upper(), text)
    for form, kept in FORMS.items():
        if form in text:
            text = text.replace(form, kept)
    if language != "vi":
        return text
    return unicodedata.normalize("NFC", VIETNAMESE_TONE.sub(r"\1\3\2", unicodedata.normalize("NFD", text)))


def words(text: str, language: str) -> list:
    """Return the words of a unified text in lower case."""
    if language in WITHOUT_SPACES:
        return [piece.lower() for piece in CHARACTERS.findall(text) if WORD_STARTS.match(piece)]
    if language != "fr":
        return [word.lower() for word in (VIETNAMESE if language == "vi" else DEFAULT).findall(text)]
    found = []
    for word in FRENCH.findall(text):
        pronouns = []
        while word.lower() != "rendez-vous" and (tail := TAIL.fullmatch(word)):
            word = tail[1]
            pronouns.insert(0, tail[2])
        found += [word.lower(), *map(str.lower, pronouns)]
    return found


@functools.cache
def pattern_for(pattern: str, is_unified: bool) -> re.Pattern:
    """Return a generic phrase's pattern, for every form of its apostrophes and hyphens; ValueError if it is faulty."""

    def any_form(found: re.Match) -> str:
        form = found["form"]
        if form is None:
            return found[0]
        if form in LIGATURES:
            return f"(?:{LIGATURES[form]})" if is_unified else form
        return f"[{APOSTROPHES if form in APOSTROPHES else HYPHENS}]"

    try:
        return re.compile(NAMED.sub(any_form, unicodedata.normalize("NFC", pattern)), re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"this Python's `re` can't read the generic phrase {pattern!r}: {error}") from None


def measured(text: str, language: str | None, phrases: tuple) -> tuple:
    """Return a text's words, its repetition (None below three words), and whether it has a generic phrase."""
    language = language.replace("_", "-").split("-")[0].lower() if language else ""
    text = unicodedata.normalize("NFC", text).strip()
    plain = unified(text, language)
    found = words(plain, language)
    triples = list(zip(found, found[1:], found[2:]))
    repetition = 1 - len(set(triples)) / len(triples) if triples else None
    generic = any(pattern_for(one, False).search(text) or pattern_for(one, True).search(plain) for one in phrases)
    return len(found), repetition, generic if text and phrases else None


# --- Confidence sequences


LIMIT = math.log(6 / 0.05)  # of the log wealth at each of the six limits
STEPS = (*(step / 40 for step in range(1, 21)), 0.6, 0.7, 0.8, 0.9)  # candidates, beside the thresholds
# Of each sequence: further candidates, the thresholds, the largest A, whether B is always 1, whether r is the square.
SEQUENCES = {
    "repetition": ((), ("most_repetition", "rollback_repetition"), 1, True, False),
    "length_variation": ((1, 1.25, 1.5, 2), ("least_variation",), 0.5, False, True),
    "errors": ((0.005, 0.01), ("most_errors",), 1, True, False),
}
CAUTION, SHRINK, MEMORY = 0.9, 3, 200  # share of the largest bet; texts of no evidence; texts that a bet looks back on
WAITING = 32  # lengths from which a pair is drawn: more than most bursts have, and few enough that pairs come soon


def candidates(settings: dict) -> dict:
    """Return the candidates of each sequence, in order."""
    return {
        name: sorted({*STEPS, *more, *(settings[threshold] for threshold in thresholds)})
        for name, (more, thresholds, *_) in SEQUENCES.items()
    }


def observe(sequence: dict, name: str, values: list, a: float, b: float) -> None:
    """Bet against each candidate that is not excluded yet, then remember A and B."""
    *_, most, is_one, is_squared = SEQUENCES[name]
    weight, sum_a, sum_b, sum_aa, sum_ab, sum_bb = sequence["sums"]
    for place, candidate in enumerate(values):
        r = candidate * candidate if is_squared else candidate
        total, squares = sum_a - r * sum_b, sum_aa - 2 * r * sum_ab + r * r * sum_bb
        if squares <= 0 or not total:
            continue
        # Bets that the true value is above the candidate (the largest loss is r), or below it.
        side, loss = ("above", r) if total > 0 else ("below", most - r if is_one else most)
        if sequence[side][place] < LIMIT:
            bet = min(abs(total) / squares * weight / (weight + SHRINK), CAUTION / loss)
            sequence[side][place] += math.log1p(bet * (a - r * b if total > 0 else r * b - a))
    seen = (1, a, b, a * a, a * b, b * b)
    sequence["sums"] = [old * (1 - 1 / MEMORY) + new for old, new in zip(sequence["sums"], seen)]


def interval(sequence: dict, name: str, values: list) -> list:
    """Return [low, high], between what is excluded from below and from above without a gap; high may be None."""
    low, high = 0, 1 if SEQUENCES[name][3] else None
    for value, wealth in zip(values, sequence["above"]):
        if wealth < LIMIT:
            break
        low = value
    for value, wealth in zip(reversed(values), reversed(sequence["below"])):
        if wealth < LIMIT:
            break
        high = value
    return [low, high]


# --- The state of a model: sums over all its calls, and its sequences

MEANS = ("error_rate", "avg_repetition", "avg_length", "too_long_rate", "generic_phrase_rate", "avg_gen_time")
MOST_TOO_LONG = 0.05  # share of texts above `longest`; with more, lengths look more uniform than they are


def start(values: dict) -> dict:
    """Return the state of a model that was not called yet; `means` have total and number."""
    sequences = {
        name: {"above": [0.0] * len(line), "below": [0.0] * len(line), "sums": [0.0] * 6}
        for name, line in values.items()
    }
    sums = {"in_a_row": 0, "most_in_a_row": 0, "squares": 0, "waiting": []}
    return {"means": {name: [0, 0] for name in MEANS}, "sequences": sequences, **sums}


def add(state: dict, settings: dict, values: dict, found: tuple | None, gen_time: float | None = None) -> None:
    """Count one call of a model, by what `measured` found in its text; None for a call that failed."""

    def observed(name: str, a: float, b: float = 1.0) -> None:
        observe(state["sequences"][name], name, values[name], a, b)

    failed = found is None
    length, repetition, generic = found or (None, None, None)
    longest = settings["longest"]
    too_long, gen_time = (None, None) if failed else (length > longest, gen_time)
    for name, value in zip(MEANS, (failed, repetition, length, too_long, generic, gen_time)):
        if value is not None:
            total, number = state["means"][name]
            state["means"][name] = [total + value, number + 1]
    state["in_a_row"] = state["in_a_row"] + 1 if failed else 0
    state["most_in_a_row"] = max(state["most_in_a_row"], state["in_a_row"])
    observed("errors", float(failed))
    state.setdefault("since", time.time())
    if repetition is not None:
        observed("repetition", repetition)
    if failed:
        return
    state["squares"] += length * length
    waiting = state["waiting"]
    waiting.append(min(length, longest))
    if len(waiting) == WAITING:
        random.Random(state["means"]["avg_length"][1]).shuffle(waiting)  # the same order in each process
        one, other = waiting.pop() / longest, waiting.pop() / longest
        observed("length_variation", (one - other) ** 2 / 2, one * other)


def summary(state: dict, values: dict) -> dict:
    """Return a model's numbers, over all its calls; None for what no text gives."""
    means = {name: total / number if number else None for name, (total, number) in state["means"].items()}
    (errors, count), mean, texts = state["means"]["error_rate"], means["avg_length"], state["means"]["avg_length"][1]
    variance = max(state["squares"] - texts * mean * mean, 0) / (texts - 1) if texts > 1 else None
    return {
        "since": state.get("since"),  # Unix time of the first call
        "count": count,
        "texts": texts,
        "errors": errors,
        "errors_in_a_row": state["most_in_a_row"],
        **means,
        "length_variation": math.sqrt(variance) / mean if texts > 1 and mean else None,
        "intervals": {name: interval(one, name, values[name]) for name, one in state["sequences"].items()},
    }


def decide(new: dict, settings: dict) -> tuple:
    """Return the decision on a model's summary, and why; what speaks against the new model goes first."""
    (least, most), (narrow, wide), (failing, _) = new["intervals"].values()
    wanted, bad, variation = (settings[name] for name in ("most_repetition", "rollback_repetition", "least_variation"))
    in_a_row, errors = new["errors_in_a_row"], settings["most_errors"]
    too_long, longest = new["too_long_rate"] or 0, settings["longest"]
    unclear = f"{too_long:.0%} of the answers have more than {longest} words; use a new file and a larger `longest`"
    rules = (
        ("rollback", in_a_row >= settings["errors_in_a_row"], f"{in_a_row} calls in a row failed"),
        ("rollback", failing >= errors, f"more than {errors:g} of the calls fail"),
        ("rollback", least >= bad, f"repetition is above {bad:g}"),
        ("keep", least >= wanted, f"repetition is above {wanted:g}"),
        ("inconclusive", too_long > MOST_TOO_LONG and narrow < variation, unclear),
        ("keep", wide is not None and wide <= variation, f"length variation is below {variation:g}"),
        ("inconclusive", most > wanted, f"repetition is not shown to be below {wanted:g} yet"),
        ("inconclusive", narrow < variation, f"length variation is not shown to be above {variation:g} yet"),
        ("switch", True, f"repetition is below {wanted:g} and length variation above {variation:g}"),
    )
    return next((decision, reason) for decision, is_so, reason in rules if is_so)


# --- The monitor

TABLES = (
    "settings (settings TEXT NOT NULL)",
    "models (model TEXT PRIMARY KEY, state TEXT NOT NULL)",
    "recent (model TEXT, place INTEGER, at REAL, text TEXT, gen_time REAL, error TEXT, PRIMARY KEY (model, place))"
    " WITHOUT ROWID",
)
LONGEST_KEPT = 4000  # characters of a text or an error that the file keeps


def use_wal(connection: sqlite3.Connection, patience: float = 60) -> None:
    """Set WAL mode. SQLite itself does not wait here while another process opens or closes the file.

    Raises sqlite3.OperationalError after `patience` seconds.
    """
    end = time.monotonic() + patience
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.01)


class ABTestMonitor:
    """A log of the calls of two models in an SQLite file that many threads and processes may write at once.

    Settings (see `SETTINGS`) are stored in a new file and hold for it; `models` are the old one and the new one.
    `share` is that of the new model in `assign`. A call of `log_metric` that returned is not lost when the process is
    killed. A power cut may lose the last calls; with synchronous="FULL" it loses none, and a call waits for the disk.
    Raises ValueError if the file has other settings, sqlite3.Error if it can't be read or written.
    """

    def __init__(
        self,
        path: str | os.PathLike = "monitor.sqlite",
        models: tuple | None = None,
        *,
        share: float = 0.5,
        synchronous: str = "NORMAL",
        read_only: bool = False,
        **settings,
    ) -> None:
        given = {**settings, **({} if models is None else {"models": models})}
        if unknown := sorted(given.keys() - SETTINGS.keys()):
            raise ValueError(f"unknown settings: {', '.join(unknown)}; known: {', '.join(SETTINGS)}")
        if not 0 <= share <= 1 or synchronous not in ("OFF", "NORMAL", "FULL"):
            raise ValueError("share is a number from 0 to 1, synchronous is OFF, NORMAL or FULL")
        self.path, self.share, self._synchronous, self._read_only = Path(path), share, synchronous, read_only
        self._connect()
        if not read_only:
            self._create({**SETTINGS, **given})
        stored = self._connection.execute("SELECT settings FROM settings").fetchone()
        if stored is None:
            raise ValueError(f"{path} has no settings: name the file that ABTestMonitor writes")
        self.settings = json.loads(stored[0])
        for name, value in json.loads(json.dumps(given)).items():
            if self.settings[name] != value:
                raise ValueError(f"{path} has {name} {self.settings[name]!r}, not {value!r}: name another file")
        self._candidates = candidates(self.settings)

    def _connect(self) -> None:
        """Open the file; a process that was forked opens it anew, as SQLite demands."""
        if self._read_only and not self.path.is_file():
            raise ValueError(f"{self.path} does not exist: name the file that ABTestMonitor writes")
        address = f"{self.path.resolve().as_uri()}?mode={'ro' if self._read_only else 'rwc'}"
        self._process, self._lock = os.getpid(), threading.Lock()
        self._connection = sqlite3.connect(address, uri=True, timeout=60, isolation_level=None, check_same_thread=False)
        if not self._read_only:
            use_wal(self._connection)
            self._connection.execute(f"PRAGMA synchronous = {self._synchronous}")

    def _create(self, settings: dict) -> None:
        """Store settings and states in a new file."""
        old_and_new = settings["models"]
        if len(set(old_and_new)) != 2 or not all(isinstance(name, str) and name for name in old_and_new):
            raise ValueError(f"models are two different names, the old one and the new one, not {old_and_new!r}")
        for name in ("most_repetition", "rollback_repetition", "least_variation", "most_errors"):
            if not isinstance(settings[name], (int, float)) or not 0 < settings[name] < 1:
                raise ValueError(f"{name} is a number between 0 and 1, not {settings[name]!r}")
        for name, fewest in (("errors_in_a_row", 1), ("longest", 1), ("keep", 0)):
            if not isinstance(settings[name], int) or settings[name] < fewest:
                raise ValueError(f"{name} is a whole number from {fewest} on, not {settings[name]!r}")
        for pattern in settings["generic_phrases"]:
            pattern_for(pattern, True)
        with self._transaction() as connection:
            for table_of in TABLES:
                connection.execute(f"CREATE TABLE IF NOT EXISTS {table_of}")
            if connection.execute("SELECT 1 FROM settings").fetchone() is None:
                connection.execute("INSERT INTO settings VALUES (?)", [json.dumps(settings)])
                state = json.dumps(start(candidates(settings)))
                connection.executemany("INSERT INTO models VALUES (?, ?)", [(name, state) for name in old_and_new])

    @contextlib.contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
        """Run a transaction, of one thread at a time; an error undoes it."""
        if self._process != os.getpid():
            self._parents = self._connection  # never closed here: that would release the parent's locks
            self._connect()
        with self._lock:
            self._connection.execute(f"BEGIN {kind}")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def log_metric(
        self, model: str, text: str | None = None, gen_time: float | None = None, error: object = None
    ) -> None:
        """Store one call: its answer, its seconds, and the error (a text or an exception) if it failed.

        Raises ValueError for an unknown model or a time that is not a number of seconds.
        """
        if model not in self.settings["models"]:
            raise ValueError(f"unknown model {model!r}; this file has {' and '.join(self.settings['models'])}")
        try:
            seconds = None if gen_time is None else float(gen_time)
        except (TypeError, ValueError, OverflowError):
            seconds = math.nan
        if seconds is not None and not 0 <= seconds < math.inf:
            raise ValueError(f"gen_time is {gen_time!r}, not a number of seconds")
        failed = error is not None and error is not False
        if not failed and not isinstance(text, str):
            raise ValueError(f"text is {text!r}, not a text, and no error is given")
        phrases = tuple(self.settings["generic_phrases"])
        found = None if failed else measured(text, self.settings["language"], phrases)
        kept = [
            str(one).encode("utf-8", "replace").decode()[:LONGEST_KEPT] for one in (text or "", error or type(error))
        ]
        with self._transaction() as connection:
            state = json.loads(connection.execute("SELECT state FROM models WHERE model = ?", [model]).fetchone()[0])
            add(state, self.settings, self._candidates, found, seconds)
            connection.execute("UPDATE models SET state = ? WHERE model = ?", [json.dumps(state), model])
            if self.settings["keep"]:
                place = state["means"]["error_rate"][1] % self.settings["keep"]
                row = [model, place, time.time(), kept[0], None if failed else seconds, kept[1] if failed else None]
                connection.execute("REPLACE INTO recent VALUES (?, ?, ?, ?, ?, ?)", row)

    def get_comparison_report(self) -> dict:
        """Return for each model its numbers over all calls; `p95_gen_time` is that of the calls that the file keeps."""
        report = {}
        with self._transaction("DEFERRED") as connection:
            for model in self.settings["models"]:
                state = connection.execute("SELECT state FROM models WHERE model = ?", [model]).fetchone()[0]
                report[model] = summary(json.loads(state), self._candidates)
                asked = "SELECT gen_time FROM recent WHERE model = ? AND gen_time IS NOT NULL"
                report[model]["p95_gen_time"] = percentile_95([row[0] for row in connection.execute(asked, [model])])
        return report

    def decision(self) -> dict:
        """Return `decision`, `reason`, and the numbers of the new model; it costs the same after any number of calls.

        `switch`: repetition is shown to be below 0.25 and length variation above 0.15. `rollback`: repetition is shown
        to be above 0.35 or more than 5 % of the calls to fail, or five in a row failed. `keep` (the old model):
        repetition is shown to be above 0.25 or length variation below 0.15. Else `inconclusive`.
        """
        old, new = self.settings["models"]
        with self._transaction("DEFERRED") as connection:
            state = connection.execute("SELECT state FROM models WHERE model = ?", [new]).fetchone()[0]
        found = summary(json.loads(state), self._candidates)
        decided, reason = decide(found, self.settings)
        reason = f"{new}: {reason} ({found['count']} calls)"
        return {"decision": decided, "reason": reason, "new": new, "old": old, **found}

    def assign(self, user_id: object) -> str:
        """Return the model of a user: always the same one, and the new one still when `share` rises."""
        old, new = self.settings["models"]
        digest = hashlib.sha256(f"{old}\0{new}\0{user_id}".encode()).digest()
        return new if int.from_bytes(digest[:8], "big") < self.share * 2**64 else old


def percentile_95(values: list) -> float | None:
    """Return the 95th percentile, linear between values as numpy's."""
    return statistics.quantiles(values, n=20, method="inclusive")[-1] if len(values) > 1 else next(iter(values), None)


# --- The command line and its page

ROWS = (
    ("Calls", "count", "d"),
    ("Repetition within answers", "avg_repetition", ".1%"),
    ("Length variation", "length_variation", ".1%"),
    ("Mean length in words", "avg_length", ".1f"),
    ("Answers with a generic phrase", "generic_phrase_rate", ".1%"),
    ("Mean seconds per answer", "avg_gen_time", ".3f"),
    ("95th percentile of the seconds, recent answers", "p95_gen_time", ".3f"),
    ("Errors", "errors", "d"),
    ("Most errors in a row", "errors_in_a_row", "d"),
)
IN_ROWS = {"avg_repetition": "repetition", "length_variation": "length_variation", "errors": "errors"}
STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --soft: #5b6675; --line: #d9dee6; --paper: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #a2acba; --line: #39424f; --paper: #161b22; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; } table { border-collapse: collapse; width: 100%; } .soft { color: var(--soft); }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid var(--line); }
"""


def table(report: dict) -> list:
    """Return the lines of a report as texts: title, and for each model its value with the 95 % interval."""
    lines = [["", *report]]
    for title, key, form in ROWS:
        line = [title]
        for found in report.values():
            value = "–" if found[key] is None else format(found[key], form)
            if key in IN_ROWS:
                low, high = found["intervals"][IN_ROWS[key]]
                value += f" ({low:.1%} to {high:.1%})" if high is not None else f" (at least {low:.1%})"
            line.append(value)
        lines.append(line)
    return lines


def page(decided: dict, report: dict) -> str:
    """Return the report as a self-contained HTML page."""
    (_, *models), *lines = [[html.escape(cell) for cell in line] for line in table(report)]
    head = "".join(f'<th scope="col">{model}</th>' for model in models)
    cells = ["".join(f"<td>{cell}</td>" for cell in line) for _, *line in lines]
    rows = "".join(f'<tr><th scope="row">{line[0]}</th>{row}</tr>' for line, row in zip(lines, cells))
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Quality monitor</title><style>{STYLE}</style></head><body><main>
<h1>Quality monitor: {decided["decision"]}</h1><p>{html.escape(decided["reason"])}</p>
<table><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table>
<p class="soft">In parentheses: intervals of a model that hold together, at all times, with a probability of 95 %.
In that of the length variation and in the decision, a text of more than the setting <code>longest</code> counts as that
long. Written {time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())}.</p>
</main></body></html>
"""


def main(words: list | None = None) -> int:
    """Print a report or a decision."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("report", "decide"), help="numbers of both models, or the decision as JSON")
    parser.add_argument("file", type=Path, help="file that ABTestMonitor writes")
    parser.add_argument("--page", type=Path, help="HTML page to write the report to")
    arguments = parser.parse_args(words)
    try:
        monitor = ABTestMonitor(arguments.file, read_only=True)
        decided, report = monitor.decision(), monitor.get_comparison_report()
        if arguments.page:
            arguments.page.write_text(page(decided, report), encoding="utf-8")
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    except (ValueError, sqlite3.Error) as error:
        print(f"error: {arguments.file}: {error}", file=sys.stderr)
        return 1
    if arguments.what == "decide":
        print(json.dumps(decided, ensure_ascii=False, indent=2))
        return 0
    widths = [max(map(len, column)) for column in zip(*table(report))]
    for line in table(report):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
    print(f"{decided['decision']}: {decided['reason']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
