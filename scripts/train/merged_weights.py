"""Write a safetensors file with some tensors changed: row block by row block, all other bytes copied by the kernel.

One block of rows is in memory, and what its update holds: for LoRA the product B A of that tensor in float32, twice the
bytes of a tensor of 16 bits. Changed tensors are read with `preadv` into one buffer, and no file is mapped into memory.
"""

import json
import os
import struct
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from scripts.common.errors import UserError
from scripts.model.safetensors_files import Entry, read_entries

BLOCK = 1 << 20  # values of a block: in float32, its 4 MB stay in a core's cache or the shared one
FLOATS = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}
Update = Callable  # of the shape: a function of rows of the weight and their slice, which returns the merged rows


class StoredTensor:
    """A tensor in a safetensors file, which is read at each call of `load`."""

    def __init__(self, path: Path, entry: Entry):
        self.path, self.entry = path, entry

    def load(self):
        """Return the tensor in float32."""
        import torch

        buffer = bytearray(self.entry.end - self.entry.start)
        with open(self.path, "rb", buffering=0) as file:
            read_at(file.fileno(), memoryview(buffer), self.entry.start)
        return torch.frombuffer(buffer, dtype=torch_type(self.path, self.entry)).view(self.entry.shape).float()


def torch_type(path: Path, entry: Entry):
    """Return a tensor's torch number format; raises UserError if it is not a plain floating-point format."""
    import torch

    if entry.dtype not in FLOATS:
        raise UserError(f"holds a tensor in {entry.dtype}, which can't be merged", path)
    return getattr(torch, FLOATS[entry.dtype])


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


def write_weights(source: Path, target: Path, updates: Mapping[str, Update], names: Collection[str] = ()) -> None:
    """Write the tensors `names` (default: all) of a file to another, those in `updates` changed.

    Order, number formats and metadata stay. Raises UserError for a tensor in a format that can't be merged.
    """
    entries, metadata = read_entries(source)
    kept = {name: entry for name, entry in entries.items() if not names or name in names}
    with open(source, "rb", buffering=0) as file, open(target, "wb", buffering=0) as result:
        result.write(header_of(kept, metadata))
        start = end = 0  # of bytes to copy
        for name, entry in kept.items():
            if name not in updates and entry.start == end:
                end = entry.end
                continue
            copy_bytes(file.fileno(), result.fileno(), start, end)
            start = end = entry.end
            if name in updates:
                write_changed(file.fileno(), result.fileno(), entry, torch_type(source, entry), updates[name])
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


def write_changed(source: int, target: int, entry: Entry, dtype, update: Update) -> None:
    """Append a changed tensor to an open file, by blocks of rows."""
    import torch

    rows = entry.shape[0]
    width = (entry.end - entry.start) // rows  # bytes of a row
    step = max(1, min(rows, BLOCK * dtype.itemsize // width))
    block = torch.empty(step * width, dtype=torch.uint8)
    merge = update(entry.shape)
    for first in range(0, rows, step):
        count = min(step, rows - first)
        part = block[: count * width]
        read_at(source, memoryview(part.numpy()), entry.start + first * width)
        changed = merge(part.view(dtype).view(count, *entry.shape[1:]), slice(first, first + count))
        data = memoryview(changed.contiguous().view(-1).view(torch.uint8).numpy())
        while data:
            data = data[os.write(target, data) :]
