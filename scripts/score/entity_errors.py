"""Errors in entities, one row per error.

Correct entities (same type, start and end) are ignored. The others are paired one to one with expected entities that
share characters, in order of the Jaccard index: a pair of the same type is a `wrong_boundary`, a pair of different
types a `wrong_type`. Unpaired expected entities are `missed`, unpaired found ones `false_positive`. An entity that is
not in the text is `not_in_text`. An answer that is not JSON of entities is one `invalid_json`, and all entities of its
text are missed. The kinds follow MUC-5 (Chinchor and Sundheim 1993) and SemEval-2013 task 9.1.
"""

from collections import Counter

from scripts.score.entity_rows import EntityRow, Span
from scripts.score.scoring_input import ScoringInput

KINDS = {  # with their titles, in the order of reports
    "missed": "Missed",
    "false_positive": "False positives",
    "wrong_type": "Wrong type",
    "wrong_boundary": "Wrong boundary",
    "not_in_text": "Not in the text",
    "invalid_json": "Not JSON of entities",
}
AROUND = 60
ANSWER_SHOWN = 400


def overlap(first: Span, second: Span) -> float:
    """Return the Jaccard index of two spans' characters."""
    shared = min(first[1], second[1]) - max(first[0], second[0])
    return shared / (max(first[1], second[1]) - min(first[0], second[0])) if shared > 0 else 0.0


def matched(gold: list[Span], found: list[Span]) -> list[tuple[Span | None, Span | None]]:
    """Return (expected, found) pairs of the entities that are not correct, in text order."""
    missing = list((Counter(gold) - Counter(found)).elements())
    wrong = list((Counter(found) - Counter(gold)).elements())
    candidates = sorted(
        (-overlap(right, ours), right, ours) for right in missing for ours in wrong if overlap(right, ours)
    )
    pairs: list[tuple[Span | None, Span | None]] = []
    for _, right, ours in candidates:
        if right in missing and ours in wrong:
            pairs.append((right, ours))
            missing.remove(right)
            wrong.remove(ours)
    pairs += [(right, None) for right in missing] + [(None, ours) for ours in wrong]
    return sorted(pairs, key=lambda pair: pair[0] or pair[1])


def kind_of(right: Span | None, ours: Span | None) -> str:
    """Return the kind of error of a pair."""
    if right is None:
        return "false_positive"
    if ours is None:
        return "missed"
    return "wrong_boundary" if right[2] == ours[2] else "wrong_type"


def errors_of(row: EntityRow) -> list[dict]:
    """Return {"kind", "gold", "predicted", "excerpt"} of each error of one record, in text order."""
    errors = [] if row.valid else [error(row, "invalid_json", None, None)]
    errors += [error(row, kind_of(right, ours), right, ours) for right, ours in matched(row.gold, row.found)]
    for label, text in row.absent:
        errors.append({**error(row, "not_in_text", None, None), "predicted": {"label": label, "text": text}})
    return errors


def error(row: EntityRow, kind: str, right: Span | None, ours: Span | None) -> dict:
    """Return one error with an excerpt of the text; `start` is its offset in the text of `of` characters."""
    spans = [span for span in (right, ours) if span is not None]
    first = min((span[0] for span in spans), default=0)
    last = max((span[1] for span in spans), default=0)
    start = max(0, first - AROUND)
    return {
        "kind": kind,
        "gold": right and entity(row, right),
        "predicted": ours and entity(row, ours),
        "excerpt": {"start": start, "of": len(row.text), "text": row.text[start : last + AROUND]},
    }


def entity(row: EntityRow, span: Span) -> dict:
    """Return an entity with its text."""
    start, end, label = span
    return {"start": start, "end": end, "label": label, "text": row.text[start:end]}


def entity_errors(data: ScoringInput) -> list[dict]:
    """Return all errors of the answers to a prompt set, by kind in the order of KINDS, then by record."""
    rows = []
    for answer, row in zip(data.answers, data.entities, strict=True):
        for found in errors_of(row) if row else []:
            whole = {"answer": answer["answer"][:ANSWER_SHOWN]} if found["kind"] == "invalid_json" else {}
            rows.append({"id": answer["id"], "label": answer["label"], **found, **whole})
    return sorted(rows, key=lambda row: list(KINDS).index(row["kind"]))


def error_counts(errors: list[dict]) -> dict[str, int]:
    """Return the number of errors of each kind."""
    counted = Counter(row["kind"] for row in errors)
    return {kind: counted[kind] for kind in KINDS}
