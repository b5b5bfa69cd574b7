"""Split records by a hash: a record's split depends only on its group and the seed.

Adding a record therefore does not move others, but shares are met only approximately, as in random sampling.
Stratification can't assign single records (that would move others), so it selects the seed (stratification.py).
"""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from scripts.common.errors import UserError
from scripts.common.records import SPLITS

SEEDS = 4096  # most seeds tried in the search for a better one
WORK = 4_000_000  # most hashes that the search computes
TOLERANCE = (0.05, 0.1)  # smallest and largest tolerated difference of a split's share from the wanted one
GROUPS_TO_DECIDE = 5  # with fewer groups in the test split no gate is decided
GOLDEN = 0x9E3779B97F4A7C15  # SplitMix64's increment and multipliers: Steele, Lea, Flood (2014), "Fast splittable
MIX_1, MIX_2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB  # pseudorandom number generators", OOPSLA


def key_of(group: str | None, compared: bytes, images: Sequence[str] = ()) -> int:
    """Return the 64-bit key that determines a record's split: a hash of its group, else of its images or compared text.

    `compared` is the text as UTF-8.
    Records with the same images go to the same split, whatever their questions; records with different images are
    assigned independently, even if their questions and answers are equal.
    """
    if group is not None:
        text = f"group:{group}".encode()
    elif images:
        text = ("images:" + "\n".join(sorted({*images}))).encode()
    else:
        text = b"record:" + compared
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


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
    """Return the records of each label in each split, (..., labels, 3); `split`: (n,) or, for several seeds, (s, n)."""
    rows = np.arange(split.size // max(len(label), 1)).reshape(*split.shape[:-1], 1)
    flat = (rows * labels + label) * len(SPLITS) + split
    shape = (*split.shape[:-1], labels, len(SPLITS))
    return np.bincount(flat.ravel(), minlength=int(np.prod(shape))).reshape(shape)


def share_tolerance(keys: np.ndarray) -> float:
    """Return the tolerated difference of a split's share from the wanted one: 0.05 for many groups, 0.1 for few.

    `keys`: one entry per record, equal within a group. Between the limits it is the standard deviation of a share of
    one half over Kish's effective number of groups, which accounts for their sizes.
    """
    _, sizes = np.unique(keys, return_counts=True)
    groups = sizes.sum() ** 2 / (sizes**2).sum()
    return float(np.clip(0.5 / np.sqrt(groups), *TOLERANCE))


def seeds_tried(records: int) -> Iterator[np.ndarray]:
    """Yield the seeds to try, in batches of shape (s, 1); the more records, the fewer seeds."""
    tried = int(np.clip(WORK // max(records, 1), 1, SEEDS))
    together = int(np.clip(WORK // 40 // max(records, 1), 1, tried))
    for start in range(0, tried, together):
        yield np.arange(start, min(start + together, tried), dtype=np.uint64)[:, None]


def check_not_empty(split: np.ndarray, keys: np.ndarray, shares: dict) -> None:
    """Raise UserError if a split with a share has no record; the remedy names a seed that fills all splits."""
    wanted = [number for number, name in enumerate(SPLITS) if shares[name] > 0]
    empty = np.setdiff1d(wanted, split)
    if not empty.size:
        return
    distinct = np.unique(keys)
    remedy = "enlarge the share, or add records or groups"
    for seeds in seeds_tried(len(distinct)):
        tried = split_numbers(distinct, shares, seeds)
        filled = np.all([(tried == number).any(axis=1) for number in wanted], axis=0)
        if filled.any():
            remedy = f"set splits.seed to {seeds[filled.argmax(), 0]}"
            break
    units = f"{len(keys)} records"
    if len(distinct) < len(keys):
        units += f" in {len(distinct)} groups"
        if shares["test"] * len(distinct) < GROUPS_TO_DECIDE:
            remedy += f", and enlarge the share of test: with fewer than {GROUPS_TO_DECIDE} groups no gate is decided"
    name = SPLITS[empty[0]]
    raise UserError(f"the split '{name}' (share {shares[name]:g}) is empty: there are {units}", remedy=remedy)
