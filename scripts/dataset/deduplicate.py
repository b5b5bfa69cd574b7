"""Exact and near duplicates: found by MinHash and locality-sensitive hashing, verified exactly.

Two texts are near duplicates when the Jaccard similarity of their sets of character shingles reaches the threshold;
case and punctuation don't count. Texts about different images are never duplicates.
MinHash signatures (Broder 1997) come from rensa; their slots are cut into bands, and texts that agree in a band become
candidates (Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, chapter 3.4). A candidate is a duplicate only when
the similarity of the sets themselves says so. Memory holds some numbers per record; texts and bands are on disk.
"""

import hashlib
import json
import os
import tempfile
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import rensa

from scripts.common.cli import Progress
from scripts.common.records import images_of, text_of

SLOTS = 256
MISS = 1e-8  # largest chance that a pair right at the threshold shares no band
BATCH = 256
CACHED = 256  # sets of shingles
DEVIATIONS = 6  # of the estimate by signatures, below which a candidate needs no exact comparison
MIX = np.uint64(0x9E3779B97F4A7C15)


def shingles(text: str, size: int) -> frozenset[str]:
    """Return the set of a text's runs of `size` characters; a shorter text is its only shingle."""
    if len(text) <= size:
        return frozenset((text,))
    return frozenset([text[start : start + size] for start in range(len(text) - size + 1)])


def jaccard(one: frozenset, other: frozenset) -> float:
    """Return the Jaccard similarity of two sets that are not both empty: shared / all."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


def compared_text(row: dict, compare: str) -> str:
    """Return what of a row (of `canonical`) is compared, folded: its answer, or questions and answers.

    System messages don't count: a long one that all records have would make them all alike. Of a record with spans
    the text alone counts: one that is annotated twice is a duplicate, and short answers such as `[]` are none.
    """
    if row["spans"] is not None:
        return folded(text_of(json.loads(row["messages"])[-2]["content"]))
    if compare == "answer":
        return folded(row["expected"])
    messages = [message for message in json.loads(row["messages"]) if message["role"] != "system"]
    return folded(" ".join(f"{message['role']} {text_of(message['content'])}" for message in messages))


def images_in(row: dict) -> list[str]:
    """Return the images of a row (of `canonical`), in their order."""
    return images_of(json.loads(row["messages"])) if '"image"' in row["messages"] else []


def number_of(images: Iterable[str]) -> int:
    """Return 64 bits that stand for images, 0 for none."""
    names = "\n".join(images)
    return int.from_bytes(hashlib.blake2b(names.encode("utf-8"), digest_size=8).digest(), "big") if names else 0


class Fold(dict):
    """What each character counts as in a comparison: punctuation, white space and control characters as a space."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        self[code] = " " if unicodedata.category(character)[0] in "PZC" else character
        return self[code]


FOLD = Fold()


def folded(text: str) -> str:
    """Return text without case and punctuation; text of nothing but punctuation stays as it is."""
    return " ".join(text.casefold().translate(FOLD).split()) or text


