"""What an mmproj file must be for libmtmd to compute with it: a Pixtral tower, as Mistral 3 has it.

Source: `clip_model_loader` in tools/mtmd/clip.cpp and tools/mtmd/models/pixtral.cpp of llama.cpp. It asks for entries
without asking for their type, and for no tensor's shape at all, so all of them are checked here. Other towers are
refused: this project makes none.
"""

import math
from collections.abc import Iterator

from scripts.common.gguf_layout import BOOL, FLOAT32, TEXT, UINT32, Cursor, Header
from scripts.common.gguf_tensors import Shape, table_faults, type_faults, with_biases

KIND = "pixtral"
SIZES = {
    "clip.vision.embedding_length": 1 << 16,
    "clip.vision.attention.head_count": 1 << 10,
    "clip.vision.feed_forward_length": 1 << 20,
    "clip.vision.block_count": 512,
    "clip.vision.projection_dim": 1 << 20,
    "clip.vision.image_size": 8192,
    "clip.vision.patch_size": 256,
    "clip.vision.spatial_merge_size": 16,
    "clip.vision.preproc_image_size": 8192,
}
OPTIONAL = ("clip.vision.spatial_merge_size", "clip.vision.preproc_image_size")
EPSILON = "clip.vision.attention.layer_norm_epsilon"
COLOURS = ("clip.vision.image_mean", "clip.vision.image_std")
FLAGS = ("clip.has_vision_encoder", "clip.use_gelu", "clip.use_silu")
TYPES = {
    **dict.fromkeys(SIZES, UINT32),
    **dict.fromkeys(FLAGS, BOOL),
    **dict.fromkeys((EPSILON, *COLOURS), FLOAT32),
    "clip.projector_type": TEXT,
    "general.name": TEXT,
    "general.description": TEXT,
}
CONVOLUTION, BREAK = "v.patch_embd.weight", "v.token_embd.img_break"
MERGER = ("mm.input_norm.weight", "mm.patch_merger.weight")


def projector_faults(header: Header, cursor: Cursor) -> Iterator[str]:
    """Yield what is wrong with an mmproj file."""
    yield from entry_faults(header, cursor)
    yield from shape_faults(header)
    yield from type_faults(header.tensors)


def entry_faults(header: Header, cursor: Cursor) -> Iterator[str]:
    """Yield the entries that are missing, unknown, of a wrong type or of an impossible value."""
    for key, kind in header.kinds.items():
        if key.startswith("clip.") and key not in TYPES:
            yield f"{key} is unknown for a projector '{KIND}'"
        if key in TYPES and (kind != TYPES[key] or (key in header.arrays) != (key in COLOURS)):
            yield f"{key} is of another type than it should be"
    if header.values.get("clip.projector_type") != KIND or header.values.get("clip.has_vision_encoder") is not True:
        yield f"it is no vision tower with a projector '{KIND}', the only one that is served here"
    for key, most in SIZES.items():
        if key not in header.kinds and key not in OPTIONAL:
            yield f"it has no {key}"
        if not 1 <= header.values.get(key, 1) <= most:
            yield f"{key} is {header.values[key]}, not between 1 and {most}"
    if not 0 <= header.values.get(EPSILON, -1) < 1:
        yield f"{EPSILON} is not between 0 and 1"
    if header.values.get("clip.use_gelu") and header.values.get("clip.use_silu"):
        yield "clip.use_gelu and clip.use_silu are both true"
    for key in COLOURS:
        if header.arrays.get(key) != 3:
            yield f"{key} is not three numbers"
        if not all(math.isfinite(value) and (value or key != COLOURS[1]) for value in cursor.entry(header, key)):
            yield f"{key} has an impossible value"


def shape_faults(header: Header) -> Iterator[str]:
    """Yield the tensors that are missing, unknown or of another shape than the entries say."""
    width, heads = (header.values[f"clip.vision.{name}"] for name in ("embedding_length", "attention.head_count"))
    if width % heads or width // heads % 4:
        yield f"its {width} dimensions are not {heads} heads that can be rotated in two directions"
    needed, optional = projector_tensors(header)
    found = {tensor.name: tensor.type for tensor in header.tensors}
    for name in found:
        if name not in needed and name not in optional:
            yield f"tensor '{name}' is unknown for a projector '{KIND}'"
    if len([name for name in MERGER if name in found]) == 1:
        yield f"it has one of {' and '.join(MERGER)}, but not the other"
    yield from table_faults(header.tensors, needed, optional)
    if found[CONVOLUTION] not in (0, 1):
        yield f"tensor '{CONVOLUTION}' is neither float32 nor float16"


def projector_tensors(header: Header) -> tuple[dict[str, Shape], dict[str, Shape]]:
    """Return the shapes of the tensors that a tower of these sizes needs, and of those that it may have.

    The converter of llama.cpp leaves out that of the row's end.
    """
    values = {key.removeprefix("clip.vision."): value for key, value in header.values.items()}
    width, inner, text = (values[name] for name in ("embedding_length", "feed_forward_length", "projection_dim"))
    patch, merge = values["patch_size"], values.get("spatial_merge_size", 1)
    norms: dict[str, Shape] = {"v.pre_ln.weight": (width,)}
    matrices = {"mm.1": (width, text), "mm.2": (text, text)}
    for block in range(values["block_count"]):
        place = f"v.blk.{block}"
        norms |= {f"{place}.ln{number}.weight": (width,) for number in (1, 2)}
        matrices |= {f"{place}.attn_{name}": (width, width) for name in ("q", "k", "v", "out")}
        matrices |= {f"{place}.ffn_{name}": (width, inner) for name in ("gate", "up")}
        matrices[f"{place}.ffn_down"] = (inner, width)
    weights, biases = with_biases(matrices)
    merger = dict(zip(MERGER, ((width,), (width * merge * merge, width)), strict=True))
    return {CONVOLUTION: (patch, patch, 3, width), **norms, **weights}, {BREAK: (text,), **merger, **biases}
