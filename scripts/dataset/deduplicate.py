"""Find exact and near duplicates by MinHash and locality-sensitive hashing; each candidate is verified exactly.

Two texts are near duplicates when the Jaccard similarity of their sets of character shingles reaches the threshold;
case and punctuation don't count. Texts about different images are never duplicates.
MinHash signatures (Broder 1997) and the index of their bands (Leskovec, Rajaraman, Ullman: Mining of Massive Datasets,
chapter 3.4) come from rensa: texts that agree in a band are candidates. The index is in memory, texts are on disk.
"""

import hashlib
import json
import unicodedata
from array import array
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
import rensa

from scripts.common.cli import Progress
from scripts.common.records import images_of, text_of

SLOTS = 256
MISS = 1e-8  # largest probability that a pair exactly at the threshold shares no band
BATCH = 256
CACHED = 256  # sets of shingles
DEVIATIONS = 6  # candidates estimated this many standard deviations below the threshold are excluded


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
    """Return the folded text of a row (of `canonical`) to compare: its answer, or questions and answers.

    System messages don't count: a long one that all records share would make all records similar. For a record with
    spans only the text counts: a text annotated twice is a duplicate, and equal short answers such as `[]` are not.
    """
    if row["spans"] is not None:
        return folded(text_of(json.loads(row["messages"])[-2]["content"]))
    if compare == "answer":
        return folded(row["expected"])
    messages = [message for message in json.loads(row["messages"]) if message["role"] != "system"]
    return folded(" ".join(f"{message['role']} {text_of(message['content'])}" for message in messages))


def images_in(row: dict) -> list[str]:
    """Return the images of a row (of `canonical`), in order."""
    return images_of(json.loads(row["messages"])) if '"image"' in row["messages"] else []


def number_of(images: Iterable[str]) -> int:
    """Return a 64-bit hash of image names; 0 if there are none."""
    names = "\n".join(images)
    return int.from_bytes(hashlib.blake2b(names.encode("utf-8"), digest_size=8).digest(), "big") if names else 0


