"""Merge an adapter into its full-precision base, one block of rows at a time.

python scripts/train/merge_adapter.py results/runs/football/adapter/manifest.json \
    --base results/models/embedded/manifest.json --output results/runs/football/merged

Each weight becomes W + scale * B A, computed in float32 and stored in the base's number format; all other files,
tokenizer and configuration included, are copied from the base unchanged, and so are the bytes of all other weights.
Memory does not grow with the model, except for pages of one mapped tensor, which the system can take back. The base is
checked, and the result hashed, while weights are merged.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from scripts.common.cli import progress, step_main, step_parser
from scripts.common.errors import UserError
from scripts.common.files import atomic_folder, check_manifest, write_manifest
from scripts.common.hashing import Hashing
from scripts.common.vision import lower_longest_edge
from scripts.model.safetensors_files import weight_files
from scripts.model.tokenizer_files import copy_tokenizer_files


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
    from scripts.train.adapter_updates import adapter_updates
    from scripts.train.merged_weights import write_weights

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
        # numpy and torch read them when they are imported: each of our threads merges a block.
        os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
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
