"""Damaged GGUF files without end, the same ones for the same seed: byte by byte, and by what the bytes mean."""

import math
import random
import struct
from collections.abc import Iterator

from scripts.gguf.reader import SCALARS, TEXT
from tests.support.gguf_maker import Made

EDGES = (0, 1, 2, 3, 7, 31, 63, 65, 255, 2**15, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
FRACTIONS = (0.0, -1.0, 1e-30, 0.5, 2.0, 1e38, -1e38, math.inf, -math.inf, math.nan)
TEXTS = ("", "\0", "a", "<0x0", "<s>", "none", "yarn", "gpt2", "bert", "phi3", b"\xff\xfe", b"a" * 5000, "é🙂")


class Mutator:
    """Makes damaged files from valid ones."""

    def __init__(self, made: dict[str, Made], seed: int):
        self.chance = random.Random(seed)
        self.made = list(made.values())
        self.whole = [one.encoded() for one in self.made]

    def files(self) -> Iterator[bytes]:
        """Yield damaged files without end."""
        while True:
            yield self.by_bytes() if self.chance.random() < 0.35 else self.by_meaning()

    def by_bytes(self) -> bytes:
        """Return a file in which bits were flipped, and bytes replaced, cut off, left out or put in."""
        content = bytearray(self.chance.choice(self.whole))
        for _ in range(self.chance.choice((1, 1, 1, 2, 4))):
            # Most often in the head.
            place = self.chance.randrange(max(1, min(len(content), self.chance.choice((64, 512, 2048, 12_000, 10**6)))))
            edge = struct.pack("<Q", self.chance.choice(EDGES))[: self.chance.choice((4, 8))]
            other, length = self.chance.choice(self.whole), self.chance.choice((1, 4, 8, 64, 1000))
            piece = other[self.chance.randrange(len(other)) :][:length]
            way = self.chance.randrange(5)
            if way == 0 and content:
                content[place] ^= 1 << self.chance.randrange(8)
            elif way == 1:
                del content[place : self.chance.choice((place + length, len(content)))]
            elif way == 2:
                content[place:place] = piece
            else:
                content[place : place + length] = self.chance.choice((edge, piece))
        return bytes(content)

    def by_meaning(self) -> bytes:
        """Return a file in which one or a few values were changed before it was written."""
        made = self.chance.choice(self.made).copy()
        for _ in range(self.chance.choice((1, 1, 1, 1, 2, 3))):
            self.chance.choice((self.change_entry, self.change_entry, self.change_entries, self.change_tensor))(made)
        return made.encoded()

    def value_of(self, kind: int):
        """Return an extreme value of a kind, as a number, a text or bytes."""
        if kind == TEXT:
            return self.chance.choice(TEXTS)
        code = SCALARS.get(kind, "I")
        if code in "fd":
            return self.chance.choice(FRACTIONS)
        size = struct.calcsize(code)
        return (self.chance.choice(EDGES) % 256**size).to_bytes(size, "little")

    def change_entry(self, made: Made) -> None:
        """Give an entry an extreme value or another type; of an array change, double, cut, lengthen or mix values."""
        entry = self.chance.choice(made.entries)
        if self.chance.random() < 0.2:
            entry.kind = self.chance.choice((*SCALARS, TEXT, 9, 13, 255))
            entry.value = [self.value_of(entry.kind)] * 2 if entry.is_array else self.value_of(entry.kind)
        elif entry.is_array and entry.value:
            values = list(entry.value)
            place = self.chance.randrange(len(values))
            values[place] = self.chance.choice((self.value_of(entry.kind), self.chance.choice(values)))
            extra = [self.value_of(entry.kind)] * self.chance.choice((1, 300))
            shuffled = self.chance.sample(values, len(values))
            entry.value = self.chance.choice((values, values, values[:place], values + extra, shuffled))
        elif not entry.is_array:
            entry.value = self.value_of(entry.kind)

    def change_entries(self, made: Made) -> None:
        """Leave out an entry, or change version or alignment."""
        way = self.chance.randrange(4)
        if way == 0:
            made.version = self.chance.choice((0, 1, 2, 3, 4, 2**32 - 1))
        elif way == 1:
            made.alignment = self.chance.choice((1, 4, 16, 64, 4096))
        else:
            made.entries.pop(self.chance.randrange(len(made.entries)))

    def change_tensor(self, made: Made) -> None:
        """Change a tensor's type, shape, place or name; leave it out, double it, or mix all."""
        tensor = self.chance.choice(made.tensors)
        way = self.chance.randrange(8)
        if way == 0:
            tensor.kind = self.chance.choice((*range(42), 255, 2**32 - 1))
        elif way == 1:
            shape = list(tensor.shape) or [1]
            shape[self.chance.randrange(len(shape))] = self.chance.choice((*EDGES, 32, 64, 128, 264, 96))
            tensor.shape = tuple(shape)
        elif way == 2:
            tensor.shape = self.chance.choice((tensor.shape[::-1], (*tensor.shape, 1), tensor.shape[:-1], (1,) * 5, ()))
        elif way == 3:
            tensor.offset = self.chance.choice((*EDGES, 64, 4096))
        elif way == 4:
            tensor.name = self.chance.choice(("output.weight", "rope_freqs.weight", "x" * 64, "", "\0", b"\xff"))
        elif way == 5 and len(made.tensors) > 1:
            made.tensors.remove(tensor)
        elif way == 6:
            made.tensors.append(tensor)
        else:
            self.chance.shuffle(made.tensors)
