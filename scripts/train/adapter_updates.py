"""How each weight that an adapter changes is merged: LoRA, rank-stabilised LoRA, DoRA, and weights trained in full."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy

from scripts.common.errors import UserError
from scripts.common.files import read_json
from scripts.common.vision import PROJECTOR
from scripts.model.safetensors_files import read_entries
from scripts.train.merged_weights import StoredTensor, Update

PREFIX = "base_model.model."
SMALL = 500_000  # multiplications of a product: up to a million, OpenBLAS copies no matrix and takes half the time
UNMERGED = ("rank_pattern", "alpha_pattern", "fan_in_fan_out", "layer_replication", "use_qalora", "use_bdlora")


def adapter_updates(folder: Path) -> dict[str, Update]:
    """Return how each weight that the adapter changes is merged; the adapter's tensors are read when one is.

    LoRA: W + s B A with s = alpha / r, or alpha / sqrt(r) when rank-stabilised (arXiv:2106.09685, 2312.03732). DoRA:
    the same, then each row scaled to its trained magnitude (arXiv:2402.09353). A projector that was trained in full
    replaces the base's. Raises UserError for an adapter with other tensors.
    """
    config = read_json(folder / "adapter_config.json")
    if other := [key for key in UNMERGED if config.get(key)]:
        raise UserError(f"has {', '.join(other)}, which can't be merged", folder / "adapter_config.json")
    scale = config["lora_alpha"] / (math.sqrt(config["r"]) if config.get("use_rslora") else config["r"])
    path = folder / "adapter_model.safetensors"
    tensors = {name: StoredTensor(path, entry) for name, entry in read_entries(path)[0].items()}
    updates = {}
    for name in list(tensors):
        if name.startswith(f"{PREFIX}{PROJECTOR}.") and ".lora_" not in name:
            updates[name.removeprefix(PREFIX)] = replaced_weight(tensors.pop(name))
        elif name.endswith(".lora_A.weight"):
            module = name.removesuffix(".lora_A.weight")
            parts = ["lora_A.weight", "lora_B.weight", *(["lora_magnitude_vector"] if config.get("use_dora") else [])]
            trained = [tensors.pop(f"{module}.{part}") for part in parts]
            updates[f"{module.removeprefix(PREFIX)}.weight"] = merged_weight(scale, *trained)
    if tensors:
        raise UserError(f"holds tensors that can't be merged: {', '.join(sorted(tensors)[:3])}", folder)
    return updates


def merged_weight(
    scale: float, stored_a: StoredTensor, stored_b: StoredTensor, stored_magnitude: StoredTensor | None = None
) -> Update:
    """Return the update that merges A [r, in], B [out, r] and a magnitude [out] into a weight [out, in]."""

    def of_shape(shape: tuple[int, ...]) -> Callable:
        a, b = stored_a.load(), stored_b.load()
        magnitude = stored_magnitude.load() if stored_magnitude else None
        if shape != (len(b), a.shape[1]):
            raise UserError(f"changes a weight of shape {(len(b), a.shape[1])}; the base's is {shape}", stored_a.path)

        def merge(weight: numpy.ndarray, rows: slice, out: numpy.ndarray) -> None:
            product(b[rows], a, out)
            out *= numpy.float32(scale)
            out += weight
            if magnitude is not None:
                out *= (magnitude[rows] / row_norms(out))[:, None]

        return merge

    return of_shape


def product(b: numpy.ndarray, a: numpy.ndarray, out: numpy.ndarray) -> None:
    """Write b [m, r] times a [r, n] to `out` [m, n], as products of few rows where these are faster."""
    rows = SMALL // a.size
    whole = max(len(b) // rows - 1, 0) * rows if rows >= 4 else 0
    if whole:
        numpy.matmul(b[:whole].reshape(-1, rows, len(a)), a, out=out[:whole].reshape(-1, rows, a.shape[1]))
    numpy.matmul(b[whole:], a, out=out[whole:])


def row_norms(values: numpy.ndarray) -> numpy.ndarray:
    """Return the Euclidean norm of each row, as torch computes it."""
    import torch

    return torch.linalg.norm(torch.from_numpy(values), dim=1).numpy()


def replaced_weight(stored: StoredTensor) -> Update:
    """Return the update that replaces a weight by a trained weight of the same shape."""

    def of_shape(shape: tuple[int, ...]) -> Callable:
        trained = stored.load().reshape(shape)
        return lambda weight, rows, out: numpy.copyto(out, trained[rows])

    return of_shape
