"""Compute all metrics of one variant: values with intervals or reasons for their absence, and statistics per record."""

import importlib.util
import json
import math
import traceback
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np

from scripts.common.errors import UserError
from scripts.common.language import language_of
from scripts.score import diversity, entities, people, similarity, style  # noqa: F401 (imported for their registered metrics)
from scripts.score.interval_kinds import rounded
from scripts.score.intervals import interval
from scripts.score.metrics import FUNCTIONS, METRICS, QUANTILES, read_metrics
from scripts.score.scoring_input import MetricResult, NotApplicableError, ScoringInput
from scripts.score.statistics import row_fault, value_of_sums

OWN: dict[str, Path] = {}  # the file of each custom metric


def measured(metric: str, data: ScoringInput) -> MetricResult:
    """Return one metric's statistics; raises NotApplicableError with the reason if it has none."""
    entry = METRICS[metric]
    if not data.answers:
        raise NotApplicableError("there is no record")
    if data.is_classified and not entry.classifier:
        raise NotApplicableError("a classifier writes no text")
    if entry.language and language_of(data.language) != entry.language:
        tag = data.language or "not given"
        raise NotApplicableError(f"applies to texts in '{entry.language}'; the language is {tag}")
    if entry.spans and not any(data.entities):
        raise NotApplicableError("the records have no spans")
    if entry.setting and getattr(data, entry.setting) in (None, ()):
        raise NotApplicableError(f"score.{entry.setting} is not given")
    return own_result(metric, data) if metric in OWN else FUNCTIONS[metric](data)


def own_result(metric: str, data: ScoringInput) -> MetricResult:
    """Return the result of a custom metric, its numbers as floats. Raises UserError if it fails or does not fit."""
    path, what = OWN[metric], f"the metric {metric}"
    try:
        result = FUNCTIONS[metric](data)
        rows = [None if row is None else [float(number) for number in row] for row in result.rows]
        values = () if result.per_record is None else result.per_record
        single = [None if value is None else float(value) for value in values]
    except NotApplicableError:
        raise
    except Exception as error:
        raise fault_of(error, path, f"{what}: ") from error
    for found in (rows, single or rows):
        if len(found) != len(data.answers):
            raise UserError(f"{what} returned {len(found)} rows for {len(data.answers)} answers", path)
    if not all(math.isfinite(number) for row in (*rows, single) for number in row or () if number is not None):
        raise UserError(f"{what} returned a number that is not finite", path)
    statistic, present = METRICS[metric].statistic, [row for row in rows if row is not None]
    for row in present:
        if fault := row_fault(statistic, row):
            raise UserError(f"{what} returned {fault}", path)
    if len({len(row) for row in present}) > 1:
        raise UserError(f"{what} returned rows of different lengths", path, remedy="give each record the same classes")
    return MetricResult(rows, single or None)


def fault_of(error: Exception, path: Path, before: str = "") -> UserError:
    """Return the error for an exception in a file of custom metrics, with its line."""
    file, said = str(path.absolute()), " ".join(line.strip() for line in str(error).splitlines())
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return UserError(f"{before}{type(error).__name__}: {said}", path, lines[-1] if lines else None)


def add_metrics(path: Path) -> dict[str, dict]:
    """Import a file of custom metrics, which registers them; return the registry's entry of each."""
    found = read_metrics(path)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    try:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    except Exception as error:
        raise fault_of(error, path) from error
    METRICS.update(found)
    OWN.update(dict.fromkeys(found, path))
    return {name: asdict(entry) for name, entry in found.items()}


def single_values(metric: str, result: MetricResult) -> list[float | None]:
    """Return the metric's value for each single record, or None."""
    kind = METRICS[metric].statistic
    if result.per_record is not None:
        return [None if value is None else rounded(float(value)) for value in result.per_record]
    present = [row for row in result.rows if row is not None]
    if not present:
        return [None] * len(result.rows)
    table = np.array(present, dtype=float)
    if kind in QUANTILES:
        found = table[:, 0]
    elif kind == "variation":  # of a single record there is none
        found = np.full(len(table), math.nan)
    else:
        found = value_of_sums(kind, table, 1)
    values = iter(found.tolist())
    singles = [None if row is None else next(values) for row in result.rows]
    return [None if value is None or not math.isfinite(value) else rounded(value) for value in singles]


def commonest(data: ScoringInput) -> dict[str, int] | None:
    """Return the counts of the most frequent answer, expected answer and question; None if equal answers are plausible.

    They are for a classifier, and if no answer is expected. Empty answers don't count here; they are in `empty`.
    """
    if data.is_classified or all(expected is None for expected in data.expected):
        return None
    counted = {
        "answers": Counter(text for text in data.texts if text),
        "expected": Counter(text for text in data.expected if text is not None),
        "questions": Counter(json.dumps(row["messages"], sort_keys=True) for row in data.answers),
    }
    return {name: max(counts.values(), default=0) for name, counts in counted.items()}


def score_set(data: ScoringInput, asked: list[str] | None, resamples: int, seed: int) -> dict:
    """Return the scores of the answers to a prompt set, ready for JSON.

    `metrics` maps each metric to {"value", "low", "high", "n", "groups"} or None, `reasons` has the reason for each
    None. In the order of `ids`, `per_record` has the values and `statistics` the sufficient statistics of the records,
    and `groups` their groups (None if no record has one).
    """
    scores: dict = {
        "records": len(data.answers),
        "empty": data.texts.count(""),
        "commonest": commonest(data),
        "metrics": {},
        "reasons": {},
        "ids": [row["id"] for row in data.answers],
        "groups": data.groups,
        "per_record": {},
        "statistics": {},
    }
    for metric in METRICS:
        scores["metrics"][metric] = None
        if asked is not None and metric not in asked:
            scores["reasons"][metric] = "not asked for in score.metrics"
            continue
        try:
            result = measured(metric, data)
        except NotApplicableError as reason:
            scores["reasons"][metric] = str(reason)
            continue
        scores["statistics"][metric] = result.rows
        scores["per_record"][metric] = single_values(metric, result)
        scores["metrics"][metric] = interval_row(metric, result.rows, data.groups, resamples, seed)
        if scores["metrics"][metric] is None:
            scores["reasons"][metric] = "undefined for these answers (division by zero or not finite)"
    return scores


def interval_row(metric: str, rows: list, groups: list | None, resamples: int, seed: int) -> dict | None:
    """Return a metric's value with its 95 % interval from its records' statistics; None if undefined."""
    found = interval(METRICS[metric].statistic, rows, groups, METRICS[metric].is_share, resamples, seed)
    return found and found.row()
