"""Write the dequantized weights of a GGUF file as bf16 safetensors with transformers' names.

bf16 rounds each weight once more, by at most 1/256 of its value; docs/explanation/decisions.md explains the choice.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.common.cli import Progress
from scripts.common.errors import UserError
from scripts.common.files import write_json
from scripts.gguf.reader import TYPES, GgufFile, Tensor

if TYPE_CHECKING:
    import numpy
    import torch

SHARD_BYTES = 4_000_000_000
INDEX = "model.safetensors.index.json"
WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
LEFT_OUT = ("rope_freqs.weight",)  # it is in config.json


def model_name(tensor: str, path: Path) -> str:
    """Return transformers' name of a tensor; raises UserError for an unknown tensor."""
    parts = tensor.split(".")
    if len(parts) == 2 and parts[0] in WHOLE and parts[1] == "weight":
        return f"{WHOLE[parts[0]]}.weight"
    if len(parts) == 4 and parts[0] == "blk" and parts[1].isdigit() and parts[2] in BLOCK and parts[3] == "weight":
        return f"model.layers.{parts[1]}.{BLOCK[parts[2]]}.weight"
    raise UserError(f"has a tensor '{tensor}', which a Llama or Mistral does not have", path)


def dequantized(file: GgufFile, tensor: Tensor) -> "numpy.ndarray":
    """Return a tensor as float32, [rows, columns] or [columns]."""
    import numpy
    from gguf import GGMLQuantizationType, dequantize

    name, *_ = TYPES[tensor.type]
    rows = tensor.shape[::-1]  # the file has the row length first
    raw = numpy.frombuffer(file.data(tensor), numpy.uint8).reshape(*rows[:-1], -1)
    try:
        return dequantize(raw, GGMLQuantizationType(tensor.type)).reshape(rows)
    except NotImplementedError:
        raise UserError(f"tensor '{tensor.name}' has the type {name}, which can't be dequantized", file.path) from None


def unpermuted(weights: "numpy.ndarray", heads: int) -> "numpy.ndarray":
    """Return a query or key projection [heads * size, width] with its rows in transformers' order.

    llama.cpp rotates neighbouring dimensions of a head, transformers corresponding dimensions of its halves; the
    converter permutes the rows accordingly (`LlamaModel.permute` in conversion/llama.py).
    """
    size = weights.shape[0] // heads
    return weights.reshape(heads, size // 2, 2, -1).swapaxes(1, 2).reshape(weights.shape)


def weights_of(file: GgufFile) -> Iterator[tuple[str, "torch.Tensor"]]:
    """Yield name and bf16 weights of each tensor, one at a time."""
    import torch

    heads = file.of("attention.head_count")
    heads_of = {"attn_q": heads, "attn_k": file.of("attention.head_count_kv", heads)}
    bar = Progress("dequantize", len(file.tensors))
    for tensor in file.tensors:
        if tensor.name not in LEFT_OUT:
            weights = dequantized(file, tensor)
            part = tensor.name.split(".")[-2]
            if part in heads_of:
                weights = unpermuted(weights, heads_of[part])
            yield model_name(tensor.name, file.path), torch.from_numpy(weights.copy()).to(torch.bfloat16)
        bar.advance()


def write_weights(file: GgufFile, folder: Path) -> None:
    """Write the weights into a folder, in shards of at most 4 GB, with an index if there are several."""
    from safetensors.torch import save_file

    shards: list[list[str]] = []
    held: dict[str, torch.Tensor] = {}
    sizes = 0

    def write_shard() -> None:
        if not held:
            return
        shards.append(list(held))
        save_file(held, folder / f"shard-{len(shards)}.safetensors", metadata={"format": "pt"})
        held.clear()

    for name, weights in weights_of(file):
        if sum(one.nbytes for one in held.values()) + weights.nbytes > SHARD_BYTES:
            write_shard()
        held[name] = weights
        sizes += weights.nbytes
    write_shard()
    names = [f"model-{place:05}-of-{len(shards):05}.safetensors" for place in range(1, len(shards) + 1)]
    names = names if len(shards) > 1 else ["model.safetensors"]
    for place, name in enumerate(names, 1):
        (folder / f"shard-{place}.safetensors").rename(folder / name)
    if len(shards) > 1:
        places = {tensor: name for name, tensors in zip(names, shards, strict=True) for tensor in tensors}
        write_json(folder / INDEX, {"metadata": {"total_size": sizes}, "weight_map": places}, part=True)
