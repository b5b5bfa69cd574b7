"""What the tensors of a GGUF file must be for ggml to compute with them.

Source: src/models/{llama,mistral3,phi3}.cpp of llama.cpp, which look at the shapes of most tensors but go on without
some that the graph then needs, and ggml/src/ggml-cpu, which ends the process at a type that it has no operator for.
"""

from collections.abc import Iterable, Iterator

from scripts.common.gguf_layout import Tensor

Shape = tuple[int, ...]
NO_WEIGHTS = (9, 15, 24, 25, 26, 27, 28)  # q8_1, q8_k: for sums in between only; whole numbers and 64 bits


def type_faults(tensors: Iterable[Tensor]) -> Iterator[str]:
    """Yield tensors of types that can't be computed with: what is one row is added or multiplied as float32."""
    for tensor in tensors:
        if len(tensor.shape) == 1 and tensor.type != 0:
            yield f"tensor '{tensor.name}' is one row of another type than float32"
        if tensor.type in NO_WEIGHTS:
            yield f"tensor '{tensor.name}' has the type {tensor.type}, which is none of weights"


def table_faults(tensors: Iterable[Tensor], needed: dict[str, Shape], optional: dict[str, Shape]) -> Iterator[str]:
    """Yield the tensors that are missing, or of another shape than they should have."""
    found = {tensor.name: tensor.shape for tensor in tensors}
    for name, shape in (needed | optional).items():
        if name in found and found[name] != shape:
            yield f"tensor '{name}' has the shape {found[name]}, and should have {shape}"
    yield from (f"it has no tensor '{name}'" for name in needed if name not in found)


def with_biases(matrices: dict[str, Shape]) -> tuple[dict[str, Shape], dict[str, Shape]]:
    """Return the shapes of matrices' weights, and those of their biases."""
    weights = {f"{name}.weight": shape for name, shape in matrices.items()}
    return weights, {f"{name}.bias": shape[1:] for name, shape in matrices.items()}


def language_tensors(
    architecture: str, blocks: int, width: int, inner: int, queries: int, keys: int, rotated: int, experts: int
) -> tuple[dict[str, Shape], dict[str, Shape]]:
    """Return the shapes of the tensors that each block of a language model needs, and of those that it may have.

    `queries` and `keys` are the lengths of all heads together, `rotated` the dimensions of a head that are rotated.
    """
    needed: dict[str, Shape] = {"output_norm.weight": (width,)}
    frequencies = ("rope_freqs", "rope_factors_long", "rope_factors_short")
    optional: dict[str, Shape] = {f"{name}.weight": (rotated // 2,) for name in frequencies}
    for block in range(blocks):
        place = f"blk.{block}"
        matrices = {f"{place}.attn_output": (queries, width)}
        if architecture == "phi3":
            matrices |= {f"{place}.attn_qkv": (width, queries + 2 * keys), f"{place}.ffn_up": (width, 2 * inner)}
            matrices[f"{place}.ffn_down"] = (inner, width)
        else:
            matrices |= {f"{place}.attn_q": (width, queries)}
            matrices |= {f"{place}.attn_{name}": (width, keys) for name in "kv"}
        if architecture != "phi3" and not experts:
            matrices |= {f"{place}.ffn_{name}": (width, inner) for name in ("gate", "up")}
            matrices[f"{place}.ffn_down"] = (inner, width)
        weights, biases = with_biases(matrices)
        if architecture != "phi3" and experts:
            weights |= {f"{place}.ffn_{name}_exps.weight": (width, inner, experts) for name in ("gate", "up")}
            weights |= {f"{place}.ffn_down_exps.weight": (inner, width, experts)}
            weights |= {f"{place}.ffn_gate_inp.weight": (width, experts)}
        needed |= weights | {f"{place}.{name}_norm.weight": (width,) for name in ("attn", "ffn")}
        optional |= biases
    return needed, optional
