"""The configuration: a strict schema, and `load_config`, which turns what the user wrote into it.

Reading it must stay cheap, for the Snakefile does it at each start: nothing here imports pandas, torch or the like.
"""

from collections.abc import Iterator
from typing import Any

from pydantic import Field, ValidationError

from scripts.common.config.datasets import Dataset, Datasets
from scripts.common.config.expand import expand_sweep, with_overrides
from scripts.common.config.faults import closest, fault_line
from scripts.common.config.gates import Gate, Gates
from scripts.common.config.models import Model, Models
from scripts.common.config.project import Project
from scripts.common.config.runs import Run, Runs
from scripts.common.config.types import Section
from scripts.common.errors import UserError

__all__ = ["Config", "ConfigError", "Dataset", "Gate", "Model", "Override", "Project", "Run", "load_config"]


class Override(Section):
    """Settings laid over every model and every run, such as those of `config/embedded.yaml`."""

    models: dict[str, Any] = Field({}, description="Laid over every model; a source replaces the model's own.")
    runs: dict[str, Any] = Field({}, description="Laid over every run.")


class Config(Section):
    """One file describes datasets, models, runs and gates."""

    project: Project = Field(Project(), description="Names for metadata and model card.")
    datasets: Datasets = Field(min_length=1, description="Raw data and how it is read, cleaned and split.")
    models: Models = Field(min_length=1, description="Base models.")
    runs: Runs = Field(min_length=1, description="Fine-tuning runs.")
    gates: Gates = Field({}, description="What a trained model must reach to be promoted.")
    override: Override | None = Field(None, description="Settings laid over every model and every run.")


class ConfigError(UserError):
    """Everything that is wrong with a configuration, one line each."""

    def __init__(self, lines: list[str]):
        self.lines = list(dict.fromkeys(lines))
        super().__init__("\n".join(self.lines))


def load_config(raw: dict) -> Config:
    """Check a configuration as the user wrote it, apply overrides, expand sweeps, and fill in the defaults.

    Raises ConfigError with one line per fault, all of them at once.
    """
    lines = []
    try:
        Override.model_validate(raw.get("override") or {})
    except ValidationError as error:
        lines += [fault_line(fault, Override, ("override", *fault["loc"])) for fault in error.errors()]
    config = with_overrides(raw)
    origin = expand_runs(config)
    try:
        result = Config.model_validate(config)
    except ValidationError as error:
        lines += [fault_line(fault, Config, written_place(fault["loc"], origin)) for fault in error.errors()]
        raise ConfigError(lines) from None
    lines += cross_faults(result, origin)
    if lines:
        raise ConfigError(lines)
    return result


def expand_runs(config: dict) -> dict[str, str]:
    """Replace the runs that have a sweep by their combinations; return each run's name to that of the written one."""
    runs = config.get("runs")
    if not isinstance(runs, dict):
        return {}
    expanded, origin = {}, {}
    for name, run in runs.items():
        for new, settings in (expand_sweep(name, run) if isinstance(run, dict) else {name: run}).items():
            expanded[new] = settings
            origin[new] = name
    config["runs"] = expanded
    return origin


def written_place(place: tuple, origin: dict[str, str]) -> tuple:
    """Return the place as the user wrote it: an expanded run's faults belong to the run with the sweep."""
    if len(place) > 1 and place[0] == "runs":
        return ("runs", origin.get(place[1], place[1]), *place[2:])
    return place


def cross_faults(config: Config, origin: dict[str, str]) -> Iterator[str]:
    """Yield a line for each reference that leads nowhere and for each pair of sections that don't fit."""
    for name, run in config.runs.items():
        place = f"runs.{origin[name]}"
        for kind, key, known in (("dataset", run.dataset, config.datasets), ("model", run.model, config.models)):
            if key not in known:
                yield f"{place}.{kind}: '{key}' is not defined under '{kind}s'{closest(key, list(known))}"
        if run.task != "chat":
            yield f"{place}.task: '{run.task}' is not built yet; 'chat' is"
        dataset = config.datasets.get(run.dataset)
        if dataset and dataset.splits.validation == 0 and run.training.early_stopping_patience is not None:
            yield f"{place}.training.early_stopping_patience: needs a validation split, but its share is 0"
    for name, gate in config.gates.items():
        for run_name in gate.runs or []:
            if run_name not in {*config.runs, *origin.values()}:
                yield f"gates.{name}.runs: '{run_name}' is not defined under 'runs'{closest(run_name, list(config.runs))}"
