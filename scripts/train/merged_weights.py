"""Write a safetensors file with some tensors changed: row block by row block, all other bytes copied by the kernel.

A few blocks of rows are in memory, and what a tensor's update holds: for LoRA the product B A in float32, twice the
bytes of a tensor of 16 bits. Changed tensors are read with `preadv`, and no file is mapped into memory.
"""

import json
import os
import struct
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy

from scripts.common.errors import UserError
from scripts.model.safetensors_files import Entry, read_entries
from scripts.train.float32 import FLOATS, narrowed, widened

BLOCK = 1 << 16  # values of a block: in float32, its 256 KB and those of intermediate results stay in a core's cache
Update = Callable  # of the shape: a function of rows of the weight and their slice, which returns the merged rows


class Scratch:
    """Memory for one tensor at a time in float32; the next tensor's values replace those of the last.

    Fresh memory for each product B A would take three times as long as the product.
    """

    def __init__(self):
        self.values = numpy.empty(0, numpy.float32)

    def matrix(self, rows: int, columns: int) -> numpy.ndarray:
        """Return an uninitialized matrix."""
        if self.values.size < rows * columns:
            self.values = None  # the smaller one is freed first
            self.values = numpy.empty(rows * columns, numpy.float32)
        return self.values[: rows * columns].reshape(rows, columns)


class StoredTensor:
    """A tensor in a safetensors file, which is read at each call of `load`."""

    def __init__(self, path: Path, entry: Entry):
        self.path, self.entry = path, entry

    def load(self) -> numpy.ndarray:
        """Return the tensor in float32."""
        stored = numpy.empty(self.entry.shape, array_type(self.path, self.entry))
        with open(self.path, "rb", buffering=0) as file:
            read_at(file.fileno(), bytes_of(stored), self.entry.start)
        return widened(stored).astype(numpy.float32, copy=False)


def array_type(path: Path, entry: Entry) -> type:
    """Return the type of an array that holds a tensor; raises UserError if it is not a plain floating-point format."""
    if entry.dtype not in FLOATS:
        raise UserError(f"holds a tensor in {entry.dtype}, which can't be merged", path)
    return FLOATS[entry.dtype]


def bytes_of(array: numpy.ndarray) -> memoryview:
    """Return the memory of a contiguous array."""
    return memoryview(array.reshape(-1).view(numpy.uint8))


def read_at(source: int, buffer: memoryview, place: int) -> None:
    """Fill a buffer from an open file; raises OSError if the file ends before."""
    while buffer:
        count = os.preadv(source, [buffer], place)
        if not count:
            raise OSError("the file has become shorter")
        buffer, place = buffer[count:], place + count


def copy_bytes(source: int, target: int, start: int, end: int) -> None:
    """Append the bytes [start, end) of an open file to another; they do not pass through this process."""
    while start < end:
        try:
            count = os.copy_file_range(source, target, end - start, start)
        except OSError:  # not on this file system, or between two
            count = os.sendfile(target, source, start, end - start)
        if not count:
            raise OSError("the file has become shorter")
        start += count


def write_weights(
    source: Path, target: Path, updates: Mapping[str, Update], names: Collection[str] = (), threads: int = 2
) -> None:
    """Write the tensors `names` (default: all) of a file to another, those in `updates` changed.

    Order, number formats and metadata stay. Raises UserError for a tensor in a format that can't be merged.
    """
    entries, metadata = read_entries(source)
    kept = {name: entry for name, entry in entries.items() if not names or name in names}
    with (
        open(source, "rb", buffering=0) as file,
        open(target, "wb", buffering=0) as result,
        ThreadPoolExecutor(threads) as pool,
    ):
        result.write(header_of(kept, metadata))
        start = end = 0  # of bytes to copy
        for name, entry in kept.items():
            if name not in updates and entry.start == end:
                end = entry.end
                continue
            copy_bytes(file.fileno(), result.fileno(), start, end)
            start = end = entry.end
            if name in updates:
                changed = Changed(file.fileno(), result.fileno(), entry, array_type(source, entry), updates[name])
                changed.write(pool, threads)
            else:
                start = entry.start
        copy_bytes(file.fileno(), result.fileno(), start, end)


def header_of(entries: Mapping[str, Entry], metadata: dict) -> bytes:
    """Return the header of a file that holds tensors one after the other, padded to 8 bytes as safetensors does."""
    header, place = {"__metadata__": metadata} if metadata else {}, 0
    for name, entry in entries.items():
        size = entry.end - entry.start
        header[name] = {"dtype": entry.dtype, "shape": entry.shape, "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


class Changed:
    """A tensor of an open file that is appended to another, changed."""

    def __init__(self, source: int, target: int, entry: Entry, dtype: type, update: Update):
        self.source, self.target, self.dtype, self.entry = source, target, dtype, entry
        self.width = (entry.end - entry.start) // entry.shape[0]  # bytes of a row
        self.place = os.lseek(target, 0, os.SEEK_CUR)
        self.merge = update(entry.shape)

    def write(self, pool: ThreadPoolExecutor, threads: int) -> None:
        """Append the tensor; each thread writes one part of its rows."""
        rows = self.entry.shape[0]
        bounds = [rows * number // threads for number in range(threads + 1)]
        list(pool.map(self.write_rows, bounds[:-1], bounds[1:]))
        os.lseek(self.target, self.place + rows * self.width, os.SEEK_SET)

    def write_rows(self, start: int, end: int) -> None:
        """Write the rows [start, end), by blocks."""
        step = max(1, BLOCK * numpy.dtype(self.dtype).itemsize // self.width)
        block = numpy.empty((step, *self.entry.shape[1:]), self.dtype)
        for first in range(start, end, step):
            stored = block[: min(step, end - first)]
            read_at(self.source, bytes_of(stored), self.entry.start + first * self.width)
            with numpy.errstate(all="ignore"):  # infinite and undefined values are stored as such
                merged = narrowed(self.merge(widened(stored), slice(first, first + len(stored))), self.dtype)
            data, place = bytes_of(numpy.ascontiguousarray(merged)), self.place + first * self.width
            while data:
                count = os.pwrite(self.target, data, place)
                data, place = data[count:], place + count
