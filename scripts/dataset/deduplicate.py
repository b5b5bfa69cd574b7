"""Find exact and near duplicates; near ones are candidates by MinHash, each verified exactly.

Two texts are near duplicates when the Jaccard similarity of their sets of character shingles reaches the threshold;
case and punctuation don't count. Texts about different images are never duplicates.
Candidates are found band by band: the texts are sorted by the hash of that band of their signatures (sketches.py).
Texts are on disk; for the memory of each see `compare_texts.ComparedTexts`.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from itertools import accumulate
from math import comb
from pathlib import Path

import numpy as np

from scripts.common.pool import in_threads
from scripts.dataset.sketches import COARSE, shingle_hashes

CACHED = 256  # sets of shingles, of dense groups
CHUNK, CHUNK_BYTES = 64, 4 * 2**20  # texts with candidates whose sets of shingles are made at once, and their bytes
EXCLUDED = 1e-8  # probability that coarse signatures exclude a pair exactly at the threshold
SMALL = 16  # texts that agree in a band; a larger group with more similar pairs a text than this one can have is dense
MOST_THREADS = 2  # that compare bands, each with several arrays of a number for each text
TOGETHER = 2**16  # pairs whose coarse signatures are compared at once


class TextStore:
    """Texts in a temporary file, read back by number; each needs 8 bytes of memory."""

    def __init__(self, folder: Path):
        self.file = open(folder / "texts", "w+b")  # noqa: SIM115 (open as long as the store; the folder is temporary)
        self.ends = [np.zeros(1, np.int64)]

    def add(self, data: bytes, lengths: np.ndarray) -> None:
        """Add texts: all of them as UTF-8, and the number of bytes of each."""
        self.file.write(data)
        self.ends.append(self.ends[-1][-1] + np.cumsum(lengths))

    def all_ends(self) -> np.ndarray:
        """Return where each text starts and the last one ends."""
        if len(self.ends) > 1:
            self.ends = [np.concatenate(self.ends)]
        return self.ends[0]

    def sizes(self, numbers: np.ndarray) -> np.ndarray:
        """Return the number of bytes of each text."""
        return self.all_ends()[numbers + 1] - self.all_ends()[numbers]

    def __getitem__(self, number: int) -> str:
        start, end = self.all_ends()[number : number + 2].tolist()
        self.file.seek(start)
        return self.file.read(end - start).decode("utf-8")


def exact_duplicates(ids: np.ndarray) -> dict[int, int]:
    """Map each position with a repeated id to the first position of that id. `ids`: shape (n,), uint64."""
    _, places, number = np.unique(ids, return_index=True, return_inverse=True)
    firsts = places[number]
    repeated = np.flatnonzero(firsts != np.arange(len(ids)))
    return dict(zip(repeated.tolist(), firsts[repeated].tolist(), strict=True))


def distinct(numbers: np.ndarray) -> np.ndarray:
    """Return the distinct numbers, sorted. `np.unique` is several times slower."""
    ordered = np.sort(numbers)
    first = np.ones(len(ordered), bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return ordered[first]


def joined(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return pairs of numbers below 2**32 as one integer each, which is sorted several times faster: shape (n,)."""
    return one.astype(np.uint64) << np.uint64(32) | other.astype(np.uint64)


