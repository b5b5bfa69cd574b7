"""Merge an adapter into its full-precision base, one block of rows at a time.

python scripts/train/merge_adapter.py results/runs/football/adapter/manifest.json \
    --base results/models/embedded/manifest.json --output results/runs/football/merged

Each weight becomes W + scale * B A, computed in float32 and stored in the base's number format; all other files,
tokenizer and configuration included, are copied from the base unchanged, and so are the bytes of all other weights.
Memory grows with the largest tensor, not with the model. The base is checked, and the result hashed, while weights are
merged.
"""

import math
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy

from scripts.common.cli import progress, step_main, step_parser
from scripts.common.errors import UserError
from scripts.common.files import atomic_folder, check_manifest, read_json, write_manifest
from scripts.common.float32 import product
from scripts.common.hashing import Hashing
from scripts.common.threads import OPENMP
from scripts.common.vision import PROJECTOR, lower_longest_edge
from scripts.model.safetensors_files import read_entries, weight_files
from scripts.model.tokenizer_files import copy_tokenizer_files
from scripts.train.merged_weights import Scratch, StoredTensor, Update, write_weights

PREFIX = "base_model.model."
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
    updates, scratch = {}, Scratch()
    for name in list(tensors):
        if name.startswith(f"{PREFIX}{PROJECTOR}.") and ".lora_" not in name:
            updates[name.removeprefix(PREFIX)] = replaced_weight(tensors.pop(name))
        elif name.endswith(".lora_A.weight"):
            module = name.removesuffix(".lora_A.weight")
            parts = ["lora_A.weight", "lora_B.weight", *(["lora_magnitude_vector"] if config.get("use_dora") else [])]
            trained = [tensors.pop(f"{module}.{part}") for part in parts]
            updates[f"{module.removeprefix(PREFIX)}.weight"] = merged_weight(scratch, scale, *trained)
    if tensors:
        raise UserError(f"holds tensors that can't be merged: {', '.join(sorted(tensors)[:3])}", folder)
    return updates


def merged_weight(
    scratch: Scratch,
    scale: float,
    stored_a: StoredTensor,
    stored_b: StoredTensor,
    stored_magnitude: StoredTensor | None = None,
) -> Update:
    """Return the update that merges A [r, in], B [out, r] and a magnitude [out] into a weight [out, in]."""

    def of_shape(shape: tuple[int, ...]) -> Callable:
        a, b = stored_a.load(), stored_b.load()
        magnitude = stored_magnitude.load() if stored_magnitude else None
        if shape != (len(b), a.shape[1]):
            raise UserError(f"changes a weight of shape {(len(b), a.shape[1])}; the base's is {shape}", stored_a.path)

        # In one piece: a product of a few rows can differ in the last bit from the same rows of the whole product.
        change = scratch.matrix(*shape)
        product(b, a, change)

        def merge(weight, rows: slice):
            result = change[rows]
            result *= numpy.float32(scale)
            result += weight
            if magnitude is not None:
                result *= (magnitude[rows] / row_norms(result))[:, None]
            return result

        return merge

    return of_shape


def row_norms(values: numpy.ndarray) -> numpy.ndarray:
    """Return the Euclidean norm of each row, as torch computes it."""
    import torch

    return torch.linalg.norm(torch.from_numpy(values), dim=1).numpy()


def replaced_weight(stored: StoredTensor) -> Update:
    """Return the update that replaces a weight by a trained weight of the same shape."""

    def of_shape(shape: tuple[int, ...]) -> Callable:
        trained = stored.load().reshape(shape)
        return lambda weight, rows: trained[rows]

    return of_shape


def module_names(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Map each tensor in a vision model's folder to its name in the loaded model.

    They differ for Mistral 3: `language_model.model.layers...` in hub files, `model.language_model.layers...` in the
    model. The names come from transformers' table of conversions, for a model on the meta device.
    """
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightRenaming, rename_source_key

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(folder))
    known = model.state_dict()
    renamings = [rule for rule in get_model_conversion_mapping(model) if isinstance(rule, WeightRenaming)]
    return {name: rename_source_key(name, renamings, [], model.base_model_prefix, known)[0] for name in names}


def merge_adapter(adapter: Path, base: Path, output: Path, threads: int = 2) -> None:
    """Write the merged model's folder; raises UserError if the adapter does not fit the base."""
    with Hashing() as hashing:
        facts, trust = check_manifest(adapter), check_manifest(base, hashes=False).get("trust_remote_code", False)
        hashing.check(base)
        updates = adapter_updates(adapter.parent)
        vision = {key: facts[key] for key in ("task", "longest_edge") if key in facts}  # only of a vision run
        names = {name: name for name in updates}  # from names in the base's files to those that the adapter has
        found = weight_files(base.parent)
        if vision and not updates.keys() <= found.keys():
            names = {name: ours for name, ours in module_names(base.parent, found).items() if ours in updates}
        if missing := updates.keys() - {ours for name, ours in names.items() if name in found}:
            raise UserError(f"changes weights missing in the base: {', '.join(sorted(missing)[:3])}", adapter.parent)
        weights = sorted({*found.values()})
        changes = {name: updates[ours] for name, ours in names.items()}
        with atomic_folder(output) as folder:
            for path in progress(weights, "merge", len(weights)):
                write_weights(path, folder / path.name, changes, threads=threads)
                hashing.add(folder / path.name)
            for path in [base.parent / "config.json", *base.parent.glob("*.safetensors.index.json")]:
                shutil.copyfile(path, folder / path.name)
            copy_tokenizer_files(base.parent, folder, trust)
            lower_longest_edge(folder, facts.get("longest_edge"))
            hashing.finish()
            write_manifest(folder, base=facts["base"], method=facts["method"], trust_remote_code=trust, **vision)


def merge_main(merge: Callable, description: str) -> Callable[..., int]:
    """Return the `main` of a program that runs `merge` like `merge_adapter`."""

    def step(arguments) -> None:
        # Of the BLAS library, which reads them when it is loaded.
        os.environ.update(OPENMP, OMP_NUM_THREADS=str(arguments.threads))
        merge(arguments.adapter, arguments.base, arguments.output, arguments.threads)

    def parser():
        result = step_parser(description)
        result.add_argument("adapter", type=Path, help="manifest.json of the adapter or the head")
        result.add_argument("--base", type=Path, required=True, help="manifest.json of the base model")
        result.add_argument("--output", type=Path, required=True, help="folder for the merged model")
        result.add_argument("--threads", type=int, default=2, help="CPU threads")
        return result

    return step_main(step, parser)


main = merge_main(merge_adapter, __doc__.splitlines()[0])

if __name__ == "__main__":
    sys.exit(main())
