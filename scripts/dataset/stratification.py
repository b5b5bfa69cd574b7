"""Determine whether another seed would give better splits, and whether changing it is worthwhile."""

from dataclasses import dataclass

import numpy as np

from scripts.common.records import SPLITS
from scripts.dataset.splits import cells, seeds_tried, share_tolerance, split_numbers

USUAL = 0.95  # a distance below this quantile of the seeds tried counts as chance


def missing_cells(counts: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return which labels with three or more records are missing in which splits that have a share.

    `counts`: shape (..., labels, 3); `wanted`: the three shares; the result: shape (..., labels, splits with a share).
    """
    return (counts[..., wanted > 0] == 0) & (counts.sum(axis=-1, keepdims=True) >= len(SPLITS))


@dataclass(frozen=True)
class LabelsOf:
    """The labels of records and of their spans, as numbers.

    `label`: label of each record, less than `labels`. `span_set`: number of each record's set of span labels.
    `span_members`: shape (span labels, sets), which label is in which set; without spans it has no rows.
    """

    label: np.ndarray
    labels: int
    span_set: np.ndarray
    span_members: np.ndarray

    def spans_missing(self, split: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Return which span labels are missing in which splits: shape (..., span labels, splits with a share)."""
        members = self.span_members.astype(np.float32)  # counts are exact up to 2**24
        sets = cells(split, self.span_set, members.shape[1]).astype(np.float32)
        return missing_cells(members @ sets, wanted)

    def measures(self, split: np.ndarray, wanted: np.ndarray, now: np.ndarray, tolerance: float) -> np.ndarray:
        """Return six measures, the most important first: shape (6,) or, for several seeds, (s, 6); smaller is better.

        They are the numbers of empty splits; of span labels in a split of `now`, the current assignment, that are
        missing there; of labels and of span labels missing in a split; of splits with a share outside the tolerance;
        and the chi-square distance of the labels' counts from the wanted ones.
        """
        counts = cells(split, self.label, self.labels)
        kept = counts[..., wanted > 0]
        due = np.maximum(counts.sum(axis=-1, keepdims=True), 1e-9) * wanted[wanted > 0]
        spans = self.spans_missing(split, wanted)
        measures = [
            (kept.sum(axis=-2) == 0).sum(axis=-1),
            (spans & ~self.spans_missing(now, wanted)).sum(axis=(-1, -2)),
            missing_cells(counts, wanted).sum(axis=(-1, -2)),
            spans.sum(axis=(-1, -2)),
            (np.abs(counts.sum(axis=-2) / len(self.label) - wanted) > tolerance).sum(axis=-1),
            ((kept - due) ** 2 / due).sum(axis=(-1, -2)),
        ]
        return np.stack(measures, axis=-1)


def stratification(keys: np.ndarray, labels: LabelsOf, split: np.ndarray, shares: dict) -> dict:
    """Return measures of the current split and of the best seed tried, and whether changing to it is worthwhile.

    `keys` and `split`: one entry per record. Another seed is worthwhile if fewer labels with three or more records are
    missing in a split, if more splits have a share within `share_tolerance`, or if the current distance exceeds
    `usual_distance`, the 95 % quantile over the seeds tried. Without groups, this is the quantile of chi-square with
    labels x (splits - 1) degrees of freedom (the wanted shares are given, so no column sum is estimated); with groups,
    distances are larger by about the size of the groups, so the quantile is estimated from the seeds.
    """
    wanted = np.array([shares[name] for name in SPLITS])
    tolerance = share_tolerance(keys)
    now = labels.measures(split, wanted, split, tolerance)
    tried = np.concatenate(
        [
            labels.measures(split_numbers(keys, shares, seeds), wanted, split, tolerance)
            for seeds in seeds_tried(len(keys))
        ]
    )
    best = int(np.lexsort(tried.T[::-1])[0])
    seed = best if tuple(tried[best]) < tuple(now) else shares["seed"]
    fit = tried[best] if seed != shares["seed"] else now
    usual = float(np.quantile(tried[:, 5], USUAL))
    counts = np.bincount(split_numbers(keys, shares, seed), minlength=len(SPLITS))
    fits = {
        prefix: {
            f"{prefix}labels_missing_in_a_split": int(found[2]),
            f"{prefix}span_labels_missing_in_a_split": int(found[3]),
            f"{prefix}shares_off": int(found[4]),
            f"{prefix}distance": round(float(found[5]), 4),
        }
        for prefix, found in (("", now), ("best_", fit))
    }
    return {
        **fits[""],
        "usual_distance": round(usual, 4),
        "best_seed": seed,
        **fits["best_"],
        "best_shares": {name: round(int(counts[number]) / len(keys), 6) for number, name in enumerate(SPLITS)},
        "worthwhile": bool(seed != shares["seed"] and ((fit[2:5] < now[2:5]).any() or now[5] > usual)),
    }
