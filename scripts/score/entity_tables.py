"""Tables of entities for one variant: scores per class with intervals, and the confusion matrix of words."""

from collections import Counter

import numpy as np

from scripts.score.bootstrap import estimates
from scripts.score.entities import classes_of
from scripts.score.entity_rows import OUTSIDE, EntityRow

OTHER = "(other)"
# The statistics of each score from the columns true positives, false positives, false negatives.
PRECISION = ((1, 1), (0, 1), (0, 0))
RECALL = ((1, 1), (0, 0), (0, 1))
SCORES = {"precision": ("share", PRECISION), "recall": ("share", RECALL), "f1": ("f1", np.eye(3))}


def class_table(rows: list[EntityRow], resamples: int, seed: int) -> dict[str, dict]:
    """Return {"support", "found", "precision", "recall", "f1"} per class of the expected answers, strict.

    `support` counts the expected entities, `found` those of the answers; the scores are {"value", "low", "high", "n"}
    with 95 % intervals over the records, or None if undefined. Records without an expected entity have no class.
    """
    classes = classes_of(rows)
    if not classes:
        return {}
    counts = {label: np.array([row.strict.get(label, (0, 0, 0)) for row in rows], dtype=float) for label in classes}
    table: dict[str, dict] = {
        label: {"support": int(found[:, [0, 2]].sum()), "found": int(found[:, [0, 1]].sum())}
        for label, found in counts.items()
    }
    for name, (kind, columns) in SCORES.items():
        found = estimates(kind, [statistics @ columns for statistics in counts.values()], resamples, seed)
        for label, score in zip(classes, found, strict=True):
            table[label][name] = score and score.within(0, 1).row()
    return table


def untested_classes(rows: list[EntityRow], trained: tuple[str, ...]) -> dict[str, int]:
    """Return the classes of the training split that no expected answer has, with their counts in the answers."""
    tested = set(classes_of(rows))
    counts = [row.strict for row in rows]
    return {
        label: sum(found[label][1] for found in counts if label in found) for label in trained if label not in tested
    }


def confusion(rows: list[EntityRow]) -> dict:
    """Return {"labels", "columns", "counts"}: the number of words per expected class (rows) and found class (columns).

    Classes are those of the expected answers, with `O` (no entity) last; the column `(other)` is for classes that only
    the answers have.
    """
    pairs: Counter = Counter()
    for row in rows:
        pairs.update(row.word_pairs)
    labels = [*classes_of(rows), OUTSIDE]
    counts: dict[str, Counter] = {gold: Counter() for gold in labels}
    for (gold, found), times in pairs.items():
        counts[gold][found if found in counts else OTHER] += times
    columns = labels + [OTHER] * any(OTHER in found for found in counts.values())
    return {"labels": labels, "columns": columns, "counts": [[counts[g][f] for f in columns] for g in labels]}


def shares(counts: list[list[int]]) -> list[list[float]]:
    """Return each cell's share of its row; 0 in an empty row."""
    return [[count / (sum(row) or 1) for count in row] for row in counts]
