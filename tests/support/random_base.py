"""A base model of any size with random weights, written file by file: real shapes, at no download.

Speed and memory of training do not depend on what the weights are, as long as nothing overflows.
"""

from collections.abc import Callable
from pathlib import Path

from scripts.common.files import write_json, write_manifest
from scripts.model.embedded_vision import IMAGE_TOKENS, SPATIAL_MERGE_SIZE, save_processor
from scripts.workflow.memory.shapes import Shape
from tests.support.tiny_model import CONTROL_SYMBOLS, make_tiny_tokenizer

SHARD_BYTES = 2 * 2**30
DRAWN = 2**24 - 3  # values drawn; tensors take theirs from them in turn, and no row's length divides this
DEVIATION = 0.02


def text_config(shape: Shape, tokenizer, positions: int) -> dict:
    """Return the settings that the architectures' configurations have in common."""
    return {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_size,
        "max_position_embeddings": positions,
        **{key: getattr(tokenizer, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")},
    }


def vision_config(shape: Shape, text: dict, tokenizer, image_size: int):
    """Return the configuration of a Mistral 3 of a shape, whose tower's heads are 64 wide as Pixtral's."""
    from transformers import Mistral3Config

    tower = shape.tower
    return Mistral3Config(
        text_config={"model_type": "mistral", "sliding_window": None, **text},
        vision_config={
            "model_type": "pixtral",
            "hidden_size": tower.hidden,
            "intermediate_size": tower.intermediate,
            "num_hidden_layers": tower.layers,
            "num_attention_heads": tower.hidden // 64,
            "image_size": image_size,
            "patch_size": tower.patch,
        },
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_TOKENS["image_token"]),
        spatial_merge_size=tower.merge,
        vision_feature_layer=-1,
        tie_word_embeddings=False,
        **{key: text[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")},
    )


def empty_model(architecture: str, shape: Shape, tokenizer, positions: int, image_size: int):
    """Return the model of a shape on the meta device: names and shapes of its tensors, and no weights."""
    import torch
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        Mistral3ForConditionalGeneration,
        MistralConfig,
        MistralForCausalLM,
        Phi3Config,
        Phi3ForCausalLM,
    )

    text = text_config(shape, tokenizer, positions)
    if architecture == "mistral3":
        kind, config = Mistral3ForConditionalGeneration, vision_config(shape, text, tokenizer, image_size)
    elif architecture == "phi3":
        own = {key: value for key, value in text.items() if key != "head_dim"}
        own |= {"original_max_position_embeddings": positions, "sliding_window": None}
        kind, config = Phi3ForCausalLM, Phi3Config(**own)
    elif architecture == "llama":
        kind, config = LlamaForCausalLM, LlamaConfig(**text, tie_word_embeddings=shape.tied)
    else:
        kind = MistralForCausalLM
        config = MistralConfig(**text, tie_word_embeddings=shape.tied, sliding_window=None)
    config.architectures, config.dtype = [kind.__name__], torch.bfloat16
    with torch.device("meta"):
        return kind(config)


def shards(shapes: dict[str, tuple[int, ...]], limit: int) -> list[list[str]]:
    """Return the tensors' names file by file; a file has at most `limit` bytes, or one tensor."""
    result, size = [[]], 0
    for name, shape in shapes.items():
        own = 2
        for length in shape:
            own *= length
        if result[-1] and size + own > limit:
            result.append([])
            size = 0
        result[-1].append(name)
        size += own
    return result


def tensor_maker(seed: int) -> Callable:
    """Return a function that makes the next tensor in bf16 by its name and shape; norms are one, biases zero."""
    import torch

    drawn = torch.randn(DRAWN, generator=torch.Generator().manual_seed(seed)).mul_(DEVIATION).to(torch.bfloat16)
    place = 0

    def make(name: str, shape: tuple[int, ...]):
        nonlocal place
        if len(shape) == 1:
            return (torch.zeros if name.endswith("bias") else torch.ones)(shape, dtype=torch.bfloat16)
        tensor = torch.empty(shape, dtype=torch.bfloat16)
        flat, filled = tensor.view(-1), 0
        while filled < flat.numel():
            part = min(flat.numel() - filled, DRAWN - place)
            flat[filled : filled + part] = drawn[place : place + part]
            filled, place = filled + part, (place + part) % DRAWN
        return tensor

    return make


def write_random_base(
    folder: Path,
    architecture: str,
    shape: Shape,
    positions: int,
    image_size: int = 1540,
    shard_bytes: int = SHARD_BYTES,
) -> Path:
    """Write a base model's folder in the layout of hub models and return its manifest.

    No more than one weight file is in memory. The tokenizer is a very small one: its ids are the first of the
    vocabulary. `positions` is the longest row in tokens, `image_size` the longest edge of a vision model's images.
    """
    from safetensors.torch import save_file
    from transformers import AutoTokenizer

    symbols = [*CONTROL_SYMBOLS, *IMAGE_TOKENS.values()] if architecture == "mistral3" else CONTROL_SYMBOLS
    make_tiny_tokenizer(folder, symbols=symbols)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.save_pretrained(folder)
    model = empty_model(architecture, shape, tokenizer, positions, image_size)
    model.config.save_pretrained(folder)
    if architecture == "mistral3":
        assert shape.tower.merge == SPATIAL_MERGE_SIZE
        save_processor(folder, image_size)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if shape.tied:
        del shapes["lm_head.weight"]
    files, make, where = shards(shapes, shard_bytes), tensor_maker(seed=0), {}
    for number, names in enumerate(files, 1):
        file = f"model-{number:05d}-of-{len(files):05d}.safetensors"
        save_file({name: make(name, shapes[name]) for name in names}, folder / file, {"format": "pt"})
        where |= dict.fromkeys(names, file)
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": where})
    facts = {"name": folder.name, "source": "random", "id": None, "revision": None, "architecture": architecture}
    return write_manifest(folder, **facts, license=None, parameters=shape.parameters)
