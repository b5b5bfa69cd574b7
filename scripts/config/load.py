"""Turn the mapping that Snakemake read into a validated configuration."""

import copy
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from scripts.common.errors import UserError
from scripts.common.plain_text import visible
from scripts.config.checks import conflicts_between, conflicts_in
from scripts.config.expand import Origin, expand_gates, expand_runs, sweeps_of, with_overrides
from scripts.config.faults import dotted, explanation, known_key, one_per_value, plain_place
from scripts.config.paths import Roots, blocked_folders, missing_files
from scripts.config.root import Config, Override
from scripts.config.secrets import secret_lines
from scripts.config.sources import Sources


class ConfigError(UserError):
    """All errors in a configuration, one line each."""

    def __init__(self, lines: list[str]):
        self.lines = list(dict.fromkeys(visible(line) for line in lines))
        super().__init__("\n".join(self.lines))


class Written(NamedTuple):
    """The configuration before expansion, for messages: the origin of each run, the overrides and the files."""

    origins: dict[str, Origin]
    override: dict
    sources: Sources

    def line(self, place: tuple, message: str) -> str:
        """Return a message with the key as the user wrote it, and with file and line if a file has the key."""
        runs = [place[1]] if place[:1] == ("runs",) and len(place) > 1 else list(self.origins)
        place = self.place(place)
        return f"{self.sources.line(place)}{dotted(place)}: {self.named(message, runs)}"

    def place(self, place: tuple) -> tuple:
        """Return a place as the user wrote it: in the sweep or the override, if one of them sets the key."""
        if len(place) < 2 or place[0] not in ("models", "runs"):
            return place
        kind, name, *keys = place
        keys = [*keys[:-1], *(keys[-1].split(".") if isinstance(keys[-1], str) else keys[-1:])] if keys else []
        for swept in self.origins[name].swept if kind == "runs" and name in self.origins else ():
            parts = swept.split(".")
            if list(map(str, keys[: len(parts)])) == parts:
                return ("runs", self.run(name), "sweep", swept, *keys[len(parts) :])
        if keys and holds(self.override.get(kind), keys):
            return ("override", kind, *keys)
        return (kind, self.run(name) if kind == "runs" else name, *keys)

    def named(self, message: str, runs: list[str]) -> str:
        """Return a message with the written names of these runs, so that all runs of a sweep give the same message."""
        for name in runs:
            message = message.replace(f"'{name}'", f"'{self.run(name)}'")
            message = message.replace(f"'runs.{name}.", f"'runs.{self.run(name)}.")
        return message

    def run(self, name: str) -> str:
        """Return the name of a run before its sweep was expanded."""
        return self.origins[name].run if name in self.origins else name


def holds(mapping: Any, keys: list) -> bool:
    """Return whether a nested mapping has these keys; any position in a list counts as present."""
    for key in keys:
        if isinstance(key, int) and isinstance(mapping, list):
            return True
        if not isinstance(mapping, dict) or key not in mapping:
            return False
        mapping = mapping[key]
    return True


def load_config(raw: dict, files: Iterable[Path | str] = (), roots: Roots = (), command_line=None) -> Config:
    """Apply overrides, expand sweeps, validate the configuration, and fill in the defaults.

    `files` are the YAML files that `raw` was read from, and `command_line` has the settings of `--config`; messages
    name the line of a key, and duplicate keys in the files are errors. The files that the configuration names must be
    in one of the folders `roots`; without `roots`, this is not checked.

    Raises ConfigError with one line for each error. If the configuration contains secrets, only these are reported,
    because other messages might show them.
    """
    sources = Sources(files, command_line)
    if lines := [*sources.nested_aliases()] or [*secret_lines(raw)]:
        raise ConfigError(lines)
    config, override = with_overrides(raw), raw.get("override")
    origins, sweep_faults = expand_runs(config)
    expand_gates(config, origins)
    written = Written(origins, override if isinstance(override, dict) else {}, sources)
    result, field_lines, doubtful = validated(config, written)
    faults = [*override_faults(override), *sweep_faults]
    lines = [f"{sources.line(place)}{dotted(place)}: {message}" for place, message in faults]
    lines = [*sources.duplicate_keys(), *lines, *field_lines]
    if result is not None:
        result.sweeps.update(sweeps_of(origins))
        conflicts = [*conflicts_in(result), *conflicts_between(result)]
        conflicts = [each for each in conflicts if not doubtful & words(f"{each.place[-1]} {each.message}")]
        if roots:
            conflicts += [*missing_files(result, roots), *blocked_folders(result, roots[0])]
        lines += [written.line(*conflict) for conflict in conflicts]
    if lines:
        raise ConfigError(lines)
    return result


def override_faults(override: Any) -> list[tuple[tuple, str]]:
    """Return place and message of each error in the section `override`."""
    try:
        Override.model_validate({} if override is None else override)
    except ValidationError as error:
        return [(("override", *fault["loc"]), explanation(fault, Override)) for fault in error.errors()]
    return []


def validated(config: dict, written: Written) -> tuple[Config | None, list[str], set[str]]:
    """Validate the fields of a configuration.

    Invalid fields are removed and the rest is validated again, so that conflicts between valid fields are found as
    well. Returns the remaining configuration or None, a line for each error, and the names of the removed fields, for
    which further messages may be wrong.
    """
    lines: list[str] = []
    doubtful: set[str] = set()
    config = copy.deepcopy(config)
    while True:
        try:
            return Config.model_validate(config), lines, doubtful
        except ValidationError as error:
            faults = one_per_value(error.errors())
        lines = lines or [written.line(plain_place(f["loc"]), explanation(f, Config)) for f in faults]
        for fault in faults:
            place = plain_place(fault["loc"])
            if fault["type"] == "extra_forbidden":
                doubtful |= words(str(known_key(place, Config)))
            place = place[:-1] if fault["type"] == "missing" else place
            positions = [i for i, part in enumerate(place) if isinstance(part, int) and i > 1]
            place = place[: min(positions, default=len(place))]  # a list is removed as a whole
            if len(place) < 2:
                return None, lines, doubtful
            doubtful |= words(str(place[-1]))
            remove(config, place)


def remove(config: dict, place: tuple) -> None:
    """Remove the value at a place from the configuration; a place has the `repr` of a key that is not text."""
    target: Any = config
    for key in place[:-1]:
        target = target.get(key) if isinstance(target, dict) else None
    for key in list(target) if isinstance(target, dict) else ():
        if place[-1] in (key, repr(key)):
            del target[key]


def words(text: str) -> set[str]:
    """Return the names in a text."""
    return set(re.findall(r"[A-Za-z_][A-Za-z0-9_]*", text))
