"""Write a safetensors file with some tensors changed: row block by row block, all other bytes copied by the kernel.

In memory are a block for each thread and what an update holds, such as the matrices of the adapter. Changed tensors are
mapped into memory when their turn comes.
"""

import itertools
import json
import math
import os
import struct
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy

from scripts.common.errors import UserError
from scripts.common.float32 import FLOATS, narrow, widen
from scripts.model.safetensors_files import Entry, read_entries

BLOCK = 1 << 19  # values of a block: with fewer, threads wait longer for each other between numpy's functions
ROWS = 16  # of a block at least: BLAS computes a product of one row in another way, with another last bit
Update = Callable  # of the shape: a function that merges a weight's rows: (their values, their slice, out), in float32


class Memory:
    """A thread's memory for a block, which the next block uses again: new memory would take as long as all else."""

    def __init__(self):
        self.made: dict[str, numpy.ndarray] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: type) -> numpy.ndarray:
        """Return an uninitialized array, which the next call with this name overwrites."""
        size = math.prod(shape)
        if name not in self.made or self.made[name].size < size or self.made[name].dtype != dtype:
            self.made[name] = numpy.empty(size, dtype)
        return self.made[name][:size].reshape(shape)


class StoredTensor:
    """A tensor in a safetensors file, which is read at each call of `load`."""

    def __init__(self, path: Path, entry: Entry):
        self.path, self.entry = path, entry

    def load(self) -> numpy.ndarray:
        """Return the tensor in float32."""
        stored = stored_values(self.path, self.entry)
        values = numpy.empty(stored.shape, numpy.float32)
        widen(stored, values)
        return values


def stored_values(path: Path, entry: Entry) -> numpy.ndarray:
    """Return a tensor of a file, mapped into memory, in a format of `FLOATS`; raises UserError if it is in another."""
    if entry.dtype not in FLOATS:
        raise UserError(f"holds a tensor in {entry.dtype}, which can't be merged", path)
    return numpy.memmap(path, FLOATS[entry.dtype], "r", entry.start, entry.shape).view(numpy.ndarray)


def copy_bytes(source: int, target: int, start: int, end: int) -> None:
    """Write the bytes [start, end) of an open file at the position of another, by the kernel."""
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
    header = header_of(kept, metadata)
    starts = itertools.accumulate((entry.end - entry.start for entry in kept.values()), initial=len(header))
    places = dict(zip(kept, starts, strict=False))  # in the new file
    with (
        open(source, "rb", buffering=0) as file,
        open(target, "wb", buffering=0) as result,
        ThreadPoolExecutor(threads) as pool,
    ):
        result.write(header)
        changed = ((stored_values(source, kept[name]), updates[name], places[name]) for name in kept if name in updates)
        blocks = Shared(itertools.chain.from_iterable(itertools.starmap(blocks_of, changed)))
        merging = [pool.submit(write_blocks, blocks, result.fileno()) for _ in range(threads)]
        for name, entry in kept.items():
            if name not in updates:
                result.seek(places[name])
                copy_bytes(file.fileno(), result.fileno(), entry.start, entry.end)
        for part in merging:
            part.result()


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


class Block(NamedTuple):
    """Rows of a weight, how they are merged, and where their bytes are written."""

    weight: numpy.ndarray
    merge: Callable
    rows: slice
    place: int


def blocks_of(weight: numpy.ndarray, update: Update, place: int) -> Iterator[Block]:
    """Yield the blocks of a weight [rows, ...], written from `place` on, whatever the number of threads."""
    merge, rows = update(weight.shape), len(weight)
    count = max(rows // max(BLOCK * rows // weight.size, ROWS), 1)
    for start, end in itertools.pairwise(rows * number // count for number in range(count + 1)):
        yield Block(weight[start:end], merge, slice(start, end), place + weight[:start].nbytes)


class Shared:
    """An iterator from which several threads take."""

    def __init__(self, items: Iterator):
        self.items, self.lock = items, threading.Lock()

    def __iter__(self) -> "Shared":
        return self

    def __next__(self):
        with self.lock:
            return next(self.items)


def write_blocks(blocks: Iterable[Block], target: int) -> None:
    """Merge blocks and write them to an open file."""
    memory = Memory()
    with numpy.errstate(all="ignore"):  # infinite and undefined values are stored as such
        for weight, merge, rows, place in blocks:
            values, merged = (memory.array(name, weight.shape, numpy.float32) for name in ("values", "merged"))
            stored = memory.array("stored", weight.shape, weight.dtype)
            widen(weight, values)
            merge(values, rows, merged)
            narrow(merged, stored, spare=values)
            data = memoryview(stored.reshape(-1).view(numpy.uint8))
            while data:
                count = os.pwrite(target, data, place)
                data, place = data[count:], place + count
