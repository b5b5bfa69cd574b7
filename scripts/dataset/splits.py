"""Split records by a hash: a record's split depends only on its group and the seed.

Adding a record therefore does not move others, and a grown dataset never trains on records that an earlier version
tested on. In return, shares are met only approximately, as in random sampling. Stratification can't assign single
records (that would move others), so it selects the seed: of many seeds, the ledger names the one that keeps the labels'
shares closest, and the user puts it into the configuration once.
"""

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np

from scripts.common.errors import UserError
from scripts.common.records import SPLITS

SEEDS = 4096  # most seeds tried in the search for a better one
WORK = 4_000_000  # most hashes that the search computes
TOLERANCE = (0.05, 0.1)  # smallest and largest tolerated difference of a split's share from the wanted one
GOLDEN = 0x9E3779B97F4A7C15  # SplitMix64's increment and multipliers: Steele, Lea, Flood (2014), "Fast splittable
MIX_1, MIX_2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB  # pseudorandom number generators", OOPSLA


def key_of(group: str | None, compared: str, images: Iterable[str] = ()) -> int:
    """Return the 64-bit key that determines a record's split: a hash of its group, else of its images or compared text.

    Records with the same images go to the same split, whatever their questions; records with different images are
    assigned independently, even if their questions and answers are equal.
    """
    seen = "\n".join(sorted({*images}))
    text = f"group:{group}" if group is not None else f"images:{seen}" if seen else f"record:{compared}"
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest(), "big")


def positions(keys: np.ndarray, seed: int | np.ndarray) -> np.ndarray:
    """Return the position of each key in [0, 1): SplitMix64 of key and seed.

    `keys`: shape (n,), uint64. `seed`: one seed, or seeds of shape (s, 1) for a result of shape (s, n).
    """
    with np.errstate(over="ignore"):  # arithmetic is modulo 2**64
        start = (np.asarray(seed, np.uint64) + np.uint64(1)) * np.uint64(GOLDEN)
    mixed = keys + start
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(MIX_1)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(MIX_2)
    return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53


def split_numbers(keys: np.ndarray, shares: dict, seed: int | np.ndarray) -> np.ndarray:
    """Return the split of each key, as an index into `SPLITS`, for one seed or for seeds of shape (s, 1).

    Test comes first in [0, 1), then validation, then train: a larger validation share takes records from train only.
    """
    where = positions(keys, seed)
    test, validation = shares["test"], shares["test"] + shares["validation"]
    return ((where < validation).astype(np.int8) + (where < test)).astype(np.int8)


def cells(split: np.ndarray, label: np.ndarray, labels: int) -> np.ndarray:
    """Return the number of records of each label in each split.

    `split`: shape (n,) or, for several seeds, (s, n); the result has shape (labels, 3) or (s, labels, 3).
    """
    rows = np.arange(split.size // max(len(label), 1)).reshape(*split.shape[:-1], 1)
    flat = (rows * labels + label) * len(SPLITS) + split
    shape = (*split.shape[:-1], labels, len(SPLITS))
    return np.bincount(flat.ravel(), minlength=int(np.prod(shape))).reshape(shape)


def missing_cells(counts: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return which labels with three or more records are missing in which splits that have a share.

    `counts`: shape (..., labels, 3); `wanted`: the three shares; the result: shape (..., labels, splits with a share).
    """
    return (counts[..., wanted > 0] == 0) & (counts.sum(axis=-1, keepdims=True) >= len(SPLITS))


def misfit(counts: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return three measures of the distance from the wanted shares, the most important first; smaller is better.

    They are the number of empty splits; the number of pairs of split and label with three or more records where the
    label is missing; and the chi-square distance over all cells. `counts`: shape (..., labels, 3); `wanted`: the three
    shares; each measure: shape (...).
    """
    used = wanted > 0
    kept = counts[..., used]
    empty = (kept.sum(axis=-2) == 0).sum(axis=-1)
    missing = missing_cells(counts, wanted).sum(axis=(-1, -2))
    due = np.maximum(counts.sum(axis=-1, keepdims=True), 1e-9) * wanted[used]
    return empty, missing, ((kept - due) ** 2 / due).sum(axis=(-1, -2))


def share_tolerance(keys: np.ndarray) -> float:
    """Return the tolerated difference of a split's share from the wanted one: 0.05 for many groups, 0.1 for few.

    `keys`: one entry per record, equal within a group. Between the limits it is the standard deviation of a share of
    one half over Kish's effective number of groups, which accounts for their sizes.
    """
    _, sizes = np.unique(keys, return_counts=True)
    groups = sizes.sum() ** 2 / (sizes**2).sum()
    return float(np.clip(0.5 / np.sqrt(groups), *TOLERANCE))


def shares_off(counts: np.ndarray, wanted: np.ndarray, tolerance: float) -> np.ndarray:
    """Return the number of splits with a share that differs from the wanted one by more than the tolerance.

    `counts`: shape (..., labels, 3); `wanted`: the three shares; the result: shape (...).
    """
    records = counts.sum(axis=-2)
    achieved = records / np.maximum(records.sum(axis=-1, keepdims=True), 1)
    return (np.abs(achieved - wanted) > tolerance).sum(axis=-1)


def seeds_tried(records: int) -> Iterator[np.ndarray]:
    """Yield the seeds to try, in batches of shape (s, 1); the more records, the fewer seeds."""
    tried = int(np.clip(WORK // max(records, 1), 1, SEEDS))
    together = int(np.clip(WORK // 40 // max(records, 1), 1, tried))
    for start in range(0, tried, together):
        yield np.arange(start, min(start + together, tried), dtype=np.uint64)[:, None]


def best_seed(keys: np.ndarray, label: np.ndarray, labels: int, shares: dict) -> tuple[int, tuple[int, int, float]]:
    """Return the seed with the smallest misfit of `seeds_tried`, and that misfit.

    `keys` and `label`: one entry per record. The smallest of equal seeds is returned.
    """
    wanted = np.array([shares[split] for split in SPLITS])
    measures = [
        misfit(cells(split_numbers(keys, shares, seeds), label, labels), wanted) for seeds in seeds_tried(len(keys))
    ]
    empty, missing, distance = (np.concatenate(parts) for parts in zip(*measures, strict=True))
    best = int(np.lexsort((distance, missing, empty))[0])
    return best, (int(empty[best]), int(missing[best]), float(distance[best]))


def check_not_empty(split: np.ndarray, keys: np.ndarray, label: np.ndarray, labels: int, shares: dict) -> None:
    """Raise UserError if a split with a share has no record; the remedy names a seed that fills all splits.

    `split`, `keys` and `label`: one entry per record.
    """
    counts = np.bincount(split, minlength=len(SPLITS))
    empty = [name for number, name in enumerate(SPLITS) if shares[name] > 0 and not counts[number]]
    if not empty:
        return
    groups = len(np.unique(keys))
    seed, fit = best_seed(keys, label, labels, shares)
    remedy = f"set splits.seed to {seed}" if not fit[0] else "enlarge the share, or add records or groups"
    units = f"{len(keys)} records" if groups == len(keys) else f"{len(keys)} records in {groups} groups"
    share = shares[empty[0]]
    raise UserError(f"the split '{empty[0]}' (share {share:g}) is empty: there are {units}", remedy=remedy)
