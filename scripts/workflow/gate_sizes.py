"""What a dry run says of gates on rates and percentiles: how many test records they need, before any training."""

import json
import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from statistics import NormalDist

from scripts.config.checks import gated_runs
from scripts.config.gates import Gate
from scripts.config.root import Config
from scripts.score.metrics import METRICS, QUANTILES, Metric
from scripts.tasks import TASKS

HEAD = "Gates on rates and percentiles:"
MOST_LINES = 6
FEW_GROUPS = 5  # with fewer no gate is decided
TIMED = 100  # the most calls of a classifier that scripts/predict/predict_spans.py times


def gate_lines(config: Config) -> Iterator[str]:
    """Yield a line for each gate without a baseline on a rate or percentile, and for each number of test records.

    The test records are those of the results folder, or unknown before the dataset is there.
    """
    results, lines = Path(config.pathvars.get("results", "results")), {}
    for name, gate in config.gates.items():
        metric = METRICS.get(gate.metric)
        if not metric or gate.baseline or metric.statistic not in ("yes_no", "votes", *QUANTILES):
            continue
        if metric.is_by_people and not metric.is_share:
            continue
        for run in gated_runs(gate, config).values():
            is_grouped = bool(config.datasets[run.dataset].group_by)
            limit = run.generation.test_records
            if TASKS[run.task].classifies:
                limit = TIMED if metric.statistic in QUANTILES else None
            records, groups = test_records(results / "datasets" / run.dataset / "test.jsonl", limit, is_grouped)
            lines[f"  {name}: {needs(gate, metric, records, groups)}"] = None
    if lines:
        yield HEAD
        yield from islice(lines, MOST_LINES)
        if len(lines) > MOST_LINES:
            yield f"  and {len(lines) - MOST_LINES} more"


def test_records(path: Path, limit: int | None, is_grouped: bool) -> tuple[int | None, int | None]:
    """Return (number of test records, number of their groups); None for what is not known or not there."""
    if not path.is_file():
        return None, None
    with open(path, encoding="utf-8") as file:
        lines = list(islice(file, limit))
    groups = len({json.loads(line).get("group") or line for line in lines}) if is_grouped else None
    return len(lines), groups


def needs(gate: Gate, metric: Metric, records: int | None, groups: int | None = None) -> str:
    """Return what a gate needs to pass: at most so many records on the wrong side, or more records."""
    tail = 0.025 / gate.looks
    if metric.statistic in QUANTILES:
        share = QUANTILES[metric.statistic]
        # The percentile lies below the bound if more than this share of the values does.
        bound, wrong = (share, "over") if gate.comparison == "below" else (1 - share, "under")
        what, groups = f"{wrong} the threshold", None
    else:
        bound = gate.threshold if gate.comparison == "above" else 1 - gate.threshold
        what = "wrong" if gate.comparison == "above" else "answered so"
    if not 0 < bound < 1:
        return "any number of test records" if bound <= 0 else "can't pass: no rate lies beyond its threshold"
    least = math.ceil(math.log(tail) / math.log(bound) - 1e-9)
    if metric.is_by_people and (records is None or records >= least):
        return f"needs people's votes on at least {least} test records"
    if records is None:
        return f"needs at least {least} test records"
    counted, size = f"{records} test records", records
    if groups is not None and groups < records:
        counted += f" in {groups} group{'' if groups == 1 else 's'}"
        if groups < FEW_GROUPS:
            return f"can't pass with {counted}; it needs at least {FEW_GROUPS} groups"
        size = int(records * (student_t(records - 1, tail) / student_t(groups - 1, tail)) ** 2)
    if size < least:
        return f"can't pass with {counted}; it needs at least {math.ceil(least * records / size)}"
    most = most_exceptions(size, bound, tail) * records // size
    at_best = " at best" if size < records else ""
    return f"passes{at_best} with {f'at most {most}' if most else 'none'} of {counted} {what}"


def student_t(degrees: int, tail: float) -> float:
    """Return the quantile of Student's t beyond which `tail` lies (Fisher's expansion), for 4 degrees or more."""
    z = NormalDist().inv_cdf(1 - tail)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / degrees + second / degrees**2 + third / degrees**3


def most_exceptions(records: int, bound: float, tail: float) -> int:
    """Return the most exceptions with which the exact lower limit of a share still exceeds the bound."""
    logs = math.log(bound), math.log1p(-bound)
    total, most = 0.0, -1
    for exceptions in range(records + 1):
        ways = math.lgamma(records + 1) - math.lgamma(exceptions + 1) - math.lgamma(records - exceptions + 1)
        total += math.exp(ways + (records - exceptions) * logs[0] + exceptions * logs[1])
        if total > tail:
            break
        most = exceptions
    return most
