"""Find settings that conflict: within a section (its `conflicts`) and between sections."""

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import BaseModel

from scripts.config.comparisons import compares_strategies, sweep_of
from scripts.config.datasets import Dataset
from scripts.config.faults import closest
from scripts.config.metric_checks import (
    gate_conflicts,
    gated_runs,
    known_metrics,
    metric_fault,
    own_metrics_conflicts,
    select_conflicts,
)
from scripts.config.runs import Run
from scripts.config.types import Section
from scripts.config.variants import answer_variants, made_variants, shipped_variant
from scripts.deploy.target import HUB
from scripts.score.metrics import Metric
from scripts.tasks import TASKS


class Conflict(NamedTuple):
    """An error in the configuration: its place, as a tuple of keys, and its message."""

    place: tuple
    message: str


def conflicts_in(value: Any, place: tuple = ()) -> Iterator[Conflict]:
    """Yield the conflicts within each section of a validated configuration."""
    if isinstance(value, BaseModel):
        for key in type(value).model_fields:
            yield from conflicts_in(getattr(value, key), (*place, key))
        if isinstance(value, Section):
            for key, message in value.conflicts():
                yield Conflict((*place, *([key] if key else [])), message)
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield from conflicts_in(entry, (*place, key))
    elif isinstance(value, list):
        for position, entry in enumerate(value):
            yield from conflicts_in(entry, (*place, position))


def conflicts_between(config: Any) -> Iterator[Conflict]:
    """Yield references to undefined names, and conflicts between sections."""
    for name, run in config.runs.items():
        for key, message in run_conflicts(run, config):
            yield Conflict(("runs", name, key), message)
        for key, message in sweep_conflicts(name, run, config):
            yield Conflict(("runs", name, key), message)
    yield from same_names_conflicts(config.runs)
    yield from redaction_conflicts(config)
    yield from target_conflicts(config)
    yield from site_conflicts(config)
    for name, gate in config.gates.items():
        for run_name in gate.runs or []:
            if run_name not in config.runs:
                message = f"'{run_name}' is not defined under 'runs'{closest(run_name, config.runs)}"
                yield Conflict(("gates", name, "runs"), message)
        for key, message in dict.fromkeys(gate_conflicts(gate, gated_runs(gate, config), config)):
            yield Conflict(("gates", name, key), message)


def run_conflicts(run: Run, config: Any) -> Iterator[tuple[str, str]]:
    """Yield conflicts between a run and the other sections."""
    yield from task_conflicts(run, config)
    yield from variant_conflicts(run)
    if run.score.metrics_from is not None:
        yield from own_metrics_conflicts(run.score.metrics_from)
    dataset = config.datasets.get(run.dataset)
    if run.score.order_by and dataset is not None and dataset.redact is not None:
        yield "score.order_by", f"has no columns to order by: the redaction of '{run.dataset}' removes them"
    if run.score.votes is not None:
        yield from votes_conflicts(run, config)
    for metric in run.score.metrics or []:
        if fault := metric_fault(metric, run, dataset):
            yield "score.metrics", f"the run {fault}"
    if dataset is None:
        yield "dataset", f"'{run.dataset}' is not defined under 'datasets'{closest(run.dataset, config.datasets)}"
    elif not has_validation(dataset):
        if compares_strategies(run):
            yield "strategies", f"are compared on the validation split, {lacking(run)}"
        for key in run.training.given("early_stopping_patience", "eval_steps", "keep_best"):
            if getattr(run.training, key):
                yield f"training.{key}", f"needs a validation split, but that of '{run.dataset}' has the share 0"
    if run.model not in config.models:
        yield "model", f"'{run.model}' is not defined under 'models'{closest(run.model, config.models)}"
    elif (embedded := config.models[run.model].embedded) is not None:
        asked = {
            "tokens.max_length": run.tokens.max_length,
            "generation.max_new_tokens": run.generation.max_new_tokens,
            "deploy.parameters.num_ctx": run.deploy.parameters.num_ctx or 0,
        }
        for key, length in asked.items():
            if length > embedded.context:
                yield key, f"{length} is more than the context of the embedded model '{run.model}' ({embedded.context})"


def votes_conflicts(run: Run, config: Any) -> Iterator[tuple[str, str]]:
    """Yield why people can't judge a run's answers, or not compare them with the rival's."""
    if TASKS[run.task].classifies:
        yield "score.votes", "a token classifier writes no text for people to judge: delete the key"
    elif list(run.score.given("rival")):
        name, _, variant = run.score.rival.rpartition("/")
        rival = config.runs.get(name) if name else run
        if rival is None:
            yield "score.rival", f"'{name}' is not defined under 'runs'{closest(name, config.runs)}"
        elif variant not in answer_variants(rival):
            scored = ", ".join(answer_variants(rival))
            yield "score.rival", f"'{run.score.rival}' is not scored; that run scores {scored}"


def has_validation(dataset: Dataset) -> bool:
    """Return whether a dataset has a validation split."""
    return bool(dataset.validation_files) or dataset.splits.validation > 0


def lacking(run: Run) -> str:
    """Return the words for a validation split that is needed and missing, with the remedy."""
    place = f"datasets.{run.dataset}"
    return f"but that of '{run.dataset}' has the share 0: raise {place}.splits.validation, or set validation_files"


