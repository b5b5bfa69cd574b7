"""Tables of entities for one variant: scores per class with intervals, and the confusion matrix of words."""

from collections import Counter

import numpy as np

from scripts.score.entities import classes_of
from scripts.score.entity_rows import OUTSIDE, EntityRow
from scripts.score.intervals import interval

OTHER = "(other)"
# The statistics of each score from the columns true positives, false positives, false negatives.
PRECISION = ((1, 1), (0, 1), (0, 0))
RECALL = ((1, 1), (0, 0), (0, 1))
SCORES = {"precision": ("share", PRECISION), "recall": ("share", RECALL), "f1": ("f1", np.eye(3))}


def class_table(rows: list[EntityRow | None], groups: list | None = None) -> dict[str, dict]:
    """Return {"support", "found", "precision", "recall", "f1"} per class of the expected answers, strict.

    `support` counts the expected entities, `found` those of the answers; the scores are {"value", "low", "high", "n",
    "groups"} with 95 % intervals over the records or their groups, or None if undefined. A row without spans is None.
    """
    table: dict[str, dict] = {}
    present = [index for index, row in enumerate(rows) if row]
    groups = groups and [groups[index] for index in present]
    for label in classes_of(rows):
        counts = np.array([rows[index].strict.get(label, (0, 0, 0)) for index in present])
        hits, wrong, missed = counts.sum(axis=0).tolist()
        table[label] = {"support": hits + missed, "found": hits + wrong}
        for name, (kind, columns) in SCORES.items():
            found = interval(kind, list(counts @ np.array(columns)), groups, True)
            table[label][name] = found and found.row()
    return table


def untested_classes(rows: list[EntityRow | None], trained: tuple[str, ...]) -> dict[str, int]:
    """Return the classes of the training split that no expected answer has, with their counts in the answers."""
    tested = set(classes_of(rows))
    counts = [row.strict for row in rows if row]
    return {
        label: sum(found[label][1] for found in counts if label in found) for label in trained if label not in tested
    }


def confusion(rows: list[EntityRow | None]) -> dict:
    """Return {"labels", "columns", "counts"}: the number of words per expected class (rows) and found class (columns).

    Classes are those of the expected answers, with `O` (no entity) last; the column `(other)` is for classes that only
    the answers have.
    """
    pairs: Counter = Counter()
    for row in filter(None, rows):
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
