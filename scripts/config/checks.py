"""Find settings that conflict: within a section (its `conflicts`) and between sections."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from pydantic import BaseModel

from scripts.common.errors import UserError
from scripts.common.language import language_of
from scripts.config.comparisons import compares_strategies, sweep_of
from scripts.config.datasets import Dataset
from scripts.config.faults import closest
from scripts.config.gates import Gate
from scripts.config.runs import Run
from scripts.config.types import Section
from scripts.config.variants import answer_variants, made_variants, shipped_variant
from scripts.score.metrics import METRICS, RENAMED, Metric, located, metrics_from
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
    if run.select is None:
        return
    if not is_swept:
        yield "select", "has no effect without a sweep of several runs: delete the key"
    elif run.score.metrics is not None and run.select not in run.score.metrics:
        yield "select", f"'{run.select}' is not among score.metrics"
    elif fault := metric_fault(run.select, run, dataset):
        yield "select", f"the run {fault}"
    elif run.select in known_metrics(run) and known_metrics(run)[run.select].direction == "neither":
        yield "select", f"'{run.select}' has no better direction, so it can't choose: name another metric"


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


def gated_runs(gate: Gate, config: Any) -> dict[str, Run]:
    """Return the runs that a gate applies to."""
    return {name: run for name, run in config.runs.items() if gate.runs is None or name in gate.runs}


def gate_conflicts(gate: Gate, runs: dict[str, Run], config: Any) -> Iterator[tuple[str, str]]:
    """Yield conflicts between a gate and the runs that it applies to."""
    for name, run in runs.items():
        made = [*answer_variants(run), "shipped"]
        for key in ("variant", "baseline"):
            variant = getattr(gate, key)
            if variant is not None and variant not in made:
                yield key, f"run '{name}' scores no '{variant}'; it scores {', '.join(made)}"
        if run.score.metrics is not None and gate.metric not in run.score.metrics:
            yield "metric", f"'{gate.metric}' is not among score.metrics of run '{name}'"
        if fault := metric_fault(gate.metric, run, config.datasets.get(run.dataset)):
            yield "metric", f"run '{name}' {fault}"
            continue
        entry = known_metrics(run).get(gate.metric)
        if entry and entry.is_share and gate.baseline is None and not 0 <= gate.threshold <= 1:
            yield "threshold", f"'{gate.metric}' is a share between 0 and 1: write 0.9 for 90 %"


def metric_fault(metric: str, run: Run, dataset: Dataset | None) -> str | None:
    """Return why a run can't have a value for a metric, or None if it can."""
    known = known_metrics(run)
    if metric not in known:
        if known is METRICS and run.score.metrics_from is not None:
            return None  # own_metrics_conflicts reports errors in that file
        if metric in RENAMED:
            return f"has no metric '{metric}' any more: use '{RENAMED[metric]}'"
        return f"has no metric '{metric}'{closest(metric, known)}"
    entry = known[metric]
    if TASKS[run.task].classifies and not entry.classifier:
        others = ", ".join(name for name, other in known.items() if other.classifier)
        return f"classifies tokens, so it has no '{metric}'; it has {others}"
    if entry.spans and dataset is not None and dataset.format != "spans":
        return f"has no '{metric}': its dataset has no spans"
    if entry.setting and getattr(run.score, entry.setting) in (None, []):
        return f"has no '{metric}' without score.{entry.setting}"
    language = run.score.language or (dataset.language if dataset else None)
    if entry.language and language is not None and language_of(language) != entry.language:
        return f"has no '{metric}', a measure of '{entry.language}': its language is '{language}'"
    return None


def known_metrics(run: Run) -> dict[str, Metric]:
    """Return the metrics of a run: those of the workflow and of `score.metrics_from`."""
    if run.score.metrics_from is None:
        return METRICS
    with suppress(UserError):  # own_metrics_conflicts reports errors in the file
        return METRICS | metrics_from(run.score.metrics_from)
    return METRICS


def same_names_conflicts(runs: dict[str, Run]) -> Iterator[Conflict]:
    """Yield metrics that two runs define differently: the leaderboard shows metrics of one name in one column."""
    first: dict[str, tuple[str, Metric]] = {}
    for name, run in runs.items():
        for metric, entry in known_metrics(run).items() if run.score.metrics_from else ():
            path, known = first.setdefault(metric, (run.score.metrics_from, entry))
            if known != entry:
                message = f"the metric '{metric}' has another definition in '{path}': rename one of them"
                yield Conflict(("runs", name, "score.metrics_from"), message)


def own_metrics_conflicts(path: str) -> Iterator[tuple[str, str]]:
    """Yield errors in a run's file of metrics; `missing_files` reports a missing file."""
    if not located(path).exists():
        return
    try:
        twice = [name for name in metrics_from(path) if name in METRICS]
    except UserError as error:
        yield "score.metrics_from", str(error)
    else:
        if twice:
            yield "score.metrics_from", f"'{path}' defines '{twice[0]}', which is a metric of the workflow: rename it"
