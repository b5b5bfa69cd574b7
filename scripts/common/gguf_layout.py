"""The layout of a GGUF file: counts, sizes, types and places, none of which is believed.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; limits: ggml/src/gguf.cpp of llama.cpp.
"""

import math
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.common.errors import UserError

MAGIC, VERSIONS = b"GGUF", (2, 3)
MOST_ENTRIES, MOST_DIMENSIONS, DEFAULT_ALIGNMENT = 1 << 20, 4, 32
LEAST_ALIGNMENT, MOST_ALIGNMENT = 32, 1 << 16  # ggml computes with a mapped file only where it is aligned to 32 bytes
MOST_WEIGHTS = 1 << 48  # of one tensor; llama.cpp counts in 63 bits, and no file holds that many
LONGEST_NAME = 63  # bytes of a tensor's name: GGML_MAX_NAME less its end
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
UINT32, INT32, FLOAT32, BOOL, TEXT, ARRAY = 4, 5, 6, 7, 8, 9
LENGTH = struct.Struct("<Q")

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

    `kinds` has each entry's type number, of an array that of its elements. `places` has each metadata entry's
    [start, end) in bytes, in the file's order; `tensor_place` is that of the list of tensors.
    """

    version: int
    values: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
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

    def array(self) -> tuple[int, int]:
        """Pass over an array; return the type of its elements and its length."""
        kind, length = self.number("I"), self.number("Q")
        if kind in SCALARS:
            self.skip(length * struct.calcsize("<" + SCALARS[kind]))
        elif kind == TEXT and length <= (len(self.buffer) - self.place) // LENGTH.size:
            self.texts(length)
        else:
            raise self.fault(f"the array at byte {self.place} has type {kind} and {length} entries")
        return kind, length

    def texts(self, length: int) -> list[str]:
        """Read so many texts, one after the other; a vocabulary has a hundred thousand."""
        place, end, buffer, size, found = self.place, len(self.buffer), self.buffer, LENGTH.size, []
        for _ in range(length):
            start = place + size
            if start > end or (place := start + LENGTH.unpack_from(buffer, place)[0]) > end:
                raise self.fault(f"it ends at byte {end}, but byte {max(start, place)} is announced")
            try:
                found.append(buffer[start:place].decode("utf-8"))
            except UnicodeDecodeError:
                raise self.fault(f"the text at byte {start} is not UTF-8") from None
        self.place = place
        return found

    def entry(self, header: Header, key: str) -> list:
        """Read the array of a header's entry once more, with its values."""
        self.place = header.places[key][0] + LENGTH.size + len(key.encode()) + 4
        kind, length = self.number("I"), self.number("Q")
        if kind == TEXT:
            return self.texts(length)
        code = f"<{length}{SCALARS[kind]}"
        return list(struct.unpack_from(code, self.buffer, self.skip(struct.calcsize(code))))


def header_of(cursor: Cursor) -> Header:
    """Read the head that a cursor stands at the start of, and see that every tensor lies within the file.

    Raises UserError for a file that is cut off, or no GGUF.
    """
    if cursor.buffer[: len(MAGIC)] != MAGIC:
        raise UserError("is no GGUF file: it does not begin with 'GGUF'", cursor.path)
    cursor.skip(len(MAGIC))
    header = Header(cursor.number("I"))
    if header.version not in VERSIONS:
        raise cursor.fault(f"version {header.version} is not among {', '.join(map(str, VERSIONS))}")
    tensors, values = cursor.number("Q"), cursor.number("Q")
    if max(tensors, values) > MOST_ENTRIES:
        raise cursor.fault(f"it announces {tensors} tensors and {values} metadata entries")
    for _ in range(values):
        read_entry(cursor, header)
    header.alignment = alignment_of(header, cursor)
    start = cursor.place
    header.tensors = [read_tensor(cursor) for _ in range(tensors)]
    header.tensor_place = (start, cursor.place)
    header.data_start = padded(cursor.place, header.alignment)
    check_places(header, cursor)
    return header


def padded(size: int, alignment: int) -> int:
    """Return a size, rounded up to the alignment."""
    return -(-size // alignment) * alignment


def read_entry(cursor: Cursor, header: Header) -> None:
    """Read one metadata entry into the header."""
    start = cursor.place
    key, kind = cursor.text(), cursor.number("I")
    if not key or not key.isprintable():
        raise cursor.fault(f"{key[:80]!r} is no key")
    if key in header.places:
        raise cursor.fault(f"the key '{key}' stands in it twice")
    if kind == ARRAY:
        kind, header.arrays[key] = cursor.array()
    else:
        header.values[key] = cursor.value(kind)
    header.kinds[key] = kind
    header.places[key] = (start, cursor.place)


def alignment_of(header: Header, cursor: Cursor) -> int:
    """Return the alignment of the tensors' data, in bytes."""
    key = "general.alignment"
    alignment = header.values.get(key, DEFAULT_ALIGNMENT)
    if header.kinds.get(key, UINT32) != UINT32 or key in header.arrays:
        raise cursor.fault(f"{key} is no 32-bit number")
    if not LEAST_ALIGNMENT <= alignment <= MOST_ALIGNMENT or alignment & (alignment - 1):
        raise cursor.fault(f"{key} is {alignment}, not a power of two from {LEAST_ALIGNMENT} to {MOST_ALIGNMENT}")
    return alignment


def check_places(header: Header, cursor: Cursor) -> None:
    """See that names differ, and that the tensors' data lie one after the other and within the file."""
    due, names = 0, set()
    for tensor in header.tensors:
        if tensor.name in names:
            raise cursor.fault(f"two tensors are named '{tensor.name}'")
        names.add(tensor.name)
        if tensor.offset != due:
            raise cursor.fault(f"tensor '{tensor.name}' begins at byte {tensor.offset} of the data, not at {due}")
        end = header.data_start + tensor.offset + tensor.bytes
        if end > len(cursor.buffer):
            raise cursor.fault(f"tensor '{tensor.name}' ends at byte {end} of {len(cursor.buffer)}")
        due = padded(tensor.offset + tensor.bytes, header.alignment)


def read_tensor(cursor: Cursor) -> Tensor:
    """Read one tensor's entry."""
    name, dimensions = cursor.text(), cursor.number("I")
    if not 1 <= len(name.encode()) <= LONGEST_NAME or not name.isprintable():
        raise cursor.fault(f"{name[:80]!r} is no name of a tensor")
    if not 1 <= dimensions <= MOST_DIMENSIONS:
        raise cursor.fault(f"tensor '{name}' has {dimensions} dimensions")
    shape = tuple(cursor.number("Q") for _ in range(dimensions))
    if min(shape) < 1 or math.prod(shape) > MOST_WEIGHTS:
        raise cursor.fault(f"tensor '{name}' has the shape {' x '.join(map(str, shape))}")
    kind, offset = cursor.number("I"), cursor.number("Q")
    if kind not in BLOCKS:
        raise cursor.fault(f"tensor '{name}' has the unknown type {kind}")
    weights, size = BLOCKS[kind]
    if shape[0] % weights:
        raise cursor.fault(f"tensor '{name}' has rows of {shape[0]}, not a multiple of {weights}")
    return Tensor(name, shape, kind, offset, math.prod(shape) // weights * size)
