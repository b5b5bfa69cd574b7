"""The monitor of production: its numbers are the score stage's, no call is lost, and decisions are rarely wrong."""

import contextlib
import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import unicodedata
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.common.files import read_jsonl
from scripts.deploy import quality_monitor
from scripts.deploy.quality_monitor import SETTINGS, ABTestMonitor, add, candidates, decide, start, summary
from scripts.score.intervals import point
from scripts.score.measure import measured
from scripts.score.metrics import METRICS
from scripts.score.scoring_input import ScoringInput, clean
from scripts.score.tokenize_text import lowered_words
from tests.benchmarks.statistics.bench_monitor_decisions import AT_THRESHOLDS, DECISIONS, Streams, model, simulated
from tests.support.hard_strings import hard_strings
from tests.support.monitor_writers import write_with_kills
from tests.support.pages import Page

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = ("fr", "vi-VN", "en", "zh", "th", "my", None)
PHRASES = (r"quel(le)? but", r"l'arbitre", r"œuvre", r"hoà bình")
UNREADABLE = {"generic_phrases": ["(x"]}
JOINED = re.compile("DEVANAGARI|BENGALI|TELUGU|GUJARATI|ORIYA|MALAYALAM|HANGUL [CJ]")
TRICKY = [
    *("", "  ", "Quel but !", "__ _a", "hoà bình, khoẻ mạnh, thuỷ thủ quý", "中文 2024年abcⅣ很好ไทยน้ำ"),
    "L’arbitre siffle à la 45'+2, l’Œuvre d’art de quelqu’un : a-t-il vu ? Vas-y, dit-elle !",
    "Il n'y a qu'un o'Brien, entr'ouvert, prud'homme au rendez-vous²",
]


def texts_of_the_data() -> list[str]:
    """Return the example data, line by line, and strings on which tokenizers differ."""
    files = [*(ROOT / "data").rglob("*.json*"), *(ROOT / "tests/data").rglob("*.yaml"), *(ROOT / "docs").rglob("*.md")]
    lines = {line for file in files for line in file.read_text(encoding="utf-8").splitlines()}
    return [*sorted(lines)[::9], *hard_strings(["<s>"], 800), *TRICKY]


def ascii_names(text: str) -> str:
    return " ".join(unicodedata.name(character, "") for character in text)


def own_words(text: str, tag: str | None) -> list[str]:
    language = (tag or "").partition("-")[0]
    return quality_monitor.words(quality_monitor.unified(text, language), language)


@pytest.mark.parametrize("tag", LANGUAGES)
def test_words_are_those_of_the_score_stage(tag):
    different = [text for text in texts_of_the_data() if own_words(text, tag) != lowered_words(text, tag)]
    if tag in quality_monitor.WITHOUT_SPACES:  # `regex` joins conjuncts of Indic scripts and decomposed syllables
        different = [text for text in different if not JOINED.search(ascii_names(text))]
    assert different == []


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(LANGUAGES[:5]),
    st.text(st.one_of(st.sampled_from("aeœÆ '’-‐_0²½ọ̀à。Ⅳ"), st.characters(max_codepoint=0x52F)), max_size=30),
)
def test_words_of_any_text_are_those_of_the_score_stage(tag, text):
    assert own_words(text, tag) == lowered_words(text, tag)


@pytest.mark.parametrize("tag", ["fr", "vi", "zh"])
def test_the_report_equals_the_scores_of_the_same_texts(tmp_path, tag):
    found = [clean(row["completion"]) for row in read_jsonl(ROOT / "data/captions/test.jsonl")][:50]
    texts = [*found, *TRICKY, *(f"{text} {text}" for text in found[:5])]
    data = ScoringInput([{"answer": text, "expected": None} for text in texts], tag, PHRASES)
    monitor = ABTestMonitor(tmp_path / "monitor.sqlite", language=tag, generic_phrases=PHRASES)
    times = list(np.random.default_rng(0).random(len(texts)))
    for text, seconds in zip(texts, times, strict=True):
        monitor.log_metric(model="new", text=text, gen_time=seconds)
    monitor.log_metric(model="new", error="down", text="but but but but", gen_time=99)  # only counted
    report = monitor.get_comparison_report()["new"]
    names = {"repetition": "avg_repetition", "length_mean": "avg_length"}
    for metric in ("repetition", "length_variation", "generic_phrase_rate", "length_mean"):
        rows = np.array([row for row in measured(metric, data).rows if row is not None], dtype=float)
        assert report[names.get(metric, metric)] == pytest.approx(point(METRICS[metric].statistic, rows), rel=1e-12)
    assert report["avg_gen_time"] == pytest.approx(np.mean(times))
    assert report["p95_gen_time"] == pytest.approx(np.quantile(times, 0.95))


