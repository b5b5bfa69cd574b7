"""Spoilt GGUF files without end, the same ones for the same seed: byte by byte, and by what the bytes mean."""

import math
import random
import re
import struct
from collections.abc import Iterator

from scripts.common.gguf_layout import BOOL, FLOAT32, INT32, SCALARS, TEXT, UINT32
from tests.support.gguf_maker import Entry, Made, Weights

EDGES = (0, 1, 2, 3, 7, 31, 63, 65, 255, 2**15, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
FRACTIONS = (0.0, -0.0, -1.0, 1e-30, 0.5, 2.0, 1e38, -1e38, math.inf, -math.inf, math.nan)
TEXTS = (
    "",
    "\0",
    "a",
    "<0x00>",
    "<0x0",
    "<s>",
    "none",
    "yarn",
    "longrope",
    "llama",
    "gpt2",
    "bert",
    "t5",
    "rwkv",
    "clip",
)
ODD = (
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"a" * 5000,
    b"x\0y",
    "é🙂".encode(),
    b"{% for i in range(9) %}",
    b"{{ '" + b"(" * 300,
)
FOREIGN = ("qwen2", "gemma3", "mamba", "bert", "falcon", "alien", "\0", "")
WIDTHS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip


def known_keys() -> list[str]:
    """Return every key that the gguf library knows, of architectures with a place for the name."""
    from gguf.constants import Keys

    found = []
    for group in vars(Keys).values():
        if isinstance(group, type):
            found += [key for name, key in vars(group).items() if not name.startswith("_") and isinstance(key, str)]
    return sorted(set(found))


def known_tensors() -> list[str]:
    """Return the names of tensors that the gguf library knows, of the first block."""
    from gguf.constants import TENSOR_NAMES

    return sorted(f"{name.format(bid=0, xid=0)}.{end}" for name in TENSOR_NAMES.values() for end in ("weight", "bias"))


class Mutator:
    """Makes spoilt files from sound ones."""

    def __init__(self, made: dict[str, Made], seed: int):
        self.chance = random.Random(seed)
        self.made = list(made.values())
        self.whole = [one.encoded() for one in self.made]
        self.keys, self.tensors = known_keys(), known_tensors()

    def files(self) -> Iterator[bytes]:
        """Yield spoilt files without end."""
        while True:
            yield self.by_bytes() if self.chance.random() < 0.35 else self.by_meaning()

    def by_meaning(self) -> bytes:
        """Return a file in which one or a few values were changed before it was written."""
        made = self.chance.choice(self.made).copy()
        steps = (
            *(self.change_value, self.change_value, self.change_array, self.change_kind, self.add_entry),
            *(self.drop_entry, self.change_tensor, self.change_tensor, self.change_tensors, self.change_head),
        )
        for _ in range(self.chance.choice((1, 1, 1, 1, 2, 3))):
            self.chance.choice(steps)(made)
        return made.encoded()

    def by_bytes(self) -> bytes:
        """Return a file whose bytes were changed, cut or moved."""
        content = bytearray(self.chance.choice(self.whole))
        ways = (self.flip, self.flip, self.write_edge, self.write_edge, self.cut, self.splice, self.move)
        for _ in range(self.chance.choice((1, 1, 1, 2, 4))):
            self.chance.choice(ways)(content)
        return bytes(content)

    def place(self, content: bytearray) -> int:
        """Return a place in a file, most often one in its head."""
        return self.chance.randrange(max(1, min(len(content), self.chance.choice((64, 512, 2048, 12_000, 10**6)))))

    def flip(self, content: bytearray) -> None:
        """Turn one bit."""
        if content:
            content[self.place(content)] ^= 1 << self.chance.randrange(8)

    def write_edge(self, content: bytearray) -> None:
        """Put an extreme number somewhere."""
        place, edge = self.place(content), self.chance.choice(EDGES)
        data = struct.pack("<Q", edge) if self.chance.random() < 0.6 else struct.pack("<I", edge % 2**32)
        content[place : place + len(data)] = data

    def cut(self, content: bytearray) -> None:
        """Leave out the end."""
        del content[self.place(content) :]

    def splice(self, content: bytearray) -> None:
        """Put a piece of another file somewhere."""
        other = self.chance.choice(self.whole)
        start, length = self.chance.randrange(len(other)), self.chance.choice((1, 4, 8, 64, 1000))
        place = self.place(content)
        content[place : place + length] = other[start : start + length]

    def move(self, content: bytearray) -> None:
        """Leave out some bytes, or have them twice."""
        place, length = self.place(content), self.chance.choice((1, 4, 8, 24))
        if self.chance.random() < 0.5:
            del content[place : place + length]
        else:
            content[place:place] = content[place : place + length]

    def value_of(self, kind: int):
        """Return an edge value of a kind, as a number or as bytes."""
        if kind == TEXT:
            return self.chance.choice((*TEXTS, *ODD))
        if kind == BOOL:
            return struct.pack("<B", self.chance.choice((0, 1, 2, 255)))
        code = WIDTHS.get(kind, "I")
        if code in "fd":
            return self.chance.choice(FRACTIONS)
        size = struct.calcsize(code)
        return (self.chance.choice(EDGES) % 256**size).to_bytes(size, "little")

    def change_value(self, made: Made) -> None:
        """Give an entry an extreme value."""
        entry = self.chance.choice(made.entries)
        if entry.is_array:
            return self.change_array(made)
        entry.value = self.value_of(entry.kind)
        if entry.key == "general.architecture" and entry.kind == TEXT and self.chance.random() < 0.8:
            entry.value = self.chance.choice(("llama", "mistral3", "phi3", "clip", *FOREIGN))
        return None

    def change_array(self, made: Made) -> None:
        """Change, double, cut, lengthen or mix the values of an array."""
        arrays = [entry for entry in made.entries if entry.is_array and entry.value]
        if not arrays:
            return
        entry = self.chance.choice(arrays)
        way, values = self.chance.randrange(5), list(entry.value)
        place = self.chance.randrange(len(values))
        if way == 0:
            values[place] = self.value_of(entry.kind)
        elif way == 1:
            values[place] = self.chance.choice(values)
        elif way == 2:
            del values[self.chance.choice((place, 0, len(values) - 1)) :]
        elif way == 3:
            values += [self.value_of(entry.kind)] * self.chance.choice((1, 2, 300))
        else:
            self.chance.shuffle(values)
        entry.value = values

    def change_kind(self, made: Made) -> None:
        """Give an entry another type."""
        entry = self.chance.choice(made.entries)
        kind = self.chance.choice((*SCALARS, TEXT, 9, 13, 255))
        if entry.is_array:
            length = self.chance.choice((0, 1, len(entry.value)))
            entry.value = [self.value_of(kind) for _ in range(length)]
        elif self.chance.random() < 0.3:
            entry.is_array, entry.value = True, [self.value_of(kind) for _ in range(self.chance.choice((0, 1, 2, 300)))]
        else:
            entry.value = self.value_of(kind)
        entry.kind = kind

    def add_entry(self, made: Made) -> None:
        """Add an entry that llama.cpp may know."""
        architecture = made.entries[0].value if isinstance(made.entries[0].value, str) else "llama"
        key = re.sub(r"\{\w+\}", "0", self.chance.choice(self.keys).replace("{arch}", architecture))
        if architecture == "clip" and self.chance.random() < 0.5:
            key = f"clip.{key}"
        kind = self.chance.choice((UINT32, UINT32, UINT32, FLOAT32, BOOL, TEXT, INT32, 2, 10))
        is_array = self.chance.random() < 0.25
        count = self.chance.choice((0, 1, 2, 4, 300))
        value = [self.value_of(kind) for _ in range(count)] if is_array else self.value_of(kind)
        made.entries.insert(self.chance.randrange(len(made.entries) + 1), Entry(key, kind, value, is_array))

    def drop_entry(self, made: Made) -> None:
        """Leave out an entry."""
        made.entries.pop(self.chance.randrange(len(made.entries)))

    def change_tensor(self, made: Made) -> None:
        """Change a tensor's type, shape, place or name."""
        if not made.tensors:
            return
        tensor = self.chance.choice(made.tensors)
        way = self.chance.randrange(5)
        if way == 0:
            tensor.kind = self.chance.choice((*range(42), 255, 2**31, 2**32 - 1))
        elif way == 1:
            shape = list(tensor.shape) or [1]
            shape[self.chance.randrange(len(shape))] = self.chance.choice((*EDGES, 32, 64, 128, 264, 96))
            tensor.shape = tuple(shape)
        elif way == 2:
            tensor.shape = self.chance.choice((tensor.shape[::-1], (*tensor.shape, 1), tensor.shape[:-1], (1,) * 5, ()))
        elif way == 3:
            tensor.offset = self.chance.choice((*EDGES, 32, 64, 4096))
        else:
            tensor.name = self.chance.choice(
                (*self.tensors, "x" * 63, "x" * 64, "", "\0", b"\xff", b"token_embd.weight\0")
            )

    def change_tensors(self, made: Made) -> None:
        """Leave out, double, add or mix tensors."""
        if not made.tensors:
            return
        tensor = self.chance.choice(made.tensors)
        way = self.chance.randrange(4)
        if way == 0:
            made.tensors.remove(tensor)
        elif way == 1:
            made.tensors.append(tensor)
        elif way == 2:
            shape = self.chance.choice(((64,), (32,), (16,), (64, 64), tensor.shape, (1,)))
            name = self.chance.choice(self.tensors)
            if "token_embd" not in name and self.chance.random() < 0.5:
                name = "v." + name if made.entries[0].value == "clip" else name
            made.tensors.append(Weights(name, shape, self.chance.choice((0, 0, 1, 30, 8))))
        else:
            self.chance.shuffle(made.tensors)

    def change_head(self, made: Made) -> None:
        """Change version or alignment."""
        if self.chance.random() < 0.5:
            made.version = self.chance.choice((0, 1, 2, 3, 4, 0x03000000, 2**32 - 1))
        else:
            made.alignment = self.chance.choice((1, 4, 8, 16, 32, 64, 4096))
            for entry in made.entries:
                if entry.key == "general.alignment" and entry.kind == UINT32 and not entry.is_array:
                    entry.value = made.alignment
