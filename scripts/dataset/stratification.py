"""Says whether another seed would make better splits, and whether so much better that it is worth a new draw."""

from dataclasses import dataclass

import numpy as np

from scripts.common.records import SPLITS
from scripts.dataset.splits import cells, misfit, missing_cells, seeds_tried, share_tolerance, shares_off, split_numbers

USUAL = 0.95  # a distance that this share of the draws does not exceed is chance, not a fault of the seed


@dataclass(frozen=True)
class LabelsOf:
    """The labels of records and of their spans, as numbers.

    `label`: of each record, below `labels`. `span_set`: the number of the set of each record's span labels;
    `span_members`: shape (span labels, sets), which label is in which set; without spans it has no row.
    """

    label: np.ndarray
    labels: int
    span_set: np.ndarray
    span_members: np.ndarray

    def spans_missing(self, split: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Return which span labels miss which splits: shape (..., span labels, splits with a share).

        `split`: shape (n,) or, for several seeds, (s, n). Counted are records, of which a label has three or more.
        """
        members = self.span_members.astype(np.float32)  # counts are exact up to 2**24, far beyond the records here
        sets = cells(split, self.span_set, members.shape[1]).astype(np.float32)
        return missing_cells(members @ sets, wanted)

    def measures(self, split: np.ndarray, wanted: np.ndarray, now: np.ndarray, tolerance: float) -> np.ndarray:
        """Return how bad splits are, the gravest first: shape (6,) or, for several seeds, (s, 6); smaller is better.

        Empty splits; splits that lose a span label which the present split `now` has there; labels that miss a split;
        span labels that do; splits with another share than wanted; chi-square distance of the labels' shares.
        """
        counts = cells(split, self.label, self.labels)
        empty, missing, distance = misfit(counts, wanted)
        spans = self.spans_missing(split, wanted)
        lost = (spans & ~self.spans_missing(now, wanted)).sum(axis=(-1, -2))
        off = shares_off(counts, wanted, tolerance)
        return np.stack([empty, lost, missing, spans.sum(axis=(-1, -2)), off, distance], axis=-1)


def stratification(keys: np.ndarray, labels: LabelsOf, split: np.ndarray, shares: dict) -> dict:
    """Return how well the present split keeps the labels, what the best seed tried would do, and if that is worth it.

    `keys` and `split`: one entry a record. It is worthwhile when a label of three records or more misses a split and
    would not with the other seed, when more splits have about the share wanted with it (`share_tolerance`), or when the
    distance is larger than `usual_distance`: the 95 % quantile over the seeds tried. For records that are drawn one by
    one that is the quantile of chi-square with labels x (splits - 1) degrees of freedom (the wanted shares are given,
    so no column sum is estimated); where groups are drawn as a whole, distances are larger by about the groups' size,
    which no such formula knows.
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
    return {
        "labels_missing_in_a_split": int(now[2]),
        "span_labels_missing_in_a_split": int(now[3]),
        "shares_off": int(now[4]),
        "distance": round(float(now[5]), 4),
        "usual_distance": round(usual, 4),
        "best_seed": seed,
        "best_labels_missing_in_a_split": int(fit[2]),
        "best_span_labels_missing_in_a_split": int(fit[3]),
        "best_shares_off": int(fit[4]),
        "best_shares": {name: round(int(counts[number]) / len(keys), 6) for number, name in enumerate(SPLITS)},
        "best_distance": round(float(fit[5]), 4),
        "worthwhile": bool(seed != shares["seed"] and ((fit[2:5] < now[2:5]).any() or now[5] > usual)),
    }