def sweep_conflicts(name: str, run: Run, config: Any) -> Iterator[tuple[str, str]]:
    """Yield conflicts of the choice among a sweep's runs."""
    dataset, is_swept = config.datasets.get(run.dataset), sweep_of(config, name) is not None
    if is_swept and dataset is not None and not has_validation(dataset):
        yield "sweep", f"one of its runs is chosen on the validation split, {lacking(run)}"
    if is_swept:
        yield from select_conflicts(run, dataset)
    elif run.select is not None:
        yield "select", "has no effect without a sweep of several runs: delete the key"


def variant_conflicts(run: Run) -> Iterator[tuple[str, str]]:
    """Yield variants that a run does not make, and a shipped variant that is not scored."""
    made, shipped = made_variants(run), shipped_variant(run)
    for variant in run.variants or []:
        if variant not in made:
            yield "variants", f"the run makes no '{variant}'; it makes {', '.join(made)}"
    if shipped in made and shipped not in answer_variants(run):
        yield "variants", f"must include '{shipped}', which is shipped"


def task_conflicts(run: Run, config: Any) -> Iterator[tuple[str, str]]:
    """Yield conflicts between a run's task and its dataset or model."""
    task, dataset, model = TASKS[run.task], config.datasets.get(run.dataset), config.models.get(run.model)
    if dataset is not None:
        wanted, given = task.record_format, dataset.format
        if wanted and given != wanted:
            yield "task", f"needs a dataset of the format '{wanted}', but that of '{run.dataset}' is '{given}'"
        if task.classifies and dataset.redact is not None:
            yield "dataset", f"'{run.dataset}' is redacted: there are no entities left to learn"
        if task.reads_images and dataset.images is None:
            yield "task", f"needs images, but the dataset '{run.dataset}' names no folder of 'images'"
        if not task.reads_images and dataset.images is not None:
            yield "task", f"'{run.task}' sees no images, but the dataset '{run.dataset}' has some: use 'vision'"
    if task.reads_images and config.environments.torch == "cpu":
        yield "task", f"'{run.task}' needs torchvision: set environments.torch to 'cuda', not 'cpu'"
    if model is not None and task.reads_images != (model.architecture == "mistral3"):
        needed = "is 'mistral3'" if task.reads_images else "is another than 'mistral3'"
        yield "model", f"the task '{run.task}' needs a model whose architecture {needed}; see 'models.{run.model}'"


def redaction_conflicts(config: Any) -> Iterator[Conflict]:
    """Yield datasets whose redaction names an undefined run, or one that is not a token classifier."""
    for name, dataset in config.datasets.items():
        if dataset.redact is None:
            continue
        place = ("datasets", name, "redact", "run")
        run = config.runs.get(dataset.redact.run)
        if run is None:
            near = closest(dataset.redact.run, config.runs)
            yield Conflict(place, f"'{dataset.redact.run}' is not defined under 'runs'{near}")
        elif not TASKS[run.task].classifies:
            yield Conflict(place, f"the task of '{dataset.redact.run}' is '{run.task}', not 'token_classification'")


def target_conflicts(config: Any) -> Iterator[Conflict]:
    """Yield runs that are delivered to the same folder, or, offline, to the hub.

    Those of one sweep may have the same folder, as only the chosen one is delivered.
    """
    first: dict[str, str] = {}
    for name, run in config.runs.items():
        if target := run.deploy.target:
            owner = first.setdefault(os.path.normpath(target.folder), sweep_of(config, name) or name)
            if owner != (sweep_of(config, name) or name):
                message = f"'{target.folder}' is the folder of '{owner}' already: give each run its own"
                yield Conflict(("runs", name, "deploy.target.folder"), message)
            if config.offline and HUB.fullmatch(target.folder):
                message = "'offline: true' forbids a delivery to the hub: name a folder or an SSH host"
                yield Conflict(("runs", name, "deploy.target.folder"), message)


def site_conflicts(config: Any) -> Iterator[Conflict]:
    """Yield sites whose folder has or is in the results or another site's, or has the working directory."""
    owners = {os.path.abspath(config.pathvars.get("results", "results")): "the results"}
    for name, site in config.sites.items():
        folder = os.path.abspath(site.folder_of(name))
        clashes = [owner for path, owner in owners.items() if os.path.commonpath([path, folder]) in (path, folder)]
        if os.path.commonpath([os.getcwd(), folder]) == folder:
            clashes = ["the working directory"]
        if clashes:
            message = f"'{site.folder_of(name)}' and {clashes[0]} would mix: give each site a folder of its own"
            yield Conflict(("sites", name, "folder"), message)
        owners.setdefault(folder, f"the folder of '{name}'")


def same_names_conflicts(runs: dict[str, Run]) -> Iterator[Conflict]:
    """Yield metrics that two runs define differently: the leaderboard shows metrics of one name in one column."""
    first: dict[str, tuple[str, Metric]] = {}
    for name, run in runs.items():
        for metric, entry in known_metrics(run).items() if run.score.metrics_from else ():
            path, known = first.setdefault(metric, (run.score.metrics_from, entry))
            if known != entry:
                message = f"the metric '{metric}' has another definition in '{path}': rename one of them"
                yield Conflict(("runs", name, "score.metrics_from"), message)
