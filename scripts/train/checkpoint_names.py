"""The names of a checkpoint's tensors, and those that the loaded model has for them.

They differ for Mistral 3: hub files say `language_model.model.layers...`, the model `model.language_model.layers...`.
transformers renames while it loads; its own table of conversions is asked here, over a model without memory.
"""

from collections.abc import Iterable
from pathlib import Path

from scripts.common.errors import UserError


def names_in_files(folder: Path) -> list[str]:
    """Return the names of the tensors in a model folder's safetensors files, from their headers alone."""
    from safetensors import safe_open

    names = []
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            names += file.keys()
    return names


def module_names(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the loaded model's name of each tensor of a vision model's folder.

    Raises UserError when two tensors become one: what changes which would not be clear then.
    """
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightRenaming, rename_source_key

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(folder))
    known = model.state_dict()
    renamings = [rule for rule in get_model_conversion_mapping(model) if isinstance(rule, WeightRenaming)]
    result = {name: rename_source_key(name, renamings, [], model.base_model_prefix, known)[0] for name in names}
    if len(set(result.values())) < len(result):
        twice = next(name for name in result.values() if list(result.values()).count(name) > 1)
        raise UserError(f"has more than one tensor for '{twice}'", folder)
    return result
