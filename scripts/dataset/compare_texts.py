"""Read the ingested records once, in several processes: of each the text that is compared, its keys and signatures."""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from scripts.common.cli import Progress
from scripts.dataset.canonical import read_batches, row_count
from scripts.dataset.compared import folded, images_in, number_of, raw_compared_text
from scripts.dataset.deduplicate import NearDuplicates, TextStore
from scripts.dataset.pool import FEW, in_order
from scripts.dataset.sketches import COARSE, Shape, band_keys, coarse, shingle_hashes, signatures
from scripts.dataset.splits import key_of

if TYPE_CHECKING:
    from pyarrow import RecordBatch

COLUMNS = ("id", "group", "messages", "expected", "spans")
ROWS, TEXT = 1024, 4 * 2**20  # at most, of a batch: rows, and bytes of messages
# The largest signature, in slots, and the largest probability that a pair exactly at the threshold shares no band.
REMOVAL, CHECK = (256, 1e-6), (128, 1e-3)


class Sketched(NamedTuple):
    """What is kept in memory of some rows: ids and keys (uint64), number of images, coarse signatures, keys of bands.

    `removal` are the keys of the search for duplicates to remove (None: it is off), `check` those of the search for
    pairs in different splits. `texts` are all compared texts as UTF-8, `lengths` the number of bytes of each.
    """

    ids: np.ndarray
    keys: np.ndarray
    images: np.ndarray
    coarse: np.ndarray
    removal: np.ndarray
    check: np.ndarray
    texts: bytes
    lengths: np.ndarray


def shapes_of(settings: dict) -> tuple[Shape | None, Shape]:
    """Return the shapes of the signatures for removal (None: it is off) and for the check, with seeds of their own."""
    removal = Shape.of(settings["threshold"], *REMOVAL, seed=1) if settings["near"] else None
    return removal, Shape.of(settings["threshold"], *CHECK, seed=2)


def split_key(row: dict, compare: str) -> int:
    """Return the key that decides the split of a row."""
    return key_of(row["group"], folded([raw_compared_text(row, compare)])[0], images_in(row))


def sketched(settings: dict, batch: "RecordBatch") -> Sketched:
    """Return what is kept in memory of a batch of rows; `settings` is `deduplicate` of the dataset's settings."""
    rows = batch.to_pylist()
    texts = folded([raw_compared_text(row, settings["compare"]) for row in rows])
    names = [images_in(row) for row in rows]
    images = np.array([number_of(each) for each in names], np.uint64)
    keys = [key_of(row["group"], text, each) for row, text, each in zip(rows, texts, names, strict=True)]
    hashes, starts = shingle_hashes(texts, settings["shingle"])
    removal, check = shapes_of(settings)
    found = signatures(hashes, starts, check)
    encoded = [text.encode("utf-8") for text in texts]
    return Sketched(
        np.array([int(row["id"], 16) for row in rows], np.uint64),
        np.array(keys, np.uint64),
        images,
        coarse(found),
        band_keys(signatures(hashes, starts, removal), images, removal) if removal else np.zeros((0, len(rows))),
        band_keys(found, images, check),
        b"".join(encoded),
        np.array([len(each) for each in encoded]),
    )


def parts_of(batches: Iterable["RecordBatch"]) -> Iterator["RecordBatch"]:
    """Yield batches of rows in parts of at most TEXT bytes of messages, or one row more."""
    from pyarrow.compute import binary_length

    for batch in batches:
        ends = np.cumsum(binary_length(batch["messages"]).to_numpy()) // TEXT
        starts = np.flatnonzero(np.diff(ends)) + 1
        for start, end in pairwise([0, *starts.tolist(), len(ends)]):
            yield batch.slice(start, end - start)


class ComparedTexts:
    """The compared texts of all rows, on disk, and what of each is in memory (`Sketched`).

    Each takes 312 bytes at the default threshold, and 864 at 0.5: 4 for each band of both shapes, COARSE, and 32 for
    three numbers and the place of its text. A search needs 8 more for each pair of candidates, and for each band where
    the record is in a group of more than SMALL.
    """

    def __init__(self, ingested: Path, settings: dict, folder: Path, processes: int):
        self.settings, self.texts = settings, TextStore(folder)
        rows = row_count(ingested)
        removal, check = shapes_of(settings)
        self.ids, self.keys, self.images = (np.zeros(rows, np.uint64) for _ in range(3))
        self.coarse = np.zeros((rows, COARSE), np.uint8)
        self.removal = np.zeros((removal.bands if removal else 0, rows), np.uint32)
        self.check = np.zeros((check.bands, rows), np.uint32)
        bar, start = Progress("comparing", rows), 0
        processes = processes if rows >= FEW else 1
        batches = parts_of(read_batches(ingested, COLUMNS, ROWS))
        for part in in_order(partial(sketched, settings), batches, processes):
            place = slice(start, start + len(part.ids))
            self.ids[place], self.keys[place], self.images[place] = part.ids, part.keys, part.images
            self.coarse[place], self.removal[:, place], self.check[:, place] = part.coarse, part.removal, part.check
            self.texts.add(part.texts, part.lengths)
            start = place.stop
            bar.advance(len(part.ids))

    def search(self, keys: np.ndarray) -> NearDuplicates:
        """Return the search for near duplicates by keys of bands, `removal` or `check`."""
        size, threshold = self.settings["shingle"], self.settings["threshold"]
        return NearDuplicates(self.texts, keys, self.coarse, self.images, size, threshold)