class Fold(dict):
    """Maps each character for comparison; punctuation, white space and control characters become a space."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        self[code] = " " if unicodedata.category(character)[0] in "PZC" else character
        return self[code]


FOLD = Fold()


def folded(text: str) -> str:
    """Return text without case and punctuation; text of punctuation only is returned unchanged."""
    return " ".join(text.casefold().translate(FOLD).split()) or text


class TextStore:
    """Texts in a temporary file, read back by number; each needs 8 bytes of memory."""

    def __init__(self, folder: Path):
        self.file = open(folder / "texts", "w+b")  # noqa: SIM115 (open as long as the store; the folder is temporary)
        self.ends = array("q")
        self.end = 0

    def add(self, text: str) -> None:
        data = text.encode("utf-8")
        self.file.write(data)
        self.end += len(data)
        self.ends.append(self.end)

    def __getitem__(self, number: int) -> str:
        start = self.ends[number - 1] if number else 0
        self.file.seek(start)
        return self.file.read(self.ends[number] - start).decode("utf-8")

    def __len__(self) -> int:
        return len(self.ends)


def exact_duplicates(ids: np.ndarray) -> dict[int, int]:
    """Map each position with a repeated id to the first position of that id. `ids`: shape (n,), uint64."""
    _, places, number = np.unique(ids, return_index=True, return_inverse=True)
    firsts = places[number]
    repeated = np.flatnonzero(firsts != np.arange(len(ids)))
    return dict(zip(repeated.tolist(), firsts[repeated].tolist(), strict=True))


class NearDuplicates:
    """Finds near duplicates among numbered texts, by shingles of `size` characters and a threshold.

    `seed` draws the MinHash permutations. The signatures are written to `folder`, 256 bytes per text. `images`, shape
    (texts,), has `number_of` of each text's images: texts with different numbers share no shingle in the index, so
    thousands of equal questions about different images cost nothing.
    """

    def __init__(self, texts: TextStore, images: np.ndarray, size: int, threshold: float, folder: Path, seed: int):
        self.texts, self.images, self.size, self.threshold, self.seed = texts, images, size, threshold, seed
        # The most slots per band that miss a pair at the threshold with a probability below MISS.
        rows = max((n for n in range(1, 33) if (1 - threshold**n) ** (SLOTS // n) <= MISS), default=1)
        self.slots = SLOTS // rows * rows
        self.index = rensa.RMinHashLSH(threshold, self.slots, self.slots // rows)
        self.shingles = lru_cache(CACHED)(lambda number: shingles(texts[number], size))
        self.sizes = np.zeros(len(texts), np.int32)
        shape = (max(1, len(texts)), self.slots)
        self.signatures = np.memmap(folder / "signatures", np.uint8, "w+", shape=shape)
        self.least_equal = self.slots * threshold - DEVIATIONS * (self.slots * threshold * (1 - threshold)) ** 0.5

    def hashed(self, skipped: dict[int, int]) -> Iterator[tuple[int, rensa.RMinHash]]:
        """Yield the number and MinHash of each text that is not skipped; store its size and signature."""
        bar = Progress("looking for duplicates", len(self.texts) - len(skipped))
        texts = ((number, text) for number, text in enumerate(self.texts) if number not in skipped)
        while batch := list(islice(texts, BATCH)):
            numbers = [number for number, _ in batch]
            sets = [shingles(text, self.size) for _, text in batch]
            self.sizes[numbers] = list(map(len, sets))
            for position, images in enumerate(self.images[numbers].tolist()):
                if images:
                    sets[position] = {f"{images}:{shingle}" for shingle in sets[position]}
            hashes = rensa.RMinHash.from_token_sets(sets, self.slots, self.seed)
            self.signatures[numbers] = np.array([minhash.digest() for minhash in hashes], np.uint32).astype(np.uint8)
            yield from zip(numbers, hashes, strict=True)
            bar.advance(len(batch))

    def similar(self, number: int, minhash: rensa.RMinHash, where: np.ndarray | None = None) -> list[tuple[int, float]]:
        """Return the indexed texts that reach the threshold, with their exact similarities, in ascending order.

        `where`, a mask of shape (texts,), selects the candidates. Sizes and signatures exclude most of them. A
        signature holds the lowest 8 bits of each slot (b-bit minwise hashing, Li and König 2010): equal slots stay
        equal, so signatures underestimate the similarity by no more than the sampling does.
        """
        candidates = sorted(set(self.index.query(minhash)))
        if not candidates:
            return []
        others = np.array(candidates)
        if where is not None:
            others = others[where[others]]
        sizes, size = self.sizes[others], self.sizes[number]
        fitting = np.minimum(sizes, size) >= self.threshold * np.maximum(sizes, size)
        fitting &= self.images[others] == self.images[number]
        others = others[fitting]
        equal = np.count_nonzero(self.signatures[others] == self.signatures[number], axis=1)
        own, found = self.shingles(number), []
        for other in others[equal >= self.least_equal].tolist():
            similarity = jaccard(own, self.shingles(other))
            if similarity >= self.threshold:
                found.append((other, similarity))
        return found

    def find(self, skipped: dict[int, int]) -> dict[int, tuple[int, float]]:
        """Return each text to remove, with the most similar earlier text that is kept, and their similarity."""
        removed = {}
        for number, minhash in self.hashed(skipped):
            found = self.similar(number, minhash)
            if found:
                removed[number] = max(found, key=lambda pair: (pair[1], -pair[0]))
            else:
                self.index.insert(number, minhash)
        return removed

    def first_across(self, split: np.ndarray) -> tuple[int, int, float] | None:
        """Return the first pair of near duplicates in different splits; None if there is none."""
        for number, minhash in self.hashed({}):
            for other, similarity in self.similar(number, minhash, split != split[number]):
                return other, number, similarity
            self.index.insert(number, minhash)
        return None
