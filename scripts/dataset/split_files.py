"""Write the files of a split dataset in one pass over its rows: records, splits with augmented records, duplicates."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from scripts.common.cli import Progress
from scripts.common.files import atomic_path
from scripts.common.pool import AHEAD, results
from scripts.common.records import SPLITS
from scripts.dataset.augment import Augmenter
from scripts.dataset.canonical import (
    COLUMNS,
    ROWS,
    TEXT,
    from_row,
    json_lines,
    read_batches,
    read_rows,
    row_writer,
    rows_at,
    value_of,
    with_columns,
)

if TYPE_CHECKING:
    from pyarrow import RecordBatch, StringArray

REMOVED = -1  # in the place of a row's split


class Duplicates:
    """Makes the lines of the removed rows: each has its content, its origin, and the record that it duplicates.

    `found` is that of `duplicates_of`: a row repeats one before it.
    """

    def __init__(self, found: dict[int, tuple[int, str, float]]):
        self.found = found
        kept = {first for first, _, _ in found.values()}
        self.numbers = [np.array(sorted(numbers), np.int64) for numbers in (kept, found)]
        self.known: dict[int, dict] = {}  # kept rows that others repeat

    def lines(self, batch: "RecordBatch", start: int) -> Iterator[str]:
        """Yield the lines of the next batch of all rows; `start` is the number of its first row."""
        of_kept, of_removed = (
            numbers[slice(*np.searchsorted(numbers, (start, start + len(batch))))] for numbers in self.numbers
        )
        for number, row in zip(of_kept.tolist(), rows_at(batch, of_kept - start).to_pylist(), strict=True):
            self.known[number] = {name: row[name] for name in ("id", "origin", "label", "spans")}
            if row["spans"] is not None:
                self.known[number]["messages"] = row["messages"]
        batch = rows_at(batch, of_removed - start)
        for number, row, text in zip(
            of_removed.tolist(), batch.to_pylist(), json_lines(batch).to_pylist(), strict=True
        ):
            first, kind, similarity = self.found[number]
            other = self.known[first]
            line = {
                "origin": row["origin"],
                "kind": kind,
                "similarity": round(similarity, 4),
                "label": row["label"],
                "spans_differ": row["spans"] not in (None, other["spans"]) and same_prompt(row, other),
                "expected": row["expected"],
                "duplicate_of": {key: other[key] for key in ("id", "origin", "label")},
            }
            head = TEXT(line)
            yield f'{head[:-1]}, "record": {text.rstrip()}}}\n'


def same_prompt(row: dict, other: dict) -> bool:
    """Return whether all messages but the last one of two rows are the same."""
    return value_of(row["messages"])[:-1] == value_of(other["messages"])[:-1]


class Variants:
    """Makes the augmented records of the training split; `ids` are those of all kept records."""

    def __init__(self, settings: dict, ids: set[str]):
        self.augmenter, self.known, self.count = Augmenter(settings), ids, 0

    def added(self, batch: "RecordBatch", lines: "StringArray") -> "StringArray":
        """Return the lines of rows, each followed by those of its variants."""
        import pyarrow

        rows = zip(lines.to_pylist(), batch.to_pylist(), strict=True)
        return pyarrow.array(["".join([line, *self.lines(row)]) for line, row in rows], pyarrow.string())

    def lines(self, row: dict) -> Iterator[str]:
        """Yield the variants of a row of the training split as lines of JSON."""
        if row["split"] != "train":
            return
        for each in self.augmenter.variants(from_row(row)):
            if each.id not in self.known:
                self.known.add(each.id)
                self.count += 1
                yield TEXT(each.to_row()) + "\n"


def write_splits(
    ingested: Path, split: np.ndarray, found: dict[int, tuple[int, str, float]], settings: dict, files: dict[str, Path]
) -> int:
    """Write all files, whose names are those of the splits, `records` and `duplicates`; return the augmented records.

    `split` has an index into SPLITS, or REMOVED, for each ingested row; for `found` see `Duplicates`.
    """
    variants = None
    if settings["augment"]:
        rows = zip(read_rows(ingested, ("id",)), split.tolist(), strict=True)
        variants = Variants(settings["augment"], {row["id"] for row, number in rows if number != REMOVED})
    duplicates, repeated = Duplicates(found), Counter()
    with ExitStack() as stack:

        def file_of(name: str) -> BinaryIO:
            return stack.enter_context(open(stack.enter_context(atomic_path(files[name])), "wb"))

        records = stack.enter_context(row_writer(files["records"], (*COLUMNS, "split")))
        removed, of_splits = file_of("duplicates"), {name: file_of(name) for name in SPLITS}
        thread = stack.enter_context(ThreadPoolExecutor(1))
        bar = Progress("writing", len(split))

        def kept() -> Iterator["RecordBatch"]:
            """Write all rows but the lines of the splits, and yield those that stay."""
            start = 0
            for batch in read_batches(ingested, rows=ROWS):
                removed.writelines(line.encode("utf-8") for line in duplicates.lines(batch, start))
                numbers = split[start : start + len(batch)]
                start += len(batch)
                bar.advance(len(batch))
                stays = numbers != REMOVED
                batch = rows_at(batch, stays.nonzero()[0])
                columns = {"split": [SPLITS[number] for number in numbers[stays].tolist()]}
                if not settings["deduplicate"]["exact"]:  # the n-th copy gets an id of its own
                    columns["id"] = batch["id"].to_pylist()
                    for place, own in enumerate(columns["id"]):
                        repeated[own] += 1
                        columns["id"][place] += f"-{repeated[own]}" if repeated[own] > 1 else ""
                batch = with_columns(batch, **columns)
                records.write_batch(batch)
                yield batch

        for _ in results(partial(thread.submit, write_lines, variants, of_splits), kept(), AHEAD):
            pass
    return variants.count if variants else 0


def write_lines(variants: Variants | None, files: dict[str, BinaryIO], batch: "RecordBatch") -> None:
    """Write rows, and variants of those for training, as lines of JSON to the files of their splits."""
    import pyarrow
    from pyarrow import compute

    lines = json_lines(batch)
    if variants:
        lines = variants.added(batch, lines)
    for name, file in files.items():
        own = lines.filter(compute.equal(batch["split"], name))
        whole = pyarrow.ListArray.from_arrays(pyarrow.array([0, len(own)], pyarrow.int32()), own)
        file.write(compute.binary_join(whole, "")[0].as_buffer())
