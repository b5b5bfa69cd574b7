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
IGNORED = {"stale": "on texts that have changed since", "repeats": "shown again", "models": "by judge models"}

Ballots = dict[str, list[tuple[int, str, float]]]  # by metric: place of the record, reader, vote


@dataclass(frozen=True)
class Votes:
    """The votes on one variant's answers to a prompt set, and on the expected answers of the same records.

    `missing` says why there are none at all; `ignored` counts those that don't count, by the keys of IGNORED.
    """

    name: str  # run/variant
    rival: str
    missing: str | None = None
    own: Ballots = field(default_factory=dict)
    expected: Ballots = field(default_factory=dict)
    ignored: dict[str, int] = field(default_factory=lambda: dict.fromkeys(IGNORED, 0))


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
        if row.get(key, "missing") not in values:
            return f"'{key}' is {row.get(key, 'missing')!r}, not one of {', '.join(map(str, values))}"
    return None


def count_votes(
    rows: Iterable[dict], answers: list[dict], run: str, variant: str, rival: str, rivals: list[dict], with_models: bool
) -> Votes:
    """Return the votes that count of a variant's answers to the test split.

    `answers` and `rivals`, those of the rival (run/variant), are rows of answers files.
    """
    own, written = f"{run}/{variant}", f"{run}/{EXPECTED}"
    found, places = Votes(own, rival), {row["id"]: place for place, row in enumerate(answers)}
    known = {
        rival: {row["id"]: judged_hash(row["messages"], row["answer"]) for row in rivals},
        written: {
            row["id"]: judged_hash(row["messages"], row[EXPECTED]) for row in answers if row[EXPECTED] is not None
        },
        own: {row["id"]: judged_hash(row["messages"], row["answer"]) for row in answers},
    }
    for row in rows:
        name, kind = f"{row['run']}/{row['variant']}", row["kind"]
        sides = {name: row["hash"], **({row["against"]: row["against_hash"]} if kind == "pair" else {})}
        if sides.keys() != {own, rival} if kind == "pair" else name not in (own, written):
            continue
        ignored = {
            "repeats": row["repeat"],
            "models": row["is_model"] and not with_models,
            "stale": any(known[side].get(row["record"]) != judged for side, judged in sides.items()),
        }
        if reason := next((reason for reason, is_so in ignored.items() if is_so), None):
            found.ignored[reason] += 1
            continue
        for key in VOTES[kind]:
            if row[key] is not None:
                vote = float(1 - row[key] if kind == "pair" and name == rival else row[key])
                ballots = found.expected if name == written else found.own
                ballots.setdefault(MEASURED[key], []).append((places[row["record"]], row["reader"], vote))
    return found


def vote_rows(ballots: list[tuple[int, str, float]], records: int) -> list[list[float] | None]:
    """Return the rows of the statistic `votes`: of each record the sum and the number of each reader's votes."""
    readers = {reader: place for place, reader in enumerate(sorted({reader for _, reader, _ in ballots}))}
    rows: list[list[float] | None] = [None] * records
    for place, reader, vote in ballots:
        rows[place] = rows[place] or [0.0] * (2 * len(readers))
        rows[place][2 * readers[reader]] += vote
        rows[place][2 * readers[reader] + 1] += 1
    return rows
