"""Read the metadata and tensor entries of a GGUF file with only the standard library.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The reader of the `gguf` library needs 10 seconds and
650 MB for the vocabulary of Llama 3, this one a quarter of a second; and that library is not installed where dry runs
and bundles are made.
"""

import math
import mmap
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.common.errors import UserError

MAGIC, VERSIONS, ALIGNMENT = b"GGUF", (2, 3), 32
MOST_NUMBERS = 2**24  # limit of an array; the largest vocabularies have 2**18 tokens
ARCHITECTURE, TOKENS = "general.architecture", "tokenizer.ggml.tokens"
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
UINT32, INT32, FLOAT32, BOOL, TEXT, ARRAY = range(4, 10)
# Tensor types by number: name, weights per block, bytes per block (ggml.h, ggml-common.h).
TYPES = {
    0: ("f32", 1, 4), 1: ("f16", 1, 2), 2: ("q4_0", 32, 18), 3: ("q4_1", 32, 20), 6: ("q5_0", 32, 22),
    7: ("q5_1", 32, 24), 8: ("q8_0", 32, 34), 9: ("q8_1", 32, 40), 10: ("q2_k", 256, 84), 11: ("q3_k", 256, 110),
    12: ("q4_k", 256, 144), 13: ("q5_k", 256, 176), 14: ("q6_k", 256, 210), 15: ("q8_k", 256, 292),
    16: ("iq2_xxs", 256, 66), 17: ("iq2_xs", 256, 74), 18: ("iq3_xxs", 256, 98), 19: ("iq1_s", 256, 50),
    20: ("iq4_nl", 32, 18), 21: ("iq3_s", 256, 110), 22: ("iq2_s", 256, 82), 23: ("iq4_xs", 256, 136), 24: ("i8", 1, 1),
    25: ("i16", 1, 2), 26: ("i32", 1, 4), 27: ("i64", 1, 8), 28: ("f64", 1, 8), 29: ("iq1_m", 256, 56),
    30: ("bf16", 1, 2), 34: ("tq1_0", 256, 54), 35: ("tq2_0", 256, 66), 39: ("mxfp4", 32, 17), 40: ("nvfp4", 64, 36),
    41: ("q1_0", 128, 18),
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """One tensor's entry: shape (row length first), type number, offset and size in bytes within the data."""

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int
    bytes: int


@dataclass
class GgufFile:
    """The header of a GGUF file.

    `values` has the metadata by key, `places` the byte range [start, end) of each entry, `tensor_place` that of the
    list of tensors. The tensors' data begin at byte `data_start`.
    """

    path: Path
    version: int
    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, tuple[int, int]] = field(default_factory=dict)
    tensors: list[Tensor] = field(default_factory=list)
    tensor_place: tuple[int, int] = (0, 0)
    alignment: int = ALIGNMENT
    data_start: int = 0

    @property
    def architecture(self) -> str:
        return self.values[ARCHITECTURE]

    @property
    def parameters(self) -> int:
        return sum(math.prod(tensor.shape) for tensor in self.tensors)

    def of(self, name: str, default: Any = None) -> Any:
        """Return an entry of the architecture, such as `block_count`."""
        return self.values.get(f"{self.architecture}.{name}", default)

    def data(self, tensor: Tensor) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(self.data_start + tensor.offset)
            return file.read(tensor.bytes)


def read_gguf(path: Path | str) -> GgufFile:
    """Read the header of a GGUF file, and check that its tensors lie within the file.

    Raises UserError for a file that is missing, truncated or not GGUF, or one part of several.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError("is missing", path)
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
            file = Cursor(buffer).file(path)
            for tensor in file.tensors:
                end = file.data_start + tensor.offset + tensor.bytes
                if end > len(buffer):
                    raise ValueError(f"tensor {tensor.name[:80]!r} ends at byte {end} of {len(buffer)}")
            return file
    except (ValueError, struct.error) as error:
        raise UserError(f"is not a valid GGUF file: {error}", path, remedy="create or download it again") from None


def parse_head(head: bytes, path: Path) -> GgufFile:
    """Return the header of a GGUF file, given as its bytes before the tensors' data; `path` is the file's."""
    return Cursor(head).file(path)


class Cursor:
    """Reads little-endian values from a buffer; raises ValueError or struct.error for invalid ones."""

    def __init__(self, buffer: mmap.mmap | bytes):
        self.buffer, self.place = buffer, 0

    def take(self, count: int) -> bytes:
        start, self.place = self.place, self.place + count
        if self.place > len(self.buffer):
            raise ValueError(f"it ends at byte {len(self.buffer)}, before byte {self.place}")
        return self.buffer[start : self.place]

    def numbers(self, code: str) -> tuple:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))

    def text(self) -> str:
        """Read a length-prefixed UTF-8 text."""
        return self.take(*self.numbers("Q")).decode("utf-8")

    def values(self, kind: int, count: int) -> list:
        if kind == TEXT:
            return [self.text() for _ in range(count)]
        if kind not in SCALARS:
            raise ValueError(f"the value at byte {self.place} has the unknown type {kind}")
        if count > MOST_NUMBERS:
            raise ValueError(f"the array at byte {self.place} has {count} numbers; the limit is {MOST_NUMBERS}")
        return list(self.numbers(f"{count}{SCALARS[kind]}"))

    def entry(self, file: GgufFile) -> None:
        start, key, (kind,) = self.place, self.text(), self.numbers("I")
        if key in file.values:
            raise ValueError(f"the key {key[:80]!r} occurs twice")
        file.values[key] = self.values(*self.numbers("IQ")) if kind == ARRAY else self.values(kind, 1)[0]
        if isinstance(file.values[key], float) and not math.isfinite(file.values[key]):
            raise ValueError(f"{key[:80]!r} is {file.values[key]}")
        file.places[key] = (start, self.place)

    def tensor(self) -> Tensor:
        name, (dimensions,) = self.text(), self.numbers("I")
        shape = self.numbers(f"{dimensions}Q")
        kind, offset = self.numbers("IQ")
        if kind not in TYPES:
            raise ValueError(f"tensor {name[:80]!r} has the unknown type {kind}")
        _, weights, size = TYPES[kind]
        if not shape or shape[0] % weights:
            raise ValueError(f"tensor {name[:80]!r} has the shape {shape}; rows are multiples of {weights}")
        return Tensor(name, shape, kind, offset, math.prod(shape) // weights * size)

    def file(self, path: Path) -> GgufFile:
        if self.take(len(MAGIC)) != MAGIC:
            raise ValueError("it does not begin with 'GGUF'")
        version, tensors, entries = self.numbers("IQQ")
        if version not in VERSIONS:
            raise ValueError(f"its version is {version}, not {' or '.join(map(str, VERSIONS))}")
        file = GgufFile(path, version)
        for _ in range(entries):
            self.entry(file)
        if not isinstance(file.values.get(ARCHITECTURE), str):
            raise ValueError(f"it has no {ARCHITECTURE}")
        if file.values.get("split.count", 0) not in (0, 1):
            raise ValueError("it is one part of several, join them first")
        file.alignment = file.values.get("general.alignment", ALIGNMENT)
        if not isinstance(file.alignment, int) or file.alignment < 1:
            raise ValueError(f"general.alignment is {file.alignment!r:.80}, not a positive integer")
        start = self.place
        file.tensors = [self.tensor() for _ in range(tensors)]
        file.tensor_place = (start, self.place)
        file.data_start = -(-self.place // file.alignment) * file.alignment
        return file
