"""Read the ingested records once, in several processes: of each the text that is compared, its keys and signatures."""

from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scripts.common.cli import Progress
from scripts.common.pool import FEW, in_order
from scripts.dataset.canonical import read_row_group, row_count, row_group_count
from scripts.dataset.compared import folded, images_in, number_of, raw_compared_text
from scripts.dataset.deduplicate import NearDuplicates, TextStore
from scripts.dataset.sketches import COARSE, Shape, band_keys, coarse, shingle_hashes, signatures
from scripts.dataset.splits import key_of

COLUMNS = ("id", "group", "messages", "spans")
ROWS = 256  # sketched at once; with 4096 the arrays leave the CPU's cache, and a row takes twice as long
SLOTS = 264  # of a signature, at most
MISS = 1e-4  # probability that a pair exactly at the threshold shares no band, at most
SEED = 1


class Sketched(NamedTuple):
    """What is kept in memory of some rows: ids and keys (uint64), number of images, coarse signatures, keys of bands.

    `texts` are all compared texts as UTF-8, `lengths` the number of bytes of each.
    """

    ids: np.ndarray
    keys: np.ndarray
    images: np.ndarray
    coarse: np.ndarray
    bands: np.ndarray
    texts: bytes
    lengths: np.ndarray


def shape_of(settings: dict) -> Shape:
    """Return the shape of the signatures."""
    return Shape.of(settings["threshold"], SLOTS, MISS, SEED)


def split_key(row: dict, compare: str) -> int:
    """Return the key that decides the split of a row."""
    return key_of(row["group"], folded([raw_compared_text(row, compare)])[0].encode("utf-8"), images_in(row))


def sketched_group(ingested: Path, settings: dict, group: int) -> list[Sketched]:
    """Return what is kept in memory of a row group, in order; `settings` is `deduplicate` of the dataset's settings."""
    columns = (*COLUMNS, "expected") if settings["compare"] == "answer" else COLUMNS
    rows = read_row_group(ingested, group, columns).to_pylist()
    return [sketched(settings, rows[start : start + ROWS]) for start in range(0, len(rows), ROWS)]


def sketched(settings: dict, rows: list[dict]) -> Sketched:
    """Return what is kept in memory of some rows."""
    texts = folded([raw_compared_text(row, settings["compare"]) for row in rows])
    names = [images_in(row) for row in rows]
    images = np.array([number_of(each) for each in names], np.uint64)
    encoded = [text.encode("utf-8") for text in texts]
    keys = [key_of(row["group"], text, each) for row, text, each in zip(rows, encoded, names, strict=True)]
    hashes, starts = shingle_hashes(texts, settings["shingle"])
    shape = shape_of(settings)
    found = signatures(hashes, starts, shape)
    return Sketched(
        np.array([int(row["id"], 16) for row in rows], np.uint64),
        np.array(keys, np.uint64),
        images,
        coarse(found),
        band_keys(found, images, shape),
        b"".join(encoded),
        np.array([len(each) for each in encoded]),
    )


class ComparedTexts:
    """The compared texts of all rows, on disk, and what of each is in memory (`Sketched`).

    Each takes 220 bytes at the default threshold, and 380 at 0.5: 4 for each band, COARSE, 8 for a bit of each coarse
    slot, and 32 for three numbers and the place of its text. A search needs 8 more for each pair of candidates, and for
    each dense group of the record.
    """

    def __init__(self, ingested: Path, settings: dict, folder: Path, processes: int):
        self.settings, self.texts, self.processes = settings, TextStore(folder), processes
        rows = row_count(ingested)
        self.ids, self.keys, self.images = (np.zeros(rows, np.uint64) for _ in range(3))
        self.coarse = np.zeros((rows, COARSE), np.uint8)
        self.bands = np.zeros((shape_of(settings).bands, rows), np.uint32)
        bar, start = Progress("comparing", rows), 0
        processes = processes if rows >= FEW else 1
        groups = range(row_group_count(ingested))
        for part in chain.from_iterable(in_order(partial(sketched_group, ingested, settings), groups, processes)):
            place = slice(start, start + len(part.ids))
            self.ids[place], self.keys[place], self.images[place] = part.ids, part.keys, part.images
            self.coarse[place], self.bands[:, place] = part.coarse, part.bands
            self.texts.add(part.texts, part.lengths)
            start = place.stop
            bar.advance(len(part.ids))

    def search(self) -> NearDuplicates:
        """Return the search for near duplicates."""
        size, threshold = self.settings["shingle"], self.settings["threshold"]
        return NearDuplicates(self.texts, self.bands, self.coarse, self.images, size, threshold, self.processes)
