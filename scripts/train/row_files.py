"""Files of tokenized rows, which the trainers read: Arrow's streaming format, which `datasets` maps into memory."""

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow

from scripts.common.files import atomic_path

NUMBERS = pyarrow.list_(pyarrow.int32())
COLUMNS = {"id": pyarrow.string(), "input_ids": NUMBERS, "labels": NUMBERS}
VISION_COLUMNS = {**COLUMNS, "images": pyarrow.list_(pyarrow.string())}


def write_arrow(path: Path, rows: Iterator[dict], columns: dict, rows_per_batch: int = 1000) -> None:
    """Stream rows into an Arrow file, as `write_batches` does. `columns` maps names to Arrow types."""
    rows = iter(rows)
    batches = iter(lambda: list(itertools.islice(rows, rows_per_batch)), [])
    write_batches(path, (record_batch(batch, columns) for batch in batches), columns)


def write_batches(path: Path, batches: Iterable[pyarrow.RecordBatch], columns: dict) -> None:
    """Stream batches into an Arrow file (streaming format, which `datasets` maps into memory), written atomically."""
    with (
        atomic_path(path) as beside,
        pyarrow.OSFile(str(beside), "wb") as sink,
        pyarrow.ipc.new_stream(sink, pyarrow.schema(columns)) as writer,
    ):
        for batch in batches:
            writer.write_batch(batch)


def record_batch(rows: list[dict], columns: dict) -> pyarrow.RecordBatch:
    """Return rows as a batch; `columns` maps names to Arrow types, and numbers may be lists or arrays."""
    values = {name: [row[name] for row in rows] for name in columns}
    arrays = [
        lists_of_numbers(values[name]) if kind == NUMBERS else pyarrow.array(values[name], kind)
        for name, kind in columns.items()
    ]
    return pyarrow.RecordBatch.from_arrays(arrays, schema=pyarrow.schema(columns))


def lists_of_numbers(rows: list) -> pyarrow.ListArray:
    """Return lists or arrays of numbers as an Arrow array of lists, without pyarrow's import of pandas for arrays."""
    numbers = np.concatenate([np.empty(0, np.int32), *(np.asarray(row, np.int32) for row in rows)])
    ends = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    found, offsets = (
        pyarrow.Array.from_buffers(pyarrow.int32(), len(each), [None, pyarrow.py_buffer(each)])
        for each in (numbers, ends)
    )
    return pyarrow.ListArray.from_arrays(offsets, found)
