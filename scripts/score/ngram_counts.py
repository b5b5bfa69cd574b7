"""Count the n-grams that answers have in common with the expected ones, for many records at once.

An n-gram is one integer of at most 63 bits: its record, its items, and the side that it is of. Sorted, equal n-grams of
both sides stand beside each other.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import count

import numpy as np

BITS = 63
BLOCK = 200_000  # characters or so of the texts that are counted at once


def characters(texts: list[str]) -> list[np.ndarray]:
    """Return the code points of each text, without white space."""
    encoded = ("".join(text.split()).encode("utf-32-le", "surrogatepass") for text in texts)
    return [np.frombuffer(text, np.uint32).astype(np.int64) for text in encoded]


def numbered(texts: list[list[str]]) -> list[np.ndarray]:
    """Return the words of each text as numbers: the same for the same word of any text."""
    numbers: defaultdict[str, int] = defaultdict(count().__next__)
    return [np.array([numbers[word] for word in words], np.int64) for words in texts]


def ngram_counts(
    pairs: list[tuple[str, str] | None], order: int, items_of: Callable[[list[str]], list[np.ndarray]]
) -> Iterator[list[list[int]] | None]:
    """Yield for each pair [n-grams of the first text, of the second, matched ones], each for n = 1 to `order`.

    An n-gram is matched as often as both texts have it. `items_of` returns the items of texts as numbers from 0; None
    stays None.
    """
    block: list[tuple[str, str] | None] = []
    size = 0
    for pair in pairs:
        block.append(pair)
        size += len(pair[0]) + len(pair[1]) if pair else 0
        if size >= BLOCK:
            yield from counts_of_block(block, order, items_of)
            block, size = [], 0
    yield from counts_of_block(block, order, items_of)


def counts_of_block(block: list[tuple[str, str] | None], order: int, items_of: Callable) -> Iterator:
    """Yield the counts of a block's pairs; see `ngram_counts`."""
    present = [pair for pair in block if pair is not None]
    items = items_of([text for side in (0, 1) for text in (pair[side] for pair in present)])
    found = iter(counted(items[: len(present)], items[len(present) :], order).tolist())
    yield from (None if pair is None else next(found) for pair in block)


def counted(first: list[np.ndarray], second: list[np.ndarray], order: int) -> np.ndarray:
    """Return the n-grams of the first texts, of the second ones, and the matched ones, [records, 3, order]."""
    records = len(first)
    sizes = np.array([len(text) for text in (*first, *second)], np.int64)
    counts = np.zeros((records, 3, order), np.int64)
    counts[:, :2] = np.maximum(sizes.reshape(2, records).T[:, :, None] - np.arange(order), 0)
    if not sizes.any():
        return counts
    items, bits = dense(np.concatenate([*first, *second]))
    above = bits * order  # the bits of an n-gram's items
    if above + (records - 1).bit_length() + 1 > BITS:
        half = records // 2
        if not half:
            counts[0, 2] = matched_one_by_one(first[0].tolist(), second[0].tolist(), order)
            return counts
        parts = counted(first[:half], second[:half], order), counted(first[half:], second[half:], order)
        return np.concatenate(parts)
    text = np.repeat(np.arange(2 * records), sizes)
    places = np.arange(len(items)) + text * (order - 1)  # each text has zeros behind it, for the n-grams that end there
    padded = np.zeros(len(items) + 2 * records * (order - 1), np.int64)
    padded[places] = items
    grams = items
    for n in range(1, order):
        grams = grams << bits | padded[places + n]
    # Sorted by the longest n-grams, they are sorted by the shorter ones that these begin with.
    ordered = np.sort((text % records << above | grams) << 1 | text // records)
    grams, sides = ordered >> 1, np.stack([1 - (ordered & 1), ordered & 1])
    for n in range(order, 0, -1):
        starts = np.flatnonzero(np.diff(grams, prepend=-1))
        grams, sides = grams[starts], np.add.reduceat(sides, starts, axis=1)
        matched = sides.min(axis=0) * (grams & (1 << bits) - 1 > 0)
        counts[:, 2, n - 1] = np.bincount(grams >> bits * n, matched, records)
        grams = grams >> bits
    return counts


def dense(items: np.ndarray) -> tuple[np.ndarray, int]:
    """Return whole numbers from 1 with the same order and no gaps, and how many bits they need."""
    present = np.zeros(items.max() + 1, bool)
    present[items] = True
    ranks = np.cumsum(present)
    return ranks[items], int(ranks[-1]).bit_length()


def matched_one_by_one(first: list[int], second: list[int], order: int) -> list[int]:
    """Return the matched n-grams of two texts with more different items than 63 bits have room for."""

    def grams(items: list[int], n: int) -> Counter:
        return Counter(zip(*(items[start:] for start in range(n)), strict=False))

    return [(grams(first, n) & grams(second, n)).total() for n in range(1, order + 1)]
