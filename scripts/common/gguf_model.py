"""What metadata and tensors of a language model in a GGUF file must be for llama.cpp to compute with them.

Source: `llama_model_base::load_hparams` in src/llama-model.cpp of llama.cpp, and src/models/{llama,mistral3,phi3}.cpp:
much of what is wrong there is an assertion, which ends the process. The architectures that this project makes are
checked in full. Of others only what all have in common is checked.
"""

import math
from collections.abc import Iterator
from functools import partial

from scripts.common.gguf_layout import BOOL, FLOAT32, TEXT, UINT32, Header
from scripts.common.gguf_tensors import language_tensors, table_faults, type_faults
from scripts.common.gguf_vocabulary import BYTE_LEVEL, MODEL, SENTENCEPIECE, TOKENS

KNOWN = ("llama", "mistral3", "phi3")
MOST = {
    "block_count": 512,  # LLAMA_MAX_LAYERS
    "context_length": 1 << 24,
    "embedding_length": 1 << 20,
    "feed_forward_length": 1 << 24,
    "attention.head_count": 1 << 16,
}
OPTIONAL = {
    "vocab_size": 1 << 24,
    "attention.head_count_kv": 1 << 16,
    "attention.key_length": 1 << 16,
    "attention.value_length": 1 << 16,
    "rope.dimension_count": 1 << 16,
    "rope.scaling.original_context_length": 1 << 24,
    "attention.sliding_window": 1 << 31,
    "expert_count": 1024,  # LLAMA_MAX_EXPERTS
    "expert_used_count": 1024,
    "expert_feed_forward_length": 1 << 24,
    "expert_shared_feed_forward_length": 1 << 24,
}
MAY_BE_ZERO = ("attention.sliding_window", "expert_count", "expert_used_count")
NUMBERS = (
    *("rope.freq_base", "rope.scale_linear", "rope.scaling.factor", "rope.scaling.attn_factor", "rope.scaling.alpha"),
    *("rope.scaling.yarn_log_multiplier", "rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow"),
    *("rope.scaling.yarn_ext_factor", "rope.scaling.yarn_attn_factor", "attention.temperature_scale"),
    *("attention.scale", "attention.clamp_kqv", "logit_scale", "embedding_scale", "residual_scale"),
)
EPSILON = "attention.layer_norm_rms_epsilon"
SCALINGS = ("none", "linear", "yarn", "longrope")
# Entries of other architectures that llama.cpp would act upon here as well, and that would end in an assertion.
FOREIGN = ("nextn_predict_layers", "expert_group_count", "expert_group_used_count", "embedding_length_out")


def model_faults(header: Header, architecture: str) -> Iterator[str]:
    """Yield what is wrong with a model's metadata and tensors."""
    key = f"{architecture}.block_count"
    if key in header.kinds and not 1 <= whole(header, key) <= MOST["block_count"]:
        yield f"{key} is no number between 1 and {MOST['block_count']}"
    if architecture not in KNOWN or not (header.tensors or f"{architecture}.{EPSILON}" in header.kinds):
        return  # a vocabulary alone, as llama.cpp has them for its tests, may lack the rest
    yield from entry_faults(header, architecture)
    yield from shape_faults(header, architecture)
    if header.tensors:
        yield from tensor_faults(header, architecture)


def whole(header: Header, key: str, default: int = -1) -> int:
    """Return an entry that is a 32-bit number; -1 for one that is something else."""
    if key not in header.kinds:
        return default
    return header.values[key] if key in header.values and header.kinds[key] == UINT32 else -1


def entry(header: Header, architecture: str, name: str, default: int = 0) -> int:
    """Return a number that the architecture has an entry for."""
    return whole(header, f"{architecture}.{name}", default)


def entry_faults(header: Header, architecture: str) -> Iterator[str]:
    """Yield the entries that have a wrong type or an impossible value."""
    for name, most in (MOST | OPTIONAL).items():
        key = f"{architecture}.{name}"
        least = 0 if name in MAY_BE_ZERO else 1
        if key not in header.kinds and name in MOST:
            yield f"it has no {key}"
        if key in header.kinds and not least <= whole(header, key) <= most:
            yield f"{key} is no number between {least} and {most}"
    for name in (EPSILON, *NUMBERS):
        key = f"{architecture}.{name}"
        if key in header.kinds and not (
            header.kinds[key] == FLOAT32 and math.isfinite(header.values.get(key, math.nan))
        ):
            yield f"{key} is no finite number"
    if not 0 <= header.values.get(f"{architecture}.{EPSILON}", -1) < 1:
        yield f"{architecture}.{EPSILON} is not between 0 and 1"
    scaling = f"{architecture}.rope.scaling.type"
    if scaling in header.kinds and (header.kinds[scaling] != TEXT or header.values.get(scaling) not in SCALINGS):
        yield f"{scaling} is not among {', '.join(SCALINGS)}"
    causal = f"{architecture}.attention.causal"
    if causal in header.kinds and (header.kinds[causal] != BOOL or header.values.get(causal) is not True):
        yield f"{causal} is not true"
    for name in FOREIGN:
        if header.values.get(f"{architecture}.{name}", 0) != 0 or f"{architecture}.{name}" in header.arrays:
            yield f"{architecture}.{name} is for other architectures"


def shape_faults(header: Header, architecture: str) -> Iterator[str]:
    """Yield numbers of heads and experts that contradict each other."""
    of = partial(entry, header, architecture)
    heads, width = of("attention.head_count"), of("embedding_length")
    if heads % of("attention.head_count_kv", heads):
        yield f"its {heads} heads can't share {of('attention.head_count_kv')} heads of keys"
    size = of("attention.key_length", width // heads)
    if not size or size != of("attention.value_length", width // heads):
        yield "its heads of keys and of values differ in length, or have none"
    rotated = of("rope.dimension_count", size)
    if rotated % 2 or rotated > size or (rotated != size and architecture != "phi3"):
        yield f"it rotates {rotated} of {size} dimensions of a head"
    experts, used = of("expert_count"), of("expert_used_count")
    if used > experts or (experts and not used):
        yield f"it uses {used} of {experts} experts"


def tensor_faults(header: Header, architecture: str) -> Iterator[str]:
    """Yield what is wrong with the tensors."""
    of = partial(entry, header, architecture)
    heads, width, vocabulary = of("attention.head_count"), of("embedding_length"), header.arrays.get(TOKENS)
    size = of("attention.key_length", width // heads)
    if architecture == "phi3" and heads * size != width:
        yield f"its {heads} heads of {size} dimensions are not {width} together"
    needed, optional = language_tensors(
        architecture,
        of("block_count"),
        width,
        of("feed_forward_length"),
        heads * size,
        of("attention.head_count_kv", heads) * size,
        of("rope.dimension_count", size),
        of("expert_count"),
    )
    if header.values.get(MODEL) not in (SENTENCEPIECE, BYTE_LEVEL):
        yield f"{MODEL} is neither {SENTENCEPIECE} nor {BYTE_LEVEL}"
    needed["token_embd.weight"] = optional["output.weight"] = (width, vocabulary)
    yield from table_faults(header.tensors, needed, optional)
    yield from type_faults(header.tensors)
