"""Hashes of texts that show which pairs may be near duplicates: MinHash signatures, cut into bands.

MinHash (Broder 1997) comes from rensa; two texts are candidates when they agree in a band (Leskovec, Rajaraman, Ullman:
Mining of Massive Datasets, chapter 3.4).
"""

from array import array
from typing import NamedTuple

import numpy as np
import rensa

from scripts.dataset.compared import code_points

FACTOR, MIX = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9  # those of SplitMix64 (splits.py)
PAD = "\ud800"  # half of a surrogate pair, which no text holds
COARSE = 64  # slots of a signature that are kept, 8 bits of each
MOST_ROWS = 32


class Shape(NamedTuple):
    """How a signature is cut: bands of so many slots each, and the seed of its hash functions."""

    bands: int
    rows: int
    seed: int

    @classmethod
    def of(cls, threshold: float, slots: int, miss: float, seed: int) -> "Shape":
        """Return the bands with the most rows that miss a pair at the threshold with a probability below `miss`.

        There are as many bands as that needs, and at least COARSE slots.
        """

        def misses(bands: int, rows: int) -> bool:
            return (1 - threshold**rows) ** bands > miss

        rows = max((n for n in range(1, MOST_ROWS + 1) if not misses(slots // n, n)), default=1)
        enough = (n for n in range(-(-COARSE // rows), slots // rows) if not misses(n, rows))
        return cls(next(enough, slots // rows), rows, seed)


def window_hashes(codes: np.ndarray, size: int, kind: type) -> np.ndarray:
    """Return a hash of each run of `size` code points: shape (codes - size + 1,), of the unsigned `kind`.

    It is a polynomial modulo 2**bits (Karp and Rabin 1987); runs of doubled length are made from two shorter ones.
    """
    codes = codes.astype(kind)
    modulus, half = np.iinfo(kind).max + 1, kind(np.iinfo(kind).bits // 2)
    hashes, length = codes, 1
    for bit in bin(size)[3:]:
        longer = hashes[:-length] * kind(pow(FACTOR, length, modulus))
        longer += hashes[length:]
        hashes, length = longer, 2 * length
        if bit == "1":
            longer = hashes[:-1] * kind(FACTOR % modulus)
            longer += codes[length:]
            hashes, length = longer, length + 1
    # Low bits have met only low bits so far.
    hashes = hashes ^ (hashes >> half)
    hashes *= kind(MIX % modulus)
    hashes ^= hashes >> half
    return hashes


def shingle_hashes(texts: list[str], size: int, kind: type = np.uint32) -> tuple[np.ndarray, np.ndarray]:
    """Return the hashes of all texts' runs of `size` characters, and where each text's start and the last one's end.

    A text of n characters has n hashes, some of them equal. A text shorter than `size` is its only shingle.
    """
    padded = [text if len(text) >= size else text.ljust(size, PAD) for text in texts]
    ends = np.cumsum([len(text) for text in padded])
    found = window_hashes(code_points(padded), size, kind)
    hashes = np.empty(ends[-1], np.uint64)
    hashes[: len(found)] = found
    for short in range(1, size):  # runs that would cross the end of their text repeat the last one that does not
        hashes[ends - short] = hashes[ends - size]
    return hashes, np.concatenate(([0], ends))


def signatures(hashes: np.ndarray, starts: np.ndarray, shape: Shape) -> np.ndarray:
    """Return the MinHash signature of each text: shape (texts, bands * rows), uint32."""
    digest, slots = rensa.RMinHash.digest_matrix_from_flat_token_hashes, array("I")  # NumPy reads lists slower
    for row in digest(hashes, starts.astype(np.uint64), shape.bands * shape.rows, shape.seed).to_rows():
        slots.fromlist(row)
    return np.frombuffer(slots, np.uint32).reshape(-1, shape.bands * shape.rows)


def band_keys(found: np.ndarray, images: np.ndarray, shape: Shape) -> np.ndarray:
    """Return a hash of each band of each signature: shape (bands, texts), uint32.

    `images`, shape (texts,), has `number_of` of each text's images: texts with different images agree in no band, so
    thousands of equal questions about different images cost nothing.
    """
    parts = found.reshape(len(found), shape.bands, shape.rows)
    keys = np.repeat(images[:, None], shape.bands, axis=1)
    for row in range(shape.rows):
        keys ^= parts[:, :, row]
        keys *= np.uint64(FACTOR)
        keys ^= keys >> np.uint64(32)
    return (keys * np.uint64(MIX) >> np.uint64(32)).astype(np.uint32).T


def coarse(found: np.ndarray) -> np.ndarray:
    """Return the lowest 8 bits of the first slots of each signature: shape (texts, COARSE), uint8.

    Equal slots stay equal, so they underestimate the similarity by no more than the sampling does (b-bit minwise
    hashing, Li and König 2010).
    """
    return found[:, :COARSE].astype(np.uint8)