def rows_per_band(threshold: float) -> int:
    """Return how many slots a band may have so that a pair at the threshold is missed with a chance below `MISS`."""
    fitting = [rows for rows in range(1, 33) if (1 - threshold**rows) ** (SLOTS // rows) <= MISS]
    return max(fitting, default=1)


class TextStore:
    """Texts in a temporary file: numbered as they come, read back by number; 8 bytes of memory each."""

    def __init__(self, folder: Path):
        self.file = open(folder / "texts", "w+b")  # noqa: SIM115 (open as long as the store)
        self.ends = Numbers(np.int64)
        self.end = 0

    def add(self, text: str) -> None:
        """Append a text."""
        data = text.encode("utf-8")
        self.file.write(data)
        self.end += len(data)
        self.ends.add(self.end)

    def __getitem__(self, number: int) -> str:
        start = int(self.ends[number - 1]) if number else 0
        self.file.seek(start)
        return self.file.read(int(self.ends[number]) - start).decode("utf-8")

    def __iter__(self) -> Iterator[str]:
        self.file.seek(0)
        start = 0
        for number in range(len(self.ends)):
            end = int(self.ends[number])
            yield self.file.read(end - start).decode("utf-8")
            start = end

    def __len__(self) -> int:
        return len(self.ends)

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class Numbers:
    """A growing array of numbers."""

    def __init__(self, kind: type):
        self.array, self.count = np.zeros(1024, kind), 0

    def add(self, value: int) -> None:
        """Append a number."""
        if self.count == len(self.array):
            self.array = np.concatenate([self.array, np.zeros_like(self.array)])
        self.array[self.count] = value
        self.count += 1

    def values(self) -> np.ndarray:
        """Return the numbers."""
        return self.array[: self.count]

    def __getitem__(self, position: int) -> np.generic:
        return self.array[position]

    def __len__(self) -> int:
        return self.count


def exact_duplicates(ids: np.ndarray) -> dict[int, int]:
    """Return, for each position whose id stood before, the position where it stood first. `ids`: shape (n,), uint64."""
    order = np.argsort(ids, kind="stable")
    ranked = ids[order]
    starts = np.r_[True, ranked[1:] != ranked[:-1]] if len(ids) else np.zeros(0, bool)
    firsts = order[starts][np.cumsum(starts) - 1] if len(ids) else order
    repeated = order != firsts
    return dict(zip(order[repeated].tolist(), firsts[repeated].tolist(), strict=True))


class NearDuplicates:
    """Finds near duplicates among numbered texts, by shingles of `size` characters and a threshold.

    `seed` draws the MinHash permutations. `folder` takes the bands, 8 bytes a text and band, and the
    signatures, 256 bytes a text. `images`, of shape (texts,), is the `number_of` each text's images: only texts with
    the same number are compared, so thousands of equal questions about different images cost nothing.
    """

    def __init__(
        self, texts: TextStore, size: int, threshold: float, folder: Path, seed: int, images: np.ndarray | None = None
    ):
        self.texts, self.size, self.threshold, self.seed = texts, size, threshold, seed
        self.images = np.zeros(len(texts), np.uint64) if images is None else images
        self.folder = folder
        self.rows = rows_per_band(threshold)
        self.bands = SLOTS // self.rows
        self.shingles = lru_cache(CACHED)(lambda number: shingles(texts[number], size))
        self.sizes = np.zeros(0, np.int32)
        self.signatures = os.open(folder / "signatures", os.O_RDWR | os.O_CREAT)
        self.least_equal = SLOTS * threshold - DEVIATIONS * (SLOTS * threshold * (1 - threshold)) ** 0.5

    def __enter__(self) -> "NearDuplicates":
        return self

    def __exit__(self, *_) -> None:
        os.close(self.signatures)

    def write_bands(self, skipped: dict[int, int]) -> np.ndarray:
        """Write each band's hashes to a file of its own; return the numbers of the texts, `skipped` ones left out."""
        taken = np.ones(len(self.texts), bool)
        taken[list(skipped)] = False
        self.sizes = np.zeros(len(self.texts), np.int32)
        files = [open(self.folder / f"band{band}", "wb") for band in range(self.bands)]  # noqa: SIM115
        bar = Progress("hashing for duplicates", int(taken.sum()))
        for batch in batches((n, text) for n, text in enumerate(self.texts) if taken[n]):
            sets = [shingles(text, self.size) for _, text in batch]
            for (number, _), found in zip(batch, sets, strict=True):
                self.sizes[number] = len(found)
            slots = rensa.RMinHash.digest_matrix_from_token_sets(sets, SLOTS, self.seed).to_rows()
            slots = np.array(slots, np.uint64)
            for (number, _), signature in zip(batch, slots.astype(np.uint8), strict=True):
                os.pwrite(self.signatures, signature.tobytes(), number * SLOTS)
            hashes = band_hashes(slots, self.rows) ^ self.images[[number for number, _ in batch], None]
            for band, file in enumerate(files):
                hashes[:, band].tofile(file)
            bar.advance(len(batch))
        for file in files:
            file.close()
        return np.flatnonzero(taken)

    def shared_buckets(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return pairs (text, bucket) of the texts that share a band with another, sorted by text."""
        members, buckets, used = [], [], 0
        for band in range(self.bands):
            path = self.folder / f"band{band}"
            hashes = np.fromfile(path, np.uint64)
            path.unlink()
            order = np.argsort(hashes, kind="stable")
            ranked = hashes[order]
            starts = np.r_[True, ranked[1:] != ranked[:-1]] if len(ranked) else np.zeros(0, bool)
            bucket = np.cumsum(starts) - 1
            shared = (np.bincount(bucket)[bucket] > 1) if len(ranked) else np.zeros(0, bool)
            members.append(numbers[order[shared]])
            buckets.append(bucket[shared] + used)
            used += int(bucket[-1]) + 1 if len(bucket) else 0
        member, bucket = np.concatenate(members), np.concatenate(buckets)
        order = np.argsort(member, kind="stable")
        return member[order], bucket[order]

    def similarity(self, one: int, other: int) -> float:
        """Return the exact similarity of two texts, or 0 when sizes or signatures rule the threshold out.

        The lowest 8 bits of the slots are kept (b-bit minwise hashing, Li and König 2010): equal slots stay equal, so
        their number never underrates the similarity by more than the sampling does.
        """
        if self.images[one] != self.images[other]:
            return 0.0
        small, large = sorted((int(self.sizes[one]), int(self.sizes[other])))
        if small < self.threshold * large or self.equal_slots(one, other) < self.least_equal:
            return 0.0
        return jaccard(self.shingles(one), self.shingles(other))

    def equal_slots(self, one: int, other: int) -> int:
        """Return in how many slots the signatures of two texts agree."""
        first, second = (
            np.frombuffer(os.pread(self.signatures, SLOTS, number * SLOTS), np.uint8) for number in (one, other)
        )
        return int(np.count_nonzero(first == second))

    def find(self, skipped: dict[int, int]) -> dict[int, tuple[int, float]]:
        """Return each text to remove, with the earlier kept text that it repeats most, and their similarity.

        Texts are taken in their order: a text stays unless an earlier one that stays is nearly the same.
        """
        kept_in: dict[int, list[int]] = defaultdict(list)
        found = {}
        for number, buckets in grouped(*self.shared_buckets(self.write_bands(skipped))):
            candidates = sorted({other for bucket in buckets for other in kept_in.get(bucket, ())})
            best = max(((self.similarity(number, other), -other) for other in candidates), default=(0.0, 0))
            if best[0] >= self.threshold:
                found[number] = (-best[1], best[0])
                continue
            for bucket in buckets:
                kept_in[bucket].append(number)
        return found

    def first_across(self, split: np.ndarray) -> tuple[int, int, float] | None:
        """Return the first pair of near duplicates that are in different splits, if there is one.

        `split`: shape (texts,), the split of each text as a number.
        """
        seen_in: dict[int, list[int]] = defaultdict(list)
        for number, buckets in grouped(*self.shared_buckets(self.write_bands({}))):
            candidates = {other for bucket in buckets for other in seen_in.get(bucket, ())}
            for other in sorted(other for other in candidates if split[other] != split[number]):
                similarity = self.similarity(number, other)
                if similarity >= self.threshold:
                    return other, number, similarity
            for bucket in buckets:
                seen_in[bucket].append(number)
        return None


def band_hashes(slots: np.ndarray, rows: int) -> np.ndarray:
    """Return one hash a band: (texts, slots) uint64 to (texts, slots // rows) uint64."""
    bands = slots.shape[1] // rows
    cut = slots[:, : bands * rows].reshape(len(slots), bands, rows)
    hashes = np.zeros((len(slots), bands), np.uint64)
    for row in range(rows):
        hashes = (hashes ^ cut[:, :, row]) * MIX
        hashes ^= hashes >> np.uint64(32)
    return hashes


def batches(items: Iterable) -> Iterator[list]:
    """Yield the items in lists of at most `BATCH`."""
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def grouped(member: np.ndarray, bucket: np.ndarray) -> Iterator[tuple[int, list[int]]]:
    """Yield each text with its buckets, from arrays sorted by text."""
    starts = np.flatnonzero(np.r_[True, member[1:] != member[:-1]][: len(member)])
    for start, end in zip(starts, np.r_[starts, len(member)][1:], strict=True):
        yield int(member[start]), bucket[start:end].tolist()


def near_duplicates(
    texts: TextStore,
    size: int,
    threshold: float,
    skipped: dict[int, int],
    images: np.ndarray | None = None,
    seed: int = 1,
) -> dict[int, tuple[int, float]]:
    """Return the near duplicates to remove: number to (number of the text that stays, similarity)."""
    with (
        tempfile.TemporaryDirectory(prefix="snaketune-") as folder,
        NearDuplicates(texts, size, threshold, Path(folder), seed, images) as search,
    ):
        return search.find(skipped)


def pair_across_splits(
    texts: TextStore,
    size: int,
    threshold: float,
    split: np.ndarray,
    images: np.ndarray | None = None,
    seed: int = 2,
) -> tuple[int, int, float] | None:
    """Return the first pair of near duplicates in different splits, found with permutations of another seed."""
    with (
        tempfile.TemporaryDirectory(prefix="snaketune-") as folder,
        NearDuplicates(texts, size, threshold, Path(folder), seed, images) as search,
    ):
        return search.first_across(split)