def test_the_file_alone_runs_with_the_standard_library(tmp_path):
    shutil.copy(quality_monitor.__file__, tmp_path)
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from quality_monitor import ABTestMonitor\n"
        "monitor = ABTestMonitor()\n"
        "monitor.log_metric(model='new', text='Quel but ! Quel but !', gen_time=0.2)\n"
        "monitor.log_metric(model='new', error=TimeoutError('too slow'))\n"
        "print(monitor.get_comparison_report(), monitor.decision())\n"
        "print({name for name in sys.modules if name in ('numpy', 'regex')})"
    )
    shown = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "'avg_repetition': 0.0" in shown.stdout
    assert "'errors': 1" in shown.stdout
    assert shown.stdout.endswith("set()\n")


def test_no_acknowledged_call_is_lost_when_writers_are_killed(tmp_path):
    found = write_with_kills(tmp_path / "monitor.sqlite", 3, 200, 3)
    assert (found["acknowledged"], found["lost"]) == (600, 0)
    assert 600 <= found["stored"] <= 603


def test_a_file_that_another_process_holds_is_waited_for(tmp_path):
    holder = sqlite3.connect(tmp_path / "x.sqlite", isolation_level=None, check_same_thread=False)
    opener = sqlite3.connect(tmp_path / "x.sqlite", timeout=0)
    with contextlib.closing(holder), contextlib.closing(opener):
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            quality_monitor.use_wal(opener, patience=0.05)
        end = threading.Timer(0.2, holder.execute, ["ROLLBACK"])
        end.start()
        quality_monitor.use_wal(opener)
        end.join()
        assert opener.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_forked_process_writes_to_the_same_file(tmp_path):
    monitor = ABTestMonitor(tmp_path / "monitor.sqlite")
    monitor.log_metric(model="new", text="one")
    child = os.fork()
    if not child:
        try:
            monitor.log_metric(model="new", text="two")
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    monitor.log_metric(model="new", text="three")
    assert monitor.get_comparison_report()["new"]["count"] == 3


def test_the_file_keeps_a_number_of_texts_and_the_sums_of_all(tmp_path):
    monitor = ABTestMonitor(tmp_path / "monitor.sqlite", keep=10)
    sizes = []
    for _ in range(3):
        for _ in range(30):
            monitor.log_metric(model="old", text="a long text " * 400 + "\ud800", gen_time=1)
        with sqlite3.connect(tmp_path / "monitor.sqlite") as connection:
            sizes.append(connection.execute("PRAGMA page_count").fetchone()[0])
        assert {len(text) for (text,) in connection.execute("SELECT text FROM recent")} == {4000}
    assert sizes[0] == sizes[1] == sizes[2] < 50
    assert monitor.get_comparison_report()["old"]["count"] == 90
    nothing = ABTestMonitor(tmp_path / "nothing.sqlite", keep=0)
    nothing.log_metric(model="old", text="personal", gen_time=1)
    assert nothing.get_comparison_report()["old"]["count"] == 1
    with sqlite3.connect(tmp_path / "nothing.sqlite") as connection:
        assert connection.execute("SELECT * FROM recent").fetchall() == []


@pytest.mark.parametrize(("synchronous", "number"), [("OFF", 0), ("NORMAL", 1), ("FULL", 2)])
def test_a_call_waits_for_the_disk_as_it_is_told(tmp_path, synchronous, number):
    monitor = ABTestMonitor(tmp_path / "monitor.sqlite", synchronous=synchronous)
    assert monitor._connection.execute("PRAGMA synchronous").fetchone() == (number,)


def test_a_user_always_gets_the_same_model_and_keeps_the_new_one_when_its_share_rises(tmp_path):
    few, more = (ABTestMonitor(tmp_path / "monitor.sqlite", share=share) for share in (0.2, 0.5))
    users = range(4000)
    of_few = {user for user in users if few.assign(user) == "new"}
    assert of_few < {user for user in users if more.assign(user) == "new"}
    assert of_few == {user for user in users if few.assign(user) == "new"}
    assert 0.18 < len(of_few) / len(users) < 0.22
    # In every process, and after an update.
    assert "".join(more.assign(f"user {number}")[0] for number in range(12)) == "nnononooonnn"


