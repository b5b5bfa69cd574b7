"""What a dry run says of gates on rates and percentiles: how many test records they need, before any training."""

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from scripts.config.checks import gated_runs
from scripts.config.gates import Gate
from scripts.config.root import Config
from scripts.score.metrics import METRICS, QUANTILES, Metric

HEAD = "Gates on rates and percentiles, at 95 % confidence:"
MOST_LINES = 6


def gate_lines(config: Config) -> Iterator[str]:
    """Yield a line for each gate without a baseline on a rate or percentile, and for each number of test records.

    The test records are those of the results folder, or unknown before the dataset is there.
    """
    results, lines = Path(config.pathvars.get("results", "results")), {}
    for name, gate in config.gates.items():
        metric = METRICS.get(gate.metric)
        if not metric or gate.baseline or metric.statistic not in ("yes_no", *QUANTILES):
            continue
        for run in gated_runs(gate, config):
            section = config.runs[run]
            records = test_records(
                results / "datasets" / section.dataset / "test.jsonl", section.generation.test_records
            )
            lines[f"  {name}: {needs(gate, metric, records)}"] = None
    if lines:
        yield HEAD
        yield from islice(lines, MOST_LINES)
        if len(lines) > MOST_LINES:
            yield f"  and {len(lines) - MOST_LINES} more"


def test_records(path: Path, limit: int | None) -> int | None:
    """Return the number of test records that are answered; None before the dataset is there."""
    if not path.is_file():
        return None
    with open(path, "rb") as file:
        return sum(1 for _ in islice(file, limit))


def needs(gate: Gate, metric: Metric, records: int | None) -> str:
    """Return what a gate needs to pass: at most so many records on the wrong side, or more records."""
    tail = 0.025 / gate.looks
    if metric.statistic in QUANTILES:
        share = QUANTILES[metric.statistic]
        # The percentile lies below the bound if more than this share of the values does.
        bound, wrong = (share, "over") if gate.comparison == "below" else (1 - share, "under")
        what = f"{wrong} the threshold"
    else:
        bound = gate.threshold if gate.comparison == "above" else 1 - gate.threshold
        what = "wrong" if gate.comparison == "above" else "answered so"
    if not 0 < bound < 1:
        return "any number of test records" if bound <= 0 else "can't pass: no rate lies beyond its threshold"
    least = math.ceil(math.log(tail) / math.log(bound) - 1e-9)
    if records is None:
        return f"needs at least {least} test records"
    if records < least:
        return f"can't pass with {records} test records; it needs at least {least}"
    most = most_exceptions(records, bound, tail)
    return f"passes with {f'at most {most}' if most else 'none'} of {records} test records {what}"


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
