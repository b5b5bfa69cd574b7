"""Apply overrides and expand sweeps, so that each run is one plain mapping."""

import copy
import itertools
import math
import os
import re
from typing import Any, NamedTuple

from scripts.config.models import SOURCES
from scripts.config.types import number_from_scientific

MOST_COMBINATIONS = 1000


class Origin(NamedTuple):
    """The origin of an expanded run: the name of the written run, and the dotted keys that its sweep sets."""

    run: str
    swept: tuple[str, ...] = ()


def merged(base: dict, overlay: dict) -> dict:
    """Return `base` updated with `overlay`: mappings are merged recursively, other values are replaced."""
    result = dict(base)
    for key, value in overlay.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else copy.deepcopy(value)
    return result


def with_overrides(config: dict) -> dict:
    """Return the configuration with `override` applied to every model and every run, and without this section.

    Its `results` is a subfolder of the results folder, in any order of the files. A source in the override (`hub`,
    `path`, `gguf` or `embedded`) replaces the model's own source.
    """
    config = copy.deepcopy(config)
    override = config.pop("override", None)
    if not isinstance(override, dict):
        return config
    folders = config.get("pathvars") or {}
    if isinstance(override.get("results"), str) and isinstance(folders, dict):
        config["pathvars"] = {**folders, "results": results_folder(config, override)}
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


def results_folder(config: dict, override: dict) -> str:
    """Return the results folder of a configuration, including the subfolder of its override."""
    folders = config.get("pathvars")
    folder = folders.get("results") if isinstance(folders, dict) else None
    return os.path.join(str(folder or "results"), str(override.get("results") or "")).rstrip("/")


def expand_runs(config: dict) -> tuple[dict[str, Origin], list[tuple[tuple, str]]]:
    """Replace each run with a sweep by its combinations, in place.

    Returns the origin of each run, and (place, message) for each sweep that can't be expanded; such a run is kept
    without its sweep.
    """
    runs = config.get("runs")
    if not isinstance(runs, dict):
        return {}, []
    expanded, origins, faults = {}, {}, []
    for name, run in runs.items():
        sweep = run.get("sweep") if isinstance(run, dict) else None
        combinations, origin = {name: run}, Origin(name)
        if isinstance(sweep, dict) and sweep and all(isinstance(v, list) and v for v in sweep.values()):
            combinations, fault = combinations_of(str(name), run)
            faults += [(("runs", name, "sweep", *fault[0]), fault[1])] if fault else []
            origin = Origin(name, tuple(map(str, sweep)))
            combinations = combinations or {name: {key: value for key, value in run.items() if key != "sweep"}}
        for new, settings in combinations.items():
            if origin.swept and (new in expanded or (new != name and new in runs)):
                message = f"makes a second run '{new}': rename one of them"
                faults.append((("runs", name, "sweep"), message))
            expanded[new], origins[new] = settings, origin
    config["runs"] = expanded
    return origins, faults


def sweeps_of(origins: dict[str, Origin]) -> dict[str, list[str]]:
    """Return the expanded runs of each sweep that has several, by the name of the written run."""
    sweeps: dict[str, list[str]] = {}
    for run, origin in origins.items():
        if origin.swept:
            sweeps.setdefault(origin.run, []).append(run)
    return {name: runs for name, runs in sweeps.items() if len(runs) > 1}


def expand_gates(config: dict, origins: dict[str, Origin]) -> None:
    """In gates, replace the name of a run with a sweep by the names of its expanded runs, in place."""
    gates = config.get("gates")
    for gate in gates.values() if isinstance(gates, dict) else ():
        if isinstance(gate, dict) and isinstance(gate.get("runs"), list):
            made = [[new for new, origin in origins.items() if origin.run == name] or [name] for name in gate["runs"]]
            gate["runs"] = [new for names in made for new in names]


def combinations_of(name: str, run: dict) -> tuple[dict[str, dict], tuple[tuple, str] | None]:
    """Return one run per combination of the sweep's values, named `run-key1value1-key2value2`.

    If the sweep is invalid, return no runs, and (place in the sweep, message).
    """
    sweep = {str(key): [number_from_scientific(value) for value in values] for key, values in run["sweep"].items()}
    for key, values in sweep.items():
        labels = [value_label(value) for value in values]
        if twice := [label for label in labels if labels.count(label) > 1]:
            return {}, ((key,), f"contains the value {twice[0]} twice")
        if key.split(".")[0] == "sweep":
            return {}, ((key,), "a sweep can't contain a sweep")
        if key == "select":
            return {}, ((key,), "can't be swept: one metric chooses among all runs of a sweep")
    if (count := math.prod(map(len, sweep.values()))) > MOST_COMBINATIONS:
        return {}, ((), f"has {count} combinations, more than {MOST_COMBINATIONS}")
    names = key_labels(list(sweep))
    runs = {}
    for values in itertools.product(*sweep.values()):
        expanded = {key: copy.deepcopy(value) for key, value in run.items() if key != "sweep"}
        for key, value in zip(sweep, values, strict=True):
            set_dotted(expanded, key, value)
        labels = (f"{label}{value_label(value)}" for label, value in zip(names, values, strict=True))
        runs["-".join([name, *labels])] = expanded
    return runs, None


def key_labels(keys: list[str]) -> list[str]:
    """Return names of swept keys for the name of a run: the last part, or the full key if that is not unique."""
    short = [key.rpartition(".")[2] for key in keys]
    labels = [last if short.count(last) == 1 else key for key, last in zip(keys, short, strict=True)]
    return [f"{label}_" if label[-1:].isdigit() else label for label in labels]


def value_label(value: Any) -> str:
    """Return a sweep's value as part of a path: only letters, digits, dots and dashes."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-") or "none"


def set_dotted(target: dict, key: str, value: Any) -> None:
    """Set the value at a dotted key, and create missing mappings."""
    *parents, last = key.split(".")
    for parent in parents:
        if not isinstance(target.get(parent), dict):
            target[parent] = {}
        target = target[parent]
    target[last] = copy.deepcopy(value)