def text_of(rng: random.Random, length: int, pool: int) -> str:
    """Return random words of a pool: a small one repeats itself."""
    return " ".join(f"w{rng.randrange(pool)}" for _ in range(max(length, 3)))


@pytest.mark.parametrize(
    ("spread", "pool", "errors", "decided", "most"),
    [
        (12, 1000, 0, "switch", 200),
        (12, 2, 0, "rollback", 60),
        (12, 1000, 0.3, "rollback", 200),
        (0, 3, 0, "keep", 200),
    ],
)
def test_it_decides_within_some_hundred_calls(tmp_path, spread, pool, errors, decided, most):
    monitor, rng = ABTestMonitor(tmp_path / "monitor.sqlite"), random.Random(1)
    for _ in range(most):
        assert monitor.get_comparison_report()["old"]["count"] == 0
        failed = "down" if rng.random() < errors else None
        monitor.log_metric(model="new", text=text_of(rng, round(rng.gauss(30, spread)), pool), error=failed)
        if monitor.decision()["decision"] == decided:
            break
    assert monitor.decision()["decision"] == decided, monitor.decision()


def test_five_errors_in_a_row_go_back_and_a_model_that_turns_bad_after_a_switch_goes_back(tmp_path):
    rng, monitor = random.Random(2), ABTestMonitor(tmp_path / "monitor.sqlite")
    for _ in range(600):
        monitor.log_metric(model="new", text=text_of(rng, round(rng.gauss(30, 12)), 1000))
    assert monitor.decision()["decision"] == "switch"
    for _ in range(200):
        monitor.log_metric(model="new", text=text_of(rng, round(rng.gauss(30, 12)), 2))
    assert monitor.decision()["decision"] == "rollback"
    other = ABTestMonitor(tmp_path / "other.sqlite", models=("a", "b"))
    for call in range(9):
        assert other.decision()["decision"] == "inconclusive"
        other.log_metric(model="b", error=None if call == 3 else "down", text="fine")
    assert other.decision()["reason"] == "b: 5 calls in a row failed (9 calls)"
    other.log_metric(model="b", text="fine")
    assert other.decision()["decision"] == "rollback", "one that works again is not forgiven"


def test_the_vectorized_decisions_equal_the_monitors():
    rng, size, calls = np.random.default_rng(3), 6, 250
    draws = [model(mean, errors=0.1)(rng, (1, calls)) for mean in (0.05, 0.2, 0.25, 0.3, 0.4)]
    draws.append(model(0.05, words=400)(rng, (1, calls)))
    repetition, words, failed = (np.concatenate(column) for column in zip(*draws, strict=True))
    values, streams = candidates(SETTINGS), Streams(size)
    states = [start(values) for _ in range(size)]
    for call in range(calls):
        streams.add(repetition[:, call], words[:, call], failed[:, call])
        for place, state in enumerate(states):
            found = (int(words[place, call]), repetition[place, call], False)
            add(state, SETTINGS, values, None if failed[place, call] else found)
        decided = [decide(summary(state, values), SETTINGS)[0] for state in states]
        assert [DECISIONS[place] for place in streams.decided()] == decided
    assert len(set(decided)) > 1
    for name in values:
        found = np.array([state["sequences"][name]["above"] for state in states])
        assert np.allclose(np.minimum(found, 5), np.minimum(streams.above[name], 5))


@pytest.mark.parametrize("name", ["repetition 0.25, of 0 or 1", "variation 0.15, lengths 148 and 200", "5 % errors"])
def test_false_alarms_at_the_thresholds_are_rare_though_it_is_asked_after_every_call(name):
    draw, false = AT_THRESHOLDS[name]
    assert (simulated(draw, 400, 300)[:, false] < np.inf).any(axis=1).mean() <= 0.05


def test_all_limits_that_the_page_shows_hold_together_with_95_percent():
    intervals = summary(start(candidates(SETTINGS)), candidates(SETTINGS))["intervals"]
    assert sum(map(len, intervals.values())) * np.exp(-quality_monitor.LIMIT) <= 0.05 + 1e-12


