"""adapter_config.json as this version of peft understands it, whichever version wrote it.

peft writes every key that it knows, also those that change nothing, and drops those that it does not know with a
warning, whatever they say. An adapter whose unknown key changes what it computes would then load as another adapter.
"""

import logging
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scripts.common.errors import UserError
from scripts.common.files import read_json

CONFIG = "adapter_config.json"
# What peft's LoraConfig of the locked version knows; a test compares the two, for importing peft takes seconds.
KNOWN = frozenset((
    "alora_invocation_tokens", "alpha_pattern", "arrow_config", "auto_mapping", "base_model_name_or_path", "bias",
    "corda_config", "ensure_weight_tying", "eva_config", "exclude_modules", "fan_in_fan_out", "inference_mode",
    "init_lora_weights", "kasa_config", "layer_replication", "layers_pattern", "layers_to_transform", "loftq_config",
    "lora_alpha", "lora_bias", "lora_dropout", "lora_ga_config", "megatron_config", "megatron_core", "modules_to_save",
    "monteclora_config", "peft_type", "peft_version", "qalora_group_size", "r", "rank_pattern", "revision",
    "runtime_config", "target_modules", "target_parameters", "task_type", "trainable_token_indices", "use_bdlora",
    "use_dora", "use_qalora", "use_rslora", "velora_config",
))  # fmt: skip
# What an older peft did not write yet.
ABSENT = {"use_rslora": False, "use_dora": False}
log = logging.getLogger(__name__)


def changes_nothing(key: str, value: Any, config: dict) -> bool:
    """Tell whether a key is switched off: null, false, 0, empty, or an option `x_...` of a switch `use_x` that is."""
    off = [name.removeprefix("use_") for name, switch in config.items() if name.startswith("use_") and not switch]
    return not value or any(key.startswith(f"{name}_") for name in off)


def read_adapter_config(folder: Path) -> dict:
    """Return the configuration of an adapter with the keys that this version of peft knows.

    An unknown key that changes nothing is left out, and the log says so. Raises UserError for one that does.
    """
    config = read_json(folder / CONFIG)
    unknown = {key: value for key, value in config.items() if key not in KNOWN}
    theirs, ours = config.get("peft_version") or "another version", version("peft")
    meant = {key: value for key, value in unknown.items() if not changes_nothing(key, value, config)}
    if meant:
        named = ", ".join(f"{key} = {value!r}" for key, value in sorted(meant.items()))
        raise UserError(
            f"has what this peft does not know: {named} (written by peft {theirs}, installed is {ours})",
            folder / CONFIG,
            remedy="install that version, train the adapter again, or take the key out if it changes nothing",
        )
    if unknown:
        log.warning(
            "%s: left out %s, unknown to peft %s and switched off (written by peft %s)",
            folder / CONFIG,
            ", ".join(sorted(unknown)),
            ours,
            theirs,
        )
    return {**ABSENT, **{key: value for key, value in config.items() if key in KNOWN}}


def adapter_config(folder: Path):
    """Return the peft configuration with which the adapter of a folder loads; raises as `read_adapter_config` does."""
    from peft import PeftConfig

    return PeftConfig.from_peft_type(**read_adapter_config(folder))
