"""Sound GGUF files in a few kilobytes that llama.cpp loads and computes with, as values to be spoilt."""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scripts.gguf.reader import ARRAY, BOOL, FLOAT32, INT32, SCALARS, TEXT, TYPES, UINT32

BF16, F32 = 30, 0
WIDTH, HEADS, ALIGNMENT = 64, 2, 32
TEMPLATE = "{{ bos_token }}{% for m in messages %}[INST]{{ m['content'] }}[/INST]{% endfor %}"


@dataclass
class Entry:
    """A metadata entry; of an array `kind` is that of its elements."""

    key: str | bytes
    kind: int
    value: Any
    is_array: bool = False

    def encoded(self) -> bytes:
        """Return the entry's bytes."""
        head = text(self.key)
        if not self.is_array:
            return head + struct.pack("<I", self.kind) + scalar(self.kind, self.value)
        values = b"".join(scalar(self.kind, value) for value in self.value)
        return head + struct.pack("<IIQ", ARRAY, self.kind, len(self.value)) + values


@dataclass
class Weights:
    """A tensor's entry; `offset` none: where it is due."""

    name: str | bytes
    shape: tuple[int, ...]
    kind: int = BF16
    offset: int | None = None

    @property
    def size(self) -> int:
        """The size of its data."""
        _, weights, size = TYPES.get(self.kind, ("", 1, 4))
        return math.prod(self.shape) // weights * size

    def encoded(self, due: int) -> bytes:
        """Return the entry's bytes."""
        shape = struct.pack(f"<I{len(self.shape)}Q", len(self.shape), *(length % 2**64 for length in self.shape))
        return text(self.name) + shape + struct.pack("<IQ", self.kind, due if self.offset is None else self.offset)