def test_answers_that_are_longer_than_the_longest_are_not_called_uniform():
    rng, values = random.Random(4), candidates(SETTINGS)
    long, short = start(values), start(values)
    for call in range(1600):
        add(long, SETTINGS, values, (rng.randint(230, 800), 0.05, None))
        add(short, SETTINGS, values, (100 if call % 400 else 201, 0.05, None))
    decision, reason = decide(summary(long, values), SETTINGS)
    assert decision == "inconclusive"
    assert reason == "100% of the answers have more than 200 words; use a new file and a larger `longest`"
    assert decide(summary(short, values), SETTINGS)[0] == "keep"


def test_answers_of_a_burst_that_are_logged_by_length_change_no_decision():
    for burst in (1, 8, 16):
        at_threshold = model(0.05, two_lengths=(200 * 0.85 / 1.15, 200, 0.5), burst=burst)
        assert (simulated(at_threshold, 200, 800)[:, (1, 2, 3)] < np.inf).any(axis=1).mean() <= 0.05
        first = simulated(model(0.05, words=100, variation=0.3, burst=burst), 100, 208)
        assert (first[:, 1] < np.inf).all()


def test_the_command_prints_report_and_decision_and_the_page_escapes_names(tmp_path, capsys):
    path, evil = tmp_path / "monitor.sqlite", "<script>x</script>"
    ABTestMonitor(path, models=("old", evil)).log_metric(model=evil, text="Un but.", gen_time=0.25)
    assert quality_monitor.main(["report", str(path), "--page", str(tmp_path / "page.html")]) == 0
    assert "inconclusive" in capsys.readouterr().out
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert evil in page.text
    assert "script" not in page.tags
    assert quality_monitor.main(["decide", str(path)]) == 0
    assert json.loads(capsys.readouterr().out)["new"] == evil
    (tmp_path / "other").write_text("no database, but a text" * 50)
    with sqlite3.connect(tmp_path / "empty") as connection:
        connection.execute("CREATE TABLE settings (settings TEXT NOT NULL)")
    for bad in ("gone.sqlite", "other", "empty"):
        assert quality_monitor.main(["report", str(tmp_path / bad)]) == 1
        assert capsys.readouterr().err.startswith("error: ")
    assert quality_monitor.main(["report", str(path), "--page", str(tmp_path / "gone/page.html")]) == 1
    assert capsys.readouterr().err.endswith("page.html: No such file or directory\n")


def test_what_does_not_fit_the_file_is_refused(tmp_path):
    monitor = ABTestMonitor(tmp_path / "monitor.sqlite", models=("a", "b"))
    assert ABTestMonitor(tmp_path / "monitor.sqlite").settings["models"] == ["a", "b"]
    for models in (("a", "c"), ("a", "a")):
        with pytest.raises(ValueError, match="name"):
            ABTestMonitor(tmp_path / "monitor.sqlite", models=models)
    with pytest.raises(ValueError, match="has longest 200, not 60: name another file"):
        ABTestMonitor(tmp_path / "monitor.sqlite", longest=60)
    times = [{"model": "a", "text": "x", "gen_time": seconds} for seconds in (float("nan"), "soon", [1], -1, 10**400)]
    for wrong in ({"model": "c", "text": "x"}, {"model": "a"}, *times):
        with pytest.raises(ValueError, match=r"unknown model|text is None|gen_time is .*, not a number of seconds"):
            monitor.log_metric(**wrong)
    assert monitor.get_comparison_report()["a"]["count"] == 0
    for seconds in (Decimal(1), np.float32(1), "1"):
        monitor.log_metric(model="a", text="x", gen_time=seconds)
    assert monitor.get_comparison_report()["a"]["avg_gen_time"] == 1
    for wrong in ({"most_errors": 1}, {"longest": 0}, {"most_words": 3}, {"keep": "10"}, {"keep": -1}, UNREADABLE):
        with pytest.raises(ValueError, match=r"between 0 and 1|unknown settings|whole number|phrase '\(x'"):
            ABTestMonitor(tmp_path / "other.sqlite", **wrong)


def test_a_file_whose_making_was_interrupted_is_empty(tmp_path, monkeypatch):
    monkeypatch.setattr(quality_monitor, "start", lambda values: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ABTestMonitor(tmp_path / "monitor.sqlite")
    with sqlite3.connect(tmp_path / "monitor.sqlite") as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
