"""People's votes on texts, which `make review` collects and exports: which of them count, and for what.

A vote holds for a hash of prompt and answer (scripts/common/judged.py). One on a text that has changed since doesn't
count, a text shown a second time counts once, and votes of judge models count only with `score.model_votes`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from scripts.common.errors import UserError
from scripts.common.files import read_jsonl
from scripts.common.judged import judged_hash

REMEDY = "judge with `make review`"
EXPECTED = "expected"  # in the place of a variant: the expected answers, written by people
# What a vote may be, by its kind.
VOTES = {
    "rating": {"passed": (True, False, None), "stars": (1, 2, 3, 4, 5, None)},
    "pair": {"won": (0, 0.5, 1)},
    "human_test": {"said_person": (True, False)},
}
TEXTS = ("reader", "record", "run", "variant", "hash")
MEASURED = {"passed": "human_pass_rate", "stars": "human_stars", "won": "win_rate", "said_person": "human_test_rate"}
IGNORED = {
    "repeats": "shown again",
    "models": "by judge models",
    "others": "comparisons with others (`score.rival`)",
    "unscored": "comparisons with the rival, which is not scored",
    "stale": "on texts that have changed since",
}

Ballots = dict[str, list[tuple[int, str, float]]]  # by metric: place of the record, reader, vote
Counts = dict[str, dict[str, int]]  # by metric: number of votes by the keys of IGNORED


@dataclass(frozen=True)
class Votes:
    """The votes on one variant's answers to a prompt set, and on the expected answers of the same records.

    `missing` says why there are none at all, `has_rival` whether there are answers of the rival. `ignored` and
    `ignored_expected` count the votes that don't count.
    """

    name: str  # run/variant
    rival: str
    missing: str | None = None
    own: Ballots = field(default_factory=dict)
    expected: Ballots = field(default_factory=dict)
    ignored: Counts = field(default_factory=dict)
    ignored_expected: Counts = field(default_factory=dict)
    has_rival: bool = True


def read_votes(path: Path) -> list[dict]:
    """Return the rows of an exported file of votes. Raises UserError with the line of one that is not a vote."""
    rows = []
    for number, row in enumerate(read_jsonl(path), 1):
        if fault := vote_fault(row):
            remedy = "export the votes again: `python scripts/review/exports.py`"
            raise UserError(fault, path, number, remedy)
        rows.append(row)
    return rows


def vote_fault(row: dict) -> str | None:
    """Return why a row is not a vote, or None."""
    kind = row.get("kind")
    if not isinstance(kind, str) or kind not in VOTES:
        return f"'kind' is {kind!r}, not one of {', '.join(VOTES)}"
    for key in (*TEXTS, *(("against", "against_hash") if kind == "pair" else ())):
        if not isinstance(row.get(key), str):
            return f"'{key}' is missing or not a text"
    allowed = {"is_model": (True, False), "repeat": (True, False), **VOTES[kind]}
    for key, values in allowed.items():
        given = row.get(key, "missing")
        # 1 equals True.
        if not any(given == value and isinstance(given, bool) == isinstance(value, bool) for value in values):
            return f"'{key}' is {given!r}, not one of {', '.join(map(str, values))}"
    return None


def count_votes(
    rows: Iterable[dict],
    answers: list[dict],
    run: str,
    variant: str,
    rival: str,
    rivals: list[dict] | None,
    with_models: bool,
) -> Votes:
    """Return the votes that count of a variant's answers to the test split.

    `answers` and `rivals`, those of the rival (run/variant; None if it is not scored), are rows of answers files.
    """
    own, written = f"{run}/{variant}", f"{run}/{EXPECTED}"
    found = Votes(own, rival, has_rival=rivals is not None)
    # A record whose expected answer was corrected has another id, but prompt and answer are still the judged ones.
    known: dict[str, dict[str, list[int]]] = {
        rival: places_by_hash(rivals or [], "answer"),
        written: places_by_hash(answers, EXPECTED),
        own: places_by_hash(answers, "answer"),
    }
    for row in rows:
        name, kind = f"{row['run']}/{row['variant']}", row["kind"]
        sides = {name: row["hash"], **({row["against"]: row["against_hash"]} if kind == "pair" else {})}
        is_expected = name == written
        if not (is_expected or own in sides) or (kind == "pair" and own == rival):
            continue
        reasons = {
            "repeats": row["repeat"],
            "models": row["is_model"] and not with_models,
            "others": kind == "pair" and rival not in sides,
            "unscored": rivals is None and rival in sides,
            "stale": any(judged not in known.get(side, {}) for side, judged in sides.items()),
        }
        reason = next((reason for reason, is_so in reasons.items() if is_so), None)
        for metric in (key for key in VOTES[kind] if row[key] is not None):
            if reason:
                counts = (found.ignored_expected if is_expected else found.ignored).setdefault(MEASURED[metric], {})
                counts[reason] = counts.get(reason, 0) + 1
                continue
            vote = float(1 - row[metric] if kind == "pair" and name == rival else row[metric])
            side = written if is_expected else own
            places = known[side][sides[side]]
            place = next((place for place in places if answers[place]["id"] == row["record"]), places[0])
            ballots = found.expected if is_expected else found.own
            ballots.setdefault(MEASURED[metric], []).append((place, row["reader"], vote))
    return found


def places_by_hash(answers: list[dict], column: str) -> dict[str, list[int]]:
    """Return at which places of an answers file each judged text is."""
    places: dict[str, list[int]] = {}
    for place, row in enumerate(answers):
        if row[column] is not None:
            places.setdefault(judged_hash(row["messages"], row[column]), []).append(place)
    return places


def readers_of(ballots: list[tuple[int, str, float]]) -> list[str]:
    """Return the readers, in the order of the columns of `vote_rows`."""
    return sorted({reader for _, reader, _ in ballots})


def vote_rows(ballots: list[tuple[int, str, float]], records: int) -> list[list[float] | None]:
    """Return the rows of the statistic `votes`: of each record the sum and the number of each reader's votes."""
    readers = {reader: place for place, reader in enumerate(readers_of(ballots))}
    rows: list[list[float] | None] = [None] * records
    for place, reader, vote in ballots:
        rows[place] = rows[place] or [0.0] * (2 * len(readers))
        rows[place][2 * readers[reader]] += vote
        rows[place][2 * readers[reader] + 1] += 1
    return rows
