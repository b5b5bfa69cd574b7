"""Find metrics that a run can't have a value of: in its score, its gates, and the choice among a sweep's runs."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from scripts.common.errors import UserError
from scripts.common.language import language_of
from scripts.config.datasets import Dataset
from scripts.config.faults import closest
from scripts.config.gates import Gate
from scripts.config.runs import Run
from scripts.config.variants import answer_variants, gguf_quants, shipped_variant
from scripts.score.columns import EXACT, RANKED_BY
from scripts.score.metrics import METRICS, RENAMED, Metric, located, metrics_from
from scripts.tasks import TASKS

TIMES = ("seconds_p50", "seconds_p95", "cost_per_1000")  # of calls made one at a time


def select_conflicts(run: Run, dataset: Dataset | None) -> Iterator[tuple[str, str]]:
    """Yield why the choice among a sweep's runs has no metric to decide by; `run` is one of the sweep."""
    metrics, metric = run.score.metrics, run.select
    if metric is None:
        ranking = RANKED_BY[answer_kind(run, dataset)]
        if metrics is not None and not set(ranking) & set(metrics):
            listed = ", ".join(ranking)
            yield "select", f"is missing: a sweep is chosen by one of {listed}, and score.metrics has none of them"
    elif metrics is not None and metric not in metrics:
        yield "select", f"'{metric}' is not among score.metrics"
    elif metric in METRICS and METRICS[metric].is_by_people:
        yield "select", f"'{metric}' is of people's votes, who judge the test split: name another metric"
    elif fault := metric_fault(metric, run, dataset) or time_fault(metric, shipped_variant(run), run):
        yield "select", f"the run {fault}"
    elif metric in known_metrics(run) and known_metrics(run)[metric].direction == "neither":
        yield "select", f"'{metric}' has no better direction, so it can't choose: name another metric"


def answer_kind(run: Run, dataset: Dataset | None) -> str:
    """Return the kind of answers that `answer_kind` of scripts/score/score_answers.py finds for a run."""
    if dataset is not None and dataset.format == "spans" and dataset.redact is None:
        return "entities"
    return "exact" if TASKS[run.task].reads_images or set(EXACT) & set(run.score.metrics or ()) else "text"


def applies_to(gate: Gate, run: str) -> bool:
    """Return whether a gate applies to a run."""
    return gate.runs is None or run in gate.runs


def gated_runs(gate: Gate, config: Any) -> dict[str, Run]:
    """Return the runs that a gate applies to."""
    return {name: run for name, run in config.runs.items() if applies_to(gate, name)}


def gate_conflicts(gate: Gate, runs: dict[str, Run], config: Any) -> Iterator[tuple[str, str]]:
    """Yield conflicts between a gate and the runs that it applies to."""
    for name, run in runs.items():
        made = [*answer_variants(run), "shipped"]
        for key in ("variant", "baseline"):
            variant = getattr(gate, key)
            if variant is not None and variant not in made:
                yield key, f"run '{name}' scores no '{variant}'; it scores {', '.join(made)}"
        compared = [meant_variant(variant, run) for variant in (gate.variant, gate.baseline) if variant in made]
        if gate.variant != gate.baseline and len(compared) > len(set(compared)):
            itself = f"run '{name}' ships '{compared[0]}', so the gate compares it with itself"
            yield "baseline", f"{itself}: name another baseline, or leave the run out of 'runs'"
        if run.score.metrics is not None and gate.metric not in run.score.metrics:
            yield "metric", f"'{gate.metric}' is not among score.metrics of run '{name}'"
        if fault := metric_fault(gate.metric, run, config.datasets.get(run.dataset)):
            yield "metric", f"run '{name}' {fault}"
            continue
        faults = [time_fault(gate.metric, variant, run) for variant in compared]
        if gate.metric == "win_rate":
            faults.append(rival_fault(name, run, compared, config))
        if fault := next(filter(None, faults), None):
            yield "metric", f"run '{name}' {fault}"
        entry = known_metrics(run).get(gate.metric)
        if entry and (fault := threshold_fault(gate, entry)):
            yield "threshold", fault


def meant_variant(variant: str, run: Run) -> str:
    """Return the variant that a gate's `variant` or `baseline` means: for `shipped` what the run ships."""
    return shipped_variant(run) if variant == "shipped" else variant


def rival_fault(name: str, run: Run, compared: list[str], config: Any) -> str | None:
    """Return why a gate on `win_rate` could never be measured for a run of this name, or None."""
    rival = f"{name}/{run.score.rival}".split("/")[-2:]
    if rival[0] not in config.runs:
        return None  # votes_conflicts reports it
    if rival[1] not in answer_variants(config.runs[rival[0]]):
        return f"has no 'win_rate': '{run.score.rival}', its score.rival, is not scored"
    if rival[0] == name and rival[1] in compared:
        return f"has no 'win_rate' of '{rival[1]}', which is its score.rival itself"
    return None


def time_fault(metric: str, variant: str, run: Run) -> str | None:
    """Return why answers of a variant have no times of their own, which a metric needs, or None.

    Of a token classifier the first texts are timed alone, and llama.cpp asks prompts with images one at a time.
    """
    is_gguf, task = variant in gguf_quants(run), TASKS[run.task]
    if metric not in TIMES or run.generation.batch_size == 1 or task.classifies or (is_gguf and task.reads_images):
        return None
    if is_gguf:
        few = f"times only the first 10 answers of '{variant}', too few to decide by '{metric}'"
        return f"{few}: set generation.batch_size: 1, with which all are timed"
    return f"has no '{metric}' of '{variant}', which answers in batches: set generation.batch_size: 1"


def threshold_fault(gate: Gate, entry: Metric) -> str | None:
    """Return why no value, or no difference, of a metric can be beyond a gate's threshold, or None."""
    largest = 1 if entry.is_share else 100 if entry.statistic in ("bleu", "chrf") else None
    if largest is None or (gate.relative and gate.baseline):
        return None
    least = -largest if gate.baseline else 0
    if gate.threshold == (largest if gate.comparison == "above" else least):
        return f"nothing can be {gate.comparison} {gate.threshold:g}, so the gate could never pass"
    if least <= gate.threshold <= largest:
        return None
    if not entry.is_share:
        compared = ", a difference between -100 and 100" if gate.baseline else ""
        return f"'{gate.metric}' is between 0 and 100{compared}"
    if gate.baseline:
        return f"a difference of '{gate.metric}' is between -1 and 1: write 0.05 for 5 percentage points"
    return f"'{gate.metric}' is a share between 0 and 1: write 0.9 for 90 %"


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
