"""From what the user wrote to one plain mapping per run: overrides first, then sweeps."""

import copy
import itertools
import re
from typing import Any

from scripts.common.config.models import SOURCES


def merged(base: dict, overlay: dict) -> dict:
    """Return `base` with `overlay` laid over it; mappings are merged key by key, anything else is replaced."""
    result = dict(base)
    for key, value in overlay.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else copy.deepcopy(value)
    return result


def with_overrides(config: dict) -> dict:
    """Apply `override`: its `models` and `runs` are laid over every model and every run, then it is gone.

    An override that names a source (`hub`, `path` or `embedded`) takes the place of the model's own source.
    """
    config = copy.deepcopy(config)
    override = config.pop("override", None)
    if not isinstance(override, dict):
        return config
    for section in ("models", "runs"):
        overlay = override.get(section)
        entries = config.get(section)
        if not isinstance(overlay, dict) or not isinstance(entries, dict):
            continue
        for name, entry in entries.items():
            if isinstance(entry, dict):
                replaced = SOURCES if section == "models" and any(source in overlay for source in SOURCES) else ()
                entries[name] = merged({key: entry[key] for key in entry if key not in replaced}, overlay)
    return config


def value_label(value: Any) -> str:
    """Name a sweep's value in a path: letters, digits, dot and dash only."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-") or "none"


def set_dotted(target: dict, dotted: str, value: Any) -> None:
    """Set the value at a dotted key, making the mappings on the way."""
    *parents, last = dotted.split(".")
    for parent in parents:
        if not isinstance(target.get(parent), dict):
            target[parent] = {}
        target = target[parent]
    target[last] = copy.deepcopy(value)


def expand_sweep(name: str, run: dict) -> dict[str, dict]:
    """Return one run per combination of the sweep's values, named `run-key1value1-key2value2`."""
    sweep = run.get("sweep")
    if not isinstance(sweep, dict) or not sweep or not all(isinstance(v, list) and v for v in sweep.values()):
        return {name: run}
    runs = {}
    for values in itertools.product(*sweep.values()):
        expanded = {key: copy.deepcopy(value) for key, value in run.items() if key != "sweep"}
        parts = [name]
        for dotted, value in zip(sweep, values, strict=True):
            set_dotted(expanded, dotted, value)
            parts.append(f"{dotted.rsplit('.', 1)[-1]}{value_label(value)}")
        runs["-".join(parts)] = expanded
    return runs
