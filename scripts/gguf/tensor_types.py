"""The types of a GGUF file's tensors, and the rounding of its weights."""

import math
import re
from collections import Counter

from scripts.gguf.reader import TYPES, GgufFile

BLOCK = 256  # weights in a block of a k-quant


def tensor_types(file: GgufFile) -> dict[str, int]:
    """Return the number of tensors of each type, most frequent first."""
    return dict(Counter(TYPES[tensor.type][0] for tensor in file.tensors).most_common())


def weight_bits(file: GgufFile) -> int:
    """Return the bits per weight, without scales, of the type that most weights have."""
    counts: Counter[int] = Counter()
    for tensor in file.tensors:
        counts[int(re.search(r"\d+", TYPES[tensor.type][0])[0])] += math.prod(tensor.shape)
    return counts.most_common(1)[0][0]


def types_of_quant(file: GgufFile, quant: str) -> dict:
    """Return the number of tensors of each type in a quantized file, and the row sizes that a k-quant can't use.

    llama.cpp gives a tensor another type if its row size is not a multiple of 256.
    """
    needs_blocks = "_k" in quant or (quant.startswith("iq") and quant != "iq4_nl")
    rows = {tensor.shape[0] for tensor in file.tensors if len(tensor.shape) > 1 and tensor.shape[0] % BLOCK}
    return {"quant": quant, "types": tensor_types(file), "odd_rows": sorted(rows) if needs_blocks else []}


def quant_line(types: dict) -> str:
    """Return the result of `types_of_quant` as one line."""
    counts = ", ".join(f"{count} {name}" for name, count in types["types"].items())
    rows = ", ".join(map(str, types["odd_rows"]))
    why = f"; row sizes {rows} are not multiples of {BLOCK}, so some tensors have another type" if rows else ""
    return f"{types['quant']}: {counts} tensors{why}"


def rounding_note(base: dict) -> str | None:
    """Return a note on the rounding of a base from a quantized GGUF file, by its manifest; None for other bases."""
    facts = base.get("gguf")
    if not facts or facts["bits"] >= 16:
        return None
    counts = ", ".join(f"{count} {name}" for name, count in facts["tensor_types"].items())
    return (
        f"The base was rounded to {facts['bits']} bits before training: {facts['file']}, "
        f"{facts['bytes'] / 1e6:.0f} MB, {counts} tensors"
    )
