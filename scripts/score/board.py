"""The leaderboard: all runs and variants of a dataset, ranked, with differences marked that may be noise."""

from scripts.score.bootstrap import Estimate
from scripts.score.columns import RANKED_BY, columns_of, kind_of
from scripts.score.gates import metric_difference
from scripts.score.metric_list import METRICS
from scripts.score.shown import shown

RESAMPLES, SEED = 1000, 0
VARIANT_BASE = "base"


def ranking_metric(rows: list[dict]) -> str | None:
    """Return the ranking metric of a dataset's rows: the first for their kind that all of them have."""
    wanted = RANKED_BY[kind_of([row["scores"] for row in rows])]
    return next((metric for metric in wanted if all(row["scores"]["metrics"][metric] for row in rows)), None)


def direction(metric: str, found: Estimate | None) -> str:
    """Return what a difference means: `better`, `worse`, `noise` (its interval contains 0), or `change`."""
    if found is None or found.low is None or found.low <= 0 <= found.high:
        return "noise"
    side = METRICS[metric].direction
    if side == "neither":
        return "change"
    return "better" if (found.value < 0) == (side == "lower") else "worse"


def cell(metric: str, row: dict, base: dict | None) -> dict:
    """Return the table cell of a metric: value, interval, difference from the run's base."""
    value = row["scores"]["metrics"].get(metric)
    if value is None:
        return {"value": None, "reason": row["scores"]["reasons"].get(metric, "")}
    against = None
    if base is not None and row["variant"] != VARIANT_BASE and base["scores"]["metrics"].get(metric) is not None:
        against = metric_difference(row["scores"], base["scores"], metric, RESAMPLES, SEED)
    return {**value, "against": against and against.row(), "meaning": direction(metric, against) if against else None}


def mark_best(metric: str, rows: list[dict]) -> None:
    """Mark the best cells of a metric, and those not distinguishable from them; none if all are equal."""
    side = METRICS[metric].direction
    cells = [row for row in rows if row["cells"][metric]["value"] is not None]
    values = {row["cells"][metric]["value"] for row in cells}
    if side == "neither" or len(values) < 2:
        return
    top = min(values) if side == "lower" else max(values)
    best = next(row for row in cells if row["cells"][metric]["value"] == top)
    for row in cells:
        if row["cells"][metric]["value"] == top:
            row["cells"][metric]["best"] = True
        else:
            found = metric_difference(row["scores"], best["scores"], metric, RESAMPLES, SEED)
            row["cells"][metric]["as_good"] = direction(metric, found) == "noise"


def ranked(rows: list[dict]) -> list[dict]:
    """Return a dataset's rows with cells, best first; `tied` rows are not distinguishable from the best."""
    bases = {row["run"]: row for row in rows if row["variant"] == VARIANT_BASE}
    for row in rows:
        row["cells"] = {metric: cell(metric, row, bases.get(row["run"])) for metric in METRICS}
    for metric in METRICS:
        mark_best(metric, rows)
    metric = ranking_metric(rows)
    if metric is None:
        return [{**row, "rank": None, "tied": False} for row in rows]
    sign = 1 if METRICS[metric].direction == "lower" else -1
    order = sorted(rows, key=lambda row: sign * row["cells"][metric]["value"])
    tied = ("best", "as_good")
    return [
        {**row, "rank": rank, "tied": rank > 1 and any(row["cells"][metric].get(key) for key in tied)}
        for rank, row in enumerate(order, 1)
    ]


def boards(runs: list[dict], scores: dict[tuple[str, str], dict], verdicts: dict[str, dict]) -> list[dict]:
    """Return one board per dataset: its ranking metric, its ranked rows, and the metrics to show.

    `runs` holds {"run", "dataset", "model", "method", "variants"}; scores are keyed by (run, variant).
    """
    datasets: dict[str, list[dict]] = {}
    for run in runs:
        for variant in run["variants"]:
            row = {**run, "variant": variant, "verdict": verdicts[run["run"]], "scores": scores[run["run"], variant]}
            row["shipped"] = run["method"] != "prompt" and verdicts[run["run"]]["shipped"] == variant
            datasets.setdefault(run["dataset"], []).append(row)
    return [
        {"dataset": name, "ranked_by": ranking_metric(rows), "columns": shown_columns(rows), "rows": ranked(rows)}
        for name, rows in datasets.items()
    ]


def shown_columns(rows: list[dict]) -> list[str]:
    """Return the metrics to show for a dataset's rows; those of style if runs have prompt strategies."""
    return columns_of([row["scores"] for row in rows], any(row.get("strategies") for row in rows))


def csv_header() -> list[str]:
    """Return the columns of leaderboard.csv."""
    columns = ["dataset", "rank", "run", "model", "method", "variant", "shipped", "verdict", "records", "answer_kind"]
    for metric in METRICS:
        columns += [metric, f"{metric}_low", f"{metric}_high"]
        columns += [f"{metric}_minus_base", f"{metric}_minus_base_low", f"{metric}_minus_base_high"]
    return columns


def csv_row(board: dict, row: dict) -> list:
    """Return one line of leaderboard.csv; missing values are empty."""
    line = [board["dataset"], row["rank"], row["run"], row["model"], row["method"], row["variant"]]
    line += ["yes" if row["shipped"] else "no", row["verdict"]["verdict"]]
    line += [row["scores"]["records"], row["scores"]["answer_kind"]]
    for metric in METRICS:
        found = row["cells"][metric]
        against = found.get("against") or {}
        line += [found.get(key) for key in ("value", "low", "high")]
        line += [against.get(key) for key in ("value", "low", "high")]
    return ["" if value is None else value for value in line]


def display(metric: str, found: dict) -> dict:
    """Return a cell with its display texts; missing ones are None."""
    blank = dict.fromkeys(("spread", "delta", "delta_spread", "meaning", "reason", "best", "as_good"))
    texts = {**blank, **found, "text": shown(metric, found["value"])}
    if found["value"] is not None:
        texts["spread"] = interval_text(metric, found)
    if against := found.get("against"):
        texts["delta"] = shown(metric, against["value"], signed=True)
        texts["delta_spread"] = interval_text(metric, against, signed=True)
    return texts


def interval_text(metric: str, found: dict, signed: bool = False) -> str:
    """Return an interval as text, without the unit."""
    if found["low"] is None:
        return "no interval"
    return " to ".join(shown(metric, found[side], signed, unit=False) for side in ("low", "high"))