def parted(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of pairs that `joined` made: two arrays of the shape (n,), int64."""
    return (pairs >> np.uint64(32)).astype(np.int64), (pairs & np.uint64(2**32 - 1)).astype(np.int64)


def columns(pairs: np.ndarray) -> np.ndarray:
    """Return pairs that `joined` made as columns, without a copy: shape (n, 2), uint32."""
    return pairs.astype("<u8", copy=False).view("<u4").reshape(-1, 2)[:, ::-1]


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    """Return the Jaccard similarity of two sets, as arrays of distinct hashes that are not both empty: shared / all."""
    both = np.concatenate((one, other))
    both.sort()
    shared = np.count_nonzero(both[1:] == both[:-1])
    return int(shared) / int(len(both) - shared)


def rarely_below(trials: int, chance: float, probability: float) -> int:
    """Return the largest number of successes of which there are fewer with at most this probability (binomial)."""
    each = (comb(trials, n) * chance**n * (1 - chance) ** (trials - n) for n in range(trials))
    return bisect_right(list(accumulate(each)), probability)


class NearDuplicates:
    """Finds near duplicates among numbered texts, by shingles of `size` characters and a threshold.

    `keys`: `sketches.band_keys` of all texts, shape (bands, texts); `coarse`: their coarse signatures, shape (texts,
    COARSE); `images`: `number_of` of each text's images, shape (texts,).
    """

    def __init__(
        self,
        texts: TextStore,
        keys: np.ndarray,
        coarse: np.ndarray,
        images: np.ndarray,
        size: int,
        threshold: float,
        threads: int = 1,
    ):
        self.keys, self.coarse, self.images, self.threshold = keys, coarse, images, threshold
        self.texts, self.size, self.threads = texts, size, min(threads, MOST_THREADS)
        self.of_chunk: dict[int, np.ndarray] = {}  # sets of shingles that the texts of a chunk need
        self.shingles = lru_cache(CACHED)(lambda number: self.sets_of([number])[number])
        self.least_equal = rarely_below(COARSE, threshold, EXCLUDED / 2)
        # One bit of each coarse slot excludes most pairs at an eighth of the memory; half of unequal slots share it.
        self.bits = np.packbits(coarse & 1, axis=1).view(np.uint64)[:, 0]
        self.most_different = COARSE - rarely_below(COARSE, (1 + threshold) / 2, EXCLUDED / 2)

    def sets_of(self, numbers: list[int]) -> dict[int, np.ndarray]:
        """Return the texts' sets of shingles, as sorted hashes of 64 bits."""
        hashes, starts = shingle_hashes([self.texts[number] for number in numbers], self.size, np.uint64)
        parts = np.split(hashes, starts[1:-1])
        return {number: distinct(part) for number, part in zip(numbers, parts, strict=True)}

    def set_of(self, number: int) -> np.ndarray:
        """Return a text's set of shingles."""
        return self.of_chunk[number] if number in self.of_chunk else self.shingles(number)

    def may_be_similar(self, some: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Return which texts may be near duplicates of which others, by images and coarse signatures: a mask.

        `some` and `others` are numbers of texts in arrays of any shapes that NumPy broadcasts.
        """
        fitting = np.bitwise_count(self.bits[some] ^ self.bits[others]) <= self.most_different
        places = fitting.nonzero()
        some, others = (np.broadcast_to(each, fitting.shape)[places] for each in (some, others))
        same = self.coarse.take(some, axis=0) == self.coarse.take(others, axis=0)
        equal = np.bitwise_count(np.packbits(same, axis=-1).view(np.uint64))[..., 0]  # COARSE are one integer's bits
        fitting[places] = (equal >= self.least_equal) & (self.images[some] == self.images[others])
        return fitting

    def candidates(self, numbers: np.ndarray, split: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Return pairs of texts that agree in a band, and members of dense groups.

        Pairs have the shape (pairs, 2): a text and an earlier one, in ascending order, without those that
        `may_be_similar` excludes, or that are in one `split`. Members have the shape (members, 2): a text and the
        number of its group, in ascending order.
        """
        pairs, members, groups = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)], 0
        # Similar texts agree in most bands, so their pairs are made distinct when as many new ones as before are there.
        for found, dense in in_threads(partial(self.of_band, numbers, split), self.keys, self.threads):
            pairs += found
            if dense:
                numbered = groups + np.repeat(np.arange(len(dense)), list(map(len, dense)))
                members.append(joined(np.concatenate(dense), numbered))
                groups += len(dense)
            if sum(map(len, pairs[1:])) > len(pairs[0]):
                pairs = [distinct(np.concatenate(pairs))]
        pairs, members = distinct(np.concatenate(pairs)), np.concatenate(members)
        members.sort()
        return columns(pairs), columns(members)

    def of_band(
        self, numbers: np.ndarray, split: np.ndarray | None, keys: np.ndarray
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the pairs of the texts that agree in a band, each as one integer, and the dense groups."""
        pairs, dense = [], []
        keys, texts = parted(np.sort(joined(keys[numbers], numbers)))
        starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
        sizes = np.diff(np.append(starts, len(keys)))
        large = sizes > SMALL
        for start, size in zip(starts[large].tolist(), sizes[large].tolist(), strict=True):
            group = texts[start : start + size]
            few = self.few_pairs(group, split)
            if few is None:
                dense.append(group)
            elif len(few):
                pairs.append(few)
        starts, sizes = (each[(sizes > 1) & (sizes <= SMALL)] for each in (starts, sizes))
        # The pairs of all groups whose places in them are `distance` apart.
        for distance in range(1, int(sizes.max(initial=1))):
            of = sizes > distance
            counts = sizes[of] - distance
            places = np.repeat(starts[of] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
            for first in range(0, len(places), TOGETHER):
                place = places[first : first + TOGETHER]
                earlier, later = texts[place], texts[place + distance]
                if split is not None:
                    apart = split[earlier] != split[later]
                    earlier, later = earlier[apart], later[apart]
                fitting = self.may_be_similar(earlier, later)
                pairs.append(joined(later[fitting], earlier[fitting]))
        return pairs, dense

    def few_pairs(self, group: np.ndarray, split: np.ndarray | None) -> np.ndarray | None:
        """Return the pairs of a group, each as one integer; None if it is dense.

        Texts with common words agree in a band without being similar: few pairs are left of thousands.
        """
        pairs, most, step = [], len(group) * (SMALL - 1) // 2, max(TOGETHER // len(group), 1)
        for start in range(0, len(group), step):
            later, earlier = group[start : start + step, None], group[None, : start + step]
            fitting = self.may_be_similar(later, earlier) & (earlier < later)
            if (most := most - np.count_nonzero(fitting)) < 0:
                return None
            if split is not None:
                fitting &= split[earlier] != split[later]
            rows, columns = np.nonzero(fitting)
            pairs.append(joined(group[start + rows], group[columns]))
        return np.concatenate(pairs)

    def with_candidates(
        self, numbers: np.ndarray, split: np.ndarray | None = None
    ) -> Iterator[tuple[int, list[int], list[int]]]:
        """Yield in ascending order each text that has candidates: its number, earlier texts, and its dense groups."""
        pairs, members = self.candidates(numbers, split)
        texts = np.union1d(pairs[:, 0], members[:, 0])
        limits = [np.searchsorted(each[:, 0], np.append(texts, texts[-1:] + 1)).tolist() for each in (pairs, members)]
        for place, number in enumerate(texts.tolist()):
            if place % CHUNK == 0:
                first, last = (limits[0][min(end, len(texts))] for end in (place, place + CHUNK))
                needed = np.unique(pairs[first:last])
                needed = needed[np.cumsum(self.texts.sizes(needed)) <= CHUNK_BYTES].tolist()
                self.of_chunk = self.sets_of(needed) if needed else {}
            earlier, groups = (
                each[limit[place] : limit[place + 1], 1].tolist()
                for each, limit in zip((pairs, members), limits, strict=True)
            )
            yield number, earlier, groups

    def similar(self, number: int, earlier: Iterable[int], of_groups: Iterable[list[int]]) -> list[tuple[int, float]]:
        """Return the texts that reach the threshold, with their exact similarities, in ascending order.

        Candidates are `earlier`, and those in `of_groups` that `may_be_similar` does not exclude.
        """
        others, more = set(earlier), list(set().union(*of_groups))
        if more:
            fitting = self.may_be_similar(np.full(len(more), number), np.array(more))
            others.update(other for other, fits in zip(more, fitting.tolist(), strict=True) if fits)
        found = [(other, jaccard(self.set_of(number), self.set_of(other))) for other in sorted(others)]
        return [(other, similarity) for other, similarity in found if similarity >= self.threshold]

    def find(self, numbers: np.ndarray) -> dict[int, tuple[int, float]]:
        """Return each text to remove, with the most similar earlier text that is kept, and their similarity.

        `numbers` are the texts that are compared, in ascending order: shape (compared,), int64.
        """
        removed: dict[int, tuple[int, float]] = {}
        stayed: dict[int, list[int]] = defaultdict(list)  # of each dense group
        for number, earlier, groups in self.with_candidates(numbers):
            kept = (other for other in earlier if other not in removed)
            found = self.similar(number, kept, (stayed[group] for group in groups))
            if found:
                removed[number] = max(found, key=lambda pair: (pair[1], -pair[0]))
            else:
                for group in groups:
                    stayed[group].append(number)
        return removed

    def first_across(self, numbers: np.ndarray, split: np.ndarray) -> tuple[int, int, float] | None:
        """Return the first pair of near duplicates in different splits; None if there is none.

        `numbers` are the texts that are compared, in ascending order; `split` has the split of each text.
        """
        seen: dict[tuple[int, int], list[int]] = defaultdict(list)  # of each dense group in each split
        splits = np.unique(split[numbers]).tolist()
        for number, earlier, groups in self.with_candidates(numbers, split):
            own = int(split[number])
            others = (seen[group, other] for group in groups for other in splits if other != own)
            for other, similarity in self.similar(number, earlier, others):
                return other, number, similarity
            for group in groups:
                seen[group, own].append(number)
        return None