@dataclass
class Made:
    """A GGUF file as values."""

    entries: list[Entry]
    tensors: list[Weights] = field(default_factory=list)
    version: int = 3
    alignment: int = ALIGNMENT

    def copy(self) -> "Made":
        """Return a copy that may be spoilt: other entries and tensors, but the same lists of values."""
        return replace(
            self, entries=[replace(one) for one in self.entries], tensors=[replace(one) for one in self.tensors]
        )

    def entry(self, key: str) -> Entry:
        """Return the entry of a key."""
        return next(entry for entry in self.entries if entry.key == key)

    def with_values(self, **values: Any) -> "Made":
        """Return a copy with other values; a key's dots are written as two underscores."""
        made = self.copy()
        for key, value in values.items():
            made.entry(key.replace("__", ".")).value = value
        return made

    def encoded(self) -> bytes:
        """Return the file's bytes; weights are small numbers that any type can hold."""
        due, infos, size = 0, [], 0
        for tensor in self.tensors:
            infos.append(tensor.encoded(due))
            size = due + min(tensor.size, 2**24)
            due = -(-(due + tensor.size) // self.alignment) * self.alignment % 2**64
        entries = b"".join(entry.encoded() for entry in self.entries)
        counts = struct.pack("<IQQ", self.version, len(self.tensors), len(self.entries))
        head = b"GGUF" + counts + entries + b"".join(infos)
        return head + bytes(-len(head) % self.alignment) + bytes(min(size, 2**24))

    def written(self, path: Path) -> Path:
        """Write the file; return its path."""
        path.write_bytes(self.encoded())
        return path


def text(value: str | bytes) -> bytes:
    """Return a text as GGUF has it."""
    data = value.encode("utf-8") if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def scalar(kind: int, value: Any) -> bytes:
    """Return a value's bytes."""
    if kind == TEXT:
        return text(value)
    return value if isinstance(value, bytes) else struct.pack("<" + SCALARS.get(kind, "I"), value)


def sentencepiece() -> list[Entry]:
    """Return a vocabulary of bytes and a few pieces."""
    tokens = ["<unk>", "<s>", "</s>", "[INST]", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "ab"]
    types = [2, 3, 3, 3, *[6] * 256, *[1] * 4]
    return [
        Entry("tokenizer.ggml.model", TEXT, "llama"),
        Entry("tokenizer.ggml.pre", TEXT, "default"),
        Entry("tokenizer.ggml.tokens", TEXT, tokens, True),
        Entry("tokenizer.ggml.scores", FLOAT32, [float(-place) for place in range(len(tokens))], True),
        Entry("tokenizer.ggml.token_type", INT32, types, True),
        Entry("tokenizer.ggml.add_space_prefix", BOOL, False),
        *ends(1, 2),
    ]


def byte_level(
    pre: str = "llama-bpe",
    pieces: Sequence[str] = (),
    merges: Sequence[str] = ("a b",),
    special: Sequence[str] = ("<s>", "</s>", "[INST]"),
) -> list[Entry]:
    """Return a vocabulary of byte-level BPE; without `pieces`, of bytes and one piece."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    pieces = pieces or [*bytes_to_unicode().values(), "ab"]
    return [
        Entry("tokenizer.ggml.model", TEXT, "gpt2"),
        Entry("tokenizer.ggml.pre", TEXT, pre),
        Entry("tokenizer.ggml.tokens", TEXT, [*pieces, *special], True),
        Entry("tokenizer.ggml.token_type", INT32, [*[1] * len(pieces), *[3] * len(special)], True),
        Entry("tokenizer.ggml.merges", TEXT, [*merges], True),
        *ends(len(pieces), len(pieces) + 1),
    ]


def ends(bos: int, eos: int) -> list[Entry]:
    """Return what a vocabulary says of its ends."""
    return [
        Entry("tokenizer.ggml.bos_token_id", UINT32, bos),
        Entry("tokenizer.ggml.eos_token_id", UINT32, eos),
        Entry("tokenizer.ggml.add_bos_token", BOOL, True),
        Entry("tokenizer.ggml.add_eos_token", BOOL, False),
        Entry("tokenizer.chat_template", TEXT, TEMPLATE),
    ]


def language_model(architecture: str = "llama", vocabulary: list[Entry] | None = None, width: int = WIDTH) -> Made:
    """Return a language model of one layer."""
    vocabulary = vocabulary or sentencepiece()
    count = len(next(entry for entry in vocabulary if entry.key == "tokenizer.ggml.tokens").value)
    sizes = {"block_count": 1, "context_length": 64, "vocab_size": count}
    sizes |= dict.fromkeys(("embedding_length", "feed_forward_length"), width)
    sizes |= dict.fromkeys(("attention.head_count", "attention.head_count_kv"), HEADS)
    sizes |= dict.fromkeys(("attention.key_length", "attention.value_length", "rope.dimension_count"), width // HEADS)
    entries = [
        Entry("general.architecture", TEXT, architecture),
        Entry("general.alignment", UINT32, ALIGNMENT),
        Entry("general.name", TEXT, "made"),
        Entry("general.file_type", UINT32, 32),
        *(Entry(f"{architecture}.{name}", UINT32, size) for name, size in sizes.items()),
        Entry(f"{architecture}.attention.layer_norm_rms_epsilon", FLOAT32, 1e-6),
        Entry(f"{architecture}.rope.freq_base", FLOAT32, 10000.0),
        Entry(f"{architecture}.rope.scaling.type", TEXT, "linear"),
        Entry(f"{architecture}.rope.scaling.factor", FLOAT32, 1.0),
        *vocabulary,
    ]
    matrices = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"), 1)
    if architecture == "phi3":
        matrices = {"attn_qkv": 3, "attn_output": 1, "ffn_up": 2, "ffn_down": 1}
    tensors = [
        Weights("token_embd.weight", (width, count)),
        Weights("output_norm.weight", (width,), F32),
        Weights("output.weight", (width, count)),
        Weights("blk.0.attn_norm.weight", (width,), F32),
        Weights("blk.0.ffn_norm.weight", (width,), F32),
        *(Weights(f"blk.0.{name}.weight", (width, many * width)) for name, many in matrices.items()),
    ]
    return Made(entries, tensors)


def all_made() -> dict[str, Made]:
    """Return a file of each kind that this project makes and serves."""
    return {
        "llama": language_model("llama"),
        "llama byte-level": language_model("llama", byte_level()),
        "mistral3": language_model("mistral3"),
        "phi3": language_model("phi3"),
    }
