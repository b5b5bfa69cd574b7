"""Put a trained head on its base: a folder that AutoModelForTokenClassification loads, without peft.

python scripts/train/merge_head.py results/runs/pii/adapter/manifest.json \
    --base results/models/embedded/manifest.json --output results/runs/pii/merged

The base's weight files are linked if LoRA changes nothing in them. The language model head stays in its file, because
removing it would mean rewriting the file; the index does not list it, so loaders ignore it. The head is an additional
file, in float32. With LoRA, each weight becomes W + scale * B A, one block of rows at a time. If the head reads
an earlier layer (head.layer), the model ends there: files with later layers are rewritten.
"""

import re
import shutil
import sys
from pathlib import Path

from scripts.common.cli import progress
from scripts.common.errors import UserError
from scripts.common.files import atomic_folder, check_manifest, link_or_copy, read_json, write_json, write_manifest
from scripts.common.threads import use_threads
from scripts.model.safetensors_files import read_entries
from scripts.model.tokenizer_files import copy_tokenizer_files
from scripts.train.merge_adapter import merge_main

BACKBONE = "model."


def layer_of(name: str) -> int:
    """Return the layer number, from 1, of a tensor of the backbone; 0 for a tensor outside of the layers."""
    match = re.match(rf"{re.escape(BACKBONE)}layers\.(\d+)\.", name)
    return int(match[1]) + 1 if match else 0


def write_file(source: Path, target: Path, updates: dict, layer: int, threads: int) -> list[str]:
    """Link a weight file, or rewrite it if updates change it or layers after `layer` are left out.

    Returns the backbone's tensors in it; a file without any is not written. What was merged is removed from `updates`.
    """
    from scripts.train.merged_weights import write_weights

    names = list(read_entries(source)[0])
    own = [name for name in names if name.startswith(BACKBONE) and layer_of(name) <= layer]
    changed = {name: updates.pop(name) for name in names if name in updates}
    if not changed and not any(layer_of(name) > layer for name in names):
        link_or_copy(source, target)
    elif own:
        write_weights(source, target, changed, own, threads)
    return own


def merge_head(adapter: Path, base: Path, output: Path, threads: int = 2) -> None:
    """Write the classifier's folder; raises UserError if the head does not fit the base."""
    use_threads(threads)
    from safetensors import safe_open

    from scripts.train.adapter_updates import adapter_updates
    from scripts.train.classifier_head import HEAD, HEAD_CONFIG
    from scripts.train.head_model import classifier_config, end_at_layer

    facts, trust = check_manifest(adapter), check_manifest(base).get("trust_remote_code", False)
    head = read_json(adapter.parent / HEAD_CONFIG)
    config = classifier_config(base.parent, head["labels"], head["dropout"])
    if head["layer"] < head["base_layers"]:
        config = end_at_layer(config, head["layer"])
    updates = adapter_updates(adapter.parent) if (adapter.parent / "adapter_config.json").is_file() else {}
    sources = sorted(base.parent.glob("*.safetensors"))
    count = len(sources) + 1
    files = [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]
    places = {}
    with atomic_folder(output) as folder:
        for source, name in progress(zip(sources, files, strict=False), "merge head", len(sources)):
            places |= dict.fromkeys(write_file(source, folder / name, updates, head["layer"], threads), name)
        if updates:
            raise UserError(f"changes weights missing in the base: {', '.join(sorted(updates)[:3])}", adapter.parent)
        shutil.copyfile(adapter.parent / HEAD, folder / files[-1])
        with safe_open(folder / files[-1], framework="pt") as file:
            places |= dict.fromkeys(file.keys(), files[-1])
        size = sum((folder / name).stat().st_size for name in files if (folder / name).is_file())
        index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(places.items()))}
        write_json(folder / "model.safetensors.index.json", index)
        write_json(folder / "config.json", config)
        shutil.copyfile(adapter.parent / HEAD_CONFIG, folder / HEAD_CONFIG)
        copy_tokenizer_files(base.parent, folder, trust)
        (folder / "generation_config.json").unlink(missing_ok=True)
        write_manifest(folder, base=facts["base"], method=facts["method"], trust_remote_code=trust)


main = merge_main(merge_head, __doc__.splitlines()[0])

if __name__ == "__main__":
    sys.exit(main())
