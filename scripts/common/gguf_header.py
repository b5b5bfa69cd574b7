"""The head of a GGUF file, checked in Python: native code is given no file whose counts and sizes don't add up.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
import mmap
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.common.errors import UserError

MAGIC, VERSIONS = b"GGUF", (2, 3)
MOST_ENTRIES, MOST_DIMENSIONS, DEFAULT_ALIGNMENT = 1 << 20, 4, 32
SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
TEXT, ARRAY = 8, 9

# Weights in a block and bytes of a block, by tensor type (ggml.h and ggml-common.h).
BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
    23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
    34: (256, 54), 35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18),
}  # fmt: skip


@dataclass
class Tensor:
    """One tensor's entry: shape (the row's length first), type number, and place in bytes from the data's start."""

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int
    bytes: int


@dataclass
class Header:
    """What a GGUF file says of itself; array values are left out of `values`, their lengths are in `arrays`.

    `places` has each metadata entry's [start, end) in bytes, in the file's order; `tensor_place` is that of the list
    of tensors.
    """

    version: int
    values: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, int] = field(default_factory=dict)
    places: dict[str, tuple[int, int]] = field(default_factory=dict)
    tensors: list[Tensor] = field(default_factory=list)
    tensor_place: tuple[int, int] = (0, 0)
    alignment: int = DEFAULT_ALIGNMENT
    data_start: int = 0

    @property
    def parameters(self) -> int:
        """The number of weights."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors)


class Cursor:
    """Reads little-endian values from a buffer and never past its end."""

    def __init__(self, buffer, path: Path):
        self.buffer, self.path, self.place = buffer, path, 0

    def fault(self, what: str) -> UserError:
        """Return the error of a file that is no sound GGUF."""
        return UserError(
            f"is no sound GGUF file: {what}",
            self.path,
            remedy="make it again or fetch it again",
        )

    def skip(self, count: int) -> int:
        """Move on by so many bytes; return where they begin."""
        start = self.place
        if count < 0 or start + count > len(self.buffer):
            raise self.fault(f"it ends at byte {len(self.buffer)}, but byte {start + count} is announced")
        self.place = start + count
        return start

    def number(self, code: str) -> Any:
        """Read one number of a `struct` code."""
        size = struct.calcsize("<" + code)
        return struct.unpack_from("<" + code, self.buffer, self.skip(size))[0]

    def text(self) -> str:
        """Read one length-prefixed UTF-8 text."""
        length = self.number("Q")
        start = self.skip(length)
        try:
            return self.buffer[start : start + length].decode("utf-8")
        except UnicodeDecodeError:
            raise self.fault(f"the text at byte {start} is not UTF-8") from None

    def value(self, kind: int) -> Any:
        """Read one scalar or text."""
        if kind == TEXT:
            return self.text()
        if kind not in SCALARS:
            raise self.fault(f"value type {kind} at byte {self.place} does not exist")
        return self.number(SCALARS[kind])

    def array(self) -> int:
        """Pass over an array; return its length."""
        kind, length = self.number("I"), self.number("Q")
        if kind in SCALARS:
            self.skip(length * struct.calcsize("<" + SCALARS[kind]))
        elif kind == TEXT and length <= len(self.buffer):
            for _ in range(length):
                self.skip(self.number("Q"))
        else:
            raise self.fault(f"the array at byte {self.place} has type {kind} and {length} entries")
        return length


def read_header(path: Path | str) -> Header:
    """Read and check a GGUF file's head: magic, version, counts, and that every tensor lies within the file.

    Raises UserError for a file that is missing, cut off, or no GGUF.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError("is missing", path)
    with open(path, "rb") as file:
        if file.read(4) != MAGIC:
            raise UserError("is no GGUF file: it does not begin with 'GGUF'", path)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
            return header_of(Cursor(buffer, path))


def header_of(cursor: Cursor) -> Header:
    """Read the head that a cursor stands at the start of."""
    cursor.skip(len(MAGIC))
    header = Header(cursor.number("I"))
    if header.version not in VERSIONS:
        raise cursor.fault(f"version {header.version} is not among {', '.join(map(str, VERSIONS))}")
    tensors, values = cursor.number("Q"), cursor.number("Q")
    if max(tensors, values) > MOST_ENTRIES:
        raise cursor.fault(f"it announces {tensors} tensors and {values} metadata entries")
    for _ in range(values):
        start = cursor.place
        key, kind = cursor.text(), cursor.number("I")
        if key in header.places:
            raise cursor.fault(f"the key '{key}' stands in it twice")
        if kind == ARRAY:
            header.arrays[key] = cursor.array()
        else:
            header.values[key] = cursor.value(kind)
        header.places[key] = (start, cursor.place)
    alignment = header.values.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 8 or alignment % 8:
        raise cursor.fault(f"general.alignment is {alignment}, not a multiple of 8")
    header.alignment = alignment
    start = cursor.place
    header.tensors = [read_tensor(cursor) for _ in range(tensors)]
    header.tensor_place = (start, cursor.place)
    header.data_start = -(-cursor.place // alignment) * alignment
    for tensor in header.tensors:
        end = header.data_start + tensor.offset + tensor.bytes
        if tensor.offset % alignment or end > len(cursor.buffer):
            raise cursor.fault(f"tensor '{tensor.name}' ends at byte {end} of {len(cursor.buffer)}")
    return header


def read_tensor(cursor: Cursor) -> Tensor:
    """Read one tensor's entry."""
    name, dimensions = cursor.text(), cursor.number("I")
    if not 1 <= dimensions <= MOST_DIMENSIONS:
        raise cursor.fault(f"tensor '{name}' has {dimensions} dimensions")
    shape = tuple(cursor.number("Q") for _ in range(dimensions))
    kind, offset = cursor.number("I"), cursor.number("Q")
    if kind not in BLOCKS:
        raise cursor.fault(f"tensor '{name}' has the unknown type {kind}")
    weights, size = BLOCKS[kind]
    if shape[0] % weights:
        raise cursor.fault(f"tensor '{name}' has rows of {shape[0]}, not a multiple of {weights}")
    return Tensor(name, shape, kind, offset, math.prod(shape) // weights * size)
