"""Write the dequantized weights of a GGUF file as bf16 safetensors with transformers' names.

bf16 rounds each weight once more, by at most 1/256 of its value; docs/explanation/decisions.md explains the choice.
"""

import math
from pathlib import Path

import numpy

from scripts.common.cli import Progress
from scripts.common.errors import UserError
from scripts.common.files import write_json
from scripts.gguf.reader import TYPES, GgufFile, Tensor

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


def dequantized(file: GgufFile, tensor: Tensor) -> numpy.ndarray:
    """Return a tensor as float32, [rows, columns] or [columns]."""
    from gguf import GGMLQuantizationType, dequantize

    name, *_ = TYPES[tensor.type]
    rows = tensor.shape[::-1]  # the file has the row length first
    raw = numpy.frombuffer(file.data(tensor), numpy.uint8).reshape(*rows[:-1], -1)
    try:
        return dequantize(raw, GGMLQuantizationType(tensor.type)).reshape(rows)
    except NotImplementedError:
        raise UserError(f"tensor '{tensor.name}' has the type {name}, which can't be dequantized", file.path) from None


def unpermuted(weights: numpy.ndarray, heads: int) -> numpy.ndarray:
    """Return a query or key projection [heads * size, width] with its rows in transformers' order.

    llama.cpp rotates neighbouring dimensions of a head, transformers corresponding dimensions of its halves; the
    converter permutes the rows accordingly (`LlamaModel.permute` in conversion/llama.py).
    """
    size = weights.shape[0] // heads
    return weights.reshape(heads, size // 2, 2, -1).swapaxes(1, 2).reshape(weights.shape)


def write_weights(file: GgufFile, folder: Path) -> None:
    """Write the weights into a folder, in shards of about 4 GB, with an index if there are several.

    One shard is in memory at a time.
    """
    import torch
    from safetensors.torch import save_file

    heads = file.of("attention.head_count")
    heads_of = {"attn_q": heads, "attn_k": file.of("attention.head_count_kv", heads)}
    shards, size = {}, 0
    for tensor in file.tensors:
        if tensor.name not in LEFT_OUT:
            shards.setdefault(size // SHARD_BYTES, []).append(tensor)
            size += 2 * math.prod(tensor.shape)
    bar, places = Progress("dequantize", len(file.tensors)), {}
    for number, tensors in enumerate(shards.values(), 1):
        held = {}
        for tensor in tensors:
            weights, part = dequantized(file, tensor), tensor.name.split(".")[-2]
            if part in heads_of:
                weights = unpermuted(weights, heads_of[part])
            held[model_name(tensor.name, file.path)] = torch.from_numpy(weights.copy()).to(torch.bfloat16)
            bar.advance()
        name = f"model-{number:05}-of-{len(shards):05}.safetensors" if len(shards) > 1 else "model.safetensors"
        save_file(held, folder / name, metadata={"format": "pt"})
        places |= dict.fromkeys(held, name)
    if len(shards) > 1:
        write_json(folder / INDEX, {"metadata": {"total_size": size}, "weight_map": places}, part=True)
