"""Merge an adapter into its full-precision base, one weight file at a time.

python scripts/train/merge_adapter.py results/runs/football/adapter/manifest.json \
    --base results/models/embedded/manifest.json --output results/runs/football/merged

Each weight becomes W + scale * B A, computed in float32 and stored in the base's number format; all other files,
tokenizer and configuration included, are copied from the base unchanged. Only one weight file is in memory at a time.
"""

import math
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from scripts.common.cli import progress, step_main, step_parser
from scripts.common.errors import UserError
from scripts.common.files import atomic_folder, check_manifest, read_json, write_manifest
from scripts.common.threads import use_threads
from scripts.common.vision import PROJECTOR, lower_longest_edge
from scripts.model.safetensors_files import weight_files
from scripts.model.tokenizer_files import copy_tokenizer_files

PREFIX = "base_model.model."
UNMERGED = ("rank_pattern", "alpha_pattern", "fan_in_fan_out", "layer_replication", "use_qalora", "use_bdlora")


def adapter_updates(folder: Path) -> dict[str, Callable]:
    """Return a function from base weight to merged weight for each weight that the adapter changes.

    LoRA: W + s B A with s = alpha / r, or alpha / sqrt(r) when rank-stabilised (arXiv:2106.09685, 2312.03732). DoRA:
    the same, then each row scaled to its trained magnitude (arXiv:2402.09353). A projector that was trained in full
    replaces the base's. Raises UserError for an adapter with other tensors.
    """
    from safetensors.torch import load_file

    config = read_json(folder / "adapter_config.json")
    if other := [key for key in UNMERGED if config.get(key)]:
        raise UserError(f"has {', '.join(other)}, which can't be merged", folder / "adapter_config.json")
    scale = config["lora_alpha"] / (math.sqrt(config["r"]) if config.get("use_rslora") else config["r"])
    tensors = load_file(folder / "adapter_model.safetensors")
    updates = {}
    for name in list(tensors):
        if name.startswith(f"{PREFIX}{PROJECTOR}.") and ".lora_" not in name:
            updates[name.removeprefix(PREFIX)] = replaced_weight(tensors.pop(name).float())
        elif name.endswith(".lora_A.weight"):
            module = name.removesuffix(".lora_A.weight")
            parts = ["lora_A.weight", "lora_B.weight", *(["lora_magnitude_vector"] if config.get("use_dora") else [])]
            trained = [tensors.pop(f"{module}.{part}").float() for part in parts]
            updates[f"{module.removeprefix(PREFIX)}.weight"] = merged_weight(scale, *trained)
    if tensors:
        raise UserError(f"holds tensors that can't be merged: {', '.join(sorted(tensors)[:3])}", folder)
    return updates


def merged_weight(scale: float, a, b, magnitude=None) -> Callable:
    """Return the function that merges A [r, in], B [out, r] and a magnitude [out] into a weight [out, in]."""
    import torch

    def merge(weight):
        result = weight.float() + (b @ a) * scale
        if magnitude is not None:
            result = result * (magnitude / torch.linalg.norm(result, dim=1)).unsqueeze(1)
        return result.to(weight.dtype)

    return merge


def replaced_weight(trained) -> Callable:
    """Return the function that replaces a weight by a trained weight of the same shape."""
    return lambda weight: trained.view_as(weight).to(weight.dtype)


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


def merge_adapter(adapter: Path, base: Path, output: Path) -> None:
    """Write the merged model's folder; raises UserError if the adapter does not fit the base."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    facts, trust = check_manifest(adapter), check_manifest(base).get("trust_remote_code", False)
    updates = adapter_updates(adapter.parent)
    vision = {key: facts[key] for key in ("task", "longest_edge") if key in facts}  # only of a vision run
    names = {name: name for name in updates}  # the adapter's name of each tensor in the base's files that it changes
    found = weight_files(base.parent)
    if vision and not updates.keys() <= found.keys():
        names = {name: ours for name, ours in module_names(base.parent, found).items() if ours in updates}
    weights = sorted({*found.values()})
    with atomic_folder(output) as folder:
        for path in progress(weights, "merge", len(weights)):
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                metadata = file.metadata()
            for name in tensors.keys() & names.keys():
                tensors[name] = updates.pop(names[name])(tensors[name])
            save_file(tensors, folder / path.name, metadata)
        if updates:
            raise UserError(f"changes weights missing in the base: {', '.join(sorted(updates)[:3])}", adapter.parent)
        for path in [base.parent / "config.json", *base.parent.glob("*.safetensors.index.json")]:
            shutil.copyfile(path, folder / path.name)
        copy_tokenizer_files(base.parent, folder, trust)
        lower_longest_edge(folder, facts.get("longest_edge"))
        write_manifest(folder, base=facts["base"], method=facts["method"], trust_remote_code=trust, **vision)


def merge_main(merge: Callable, description: str) -> Callable[..., int]:
    """Return the `main` of a program that runs `merge` like `merge_adapter`."""

    def step(arguments) -> None:
        use_threads(arguments.threads)
        merge(arguments.adapter, arguments.base, arguments.output)

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
