"""Runs that differ only in their seed: the spread between their trainings, apart from that between records."""

import numpy as np

from scripts.score.metrics import METRICS
from scripts.score.shown import shown


def watched(verdict: dict, ranked_by: str | None) -> list[tuple[str, str]]:
    """Return metric and variant of each gate of a verdict; without gates, the ranking metric of the shipped variant."""
    gates = dict.fromkeys((gate["metric"], gate["variant"]) for gate in verdict["gates"])
    return list(gates) or ([(ranked_by, verdict["shipped"])] if ranked_by else [])


def half_width(found: dict) -> float | None:
    """Return half of the width of a metric's interval; None without both bounds."""
    return None if None in (found["low"], found["high"]) else (found["high"] - found["low"]) / 2


def size(metric: str, value: float | None) -> str:
    """Return a spread of a metric as text, of shares in percentage points."""
    return shown(metric, value, signed=True).removeprefix("+")


def seed_rows(names: list[str], scores: dict, verdicts: dict, ranked_by: str | None) -> list[dict]:
    """Return a row for each metric of runs with different seeds, with its texts; none if fewer than two runs have it.

    The standard deviation is that of a sample (divided by the number of seeds minus one); the half width of the
    records' interval is the mean over the seeds.
    """
    rows = []
    for metric, variant in watched(verdicts[names[0]], ranked_by) if len(names) > 1 else []:
        cells = [scores[name, variant]["metrics"].get(metric) for name in names if (name, variant) in scores]
        found = [cell for cell in cells if cell is not None]
        if len(found) < 2:
            continue
        values = [cell["value"] for cell in found]
        widths = [width for cell in found if (width := half_width(cell)) is not None]
        rows.append(
            {
                "title": METRICS[metric].title,
                "variant": variant,
                "seeds": len(found),
                "mean": shown(metric, float(np.mean(values))),
                "deviation": size(metric, float(np.std(values, ddof=1))),
                "half_width": size(metric, float(np.mean(widths))) if widths else "no interval",
            }
        )
    return rows


def seed_tables(groups: list[list[str]], scores: dict, verdicts: dict, ranked_by: dict[str, str | None]) -> list[dict]:
    """Return a table for each group of runs that differ only in their seed, without those whose training diverged.

    `scores` is by run and variant, `verdicts` and `ranked_by` (the ranking metric of the run's dataset) by run.
    """
    tables = []
    for names in groups:
        diverged = [name for name in names if verdicts[name].get("diverged")]
        ended = [name for name in names if name not in diverged]
        rows = seed_rows(ended, scores, verdicts, ranked_by[names[0]])
        if rows or diverged:
            tables.append({"runs": names, "diverged": diverged, "rows": rows})
    return tables
