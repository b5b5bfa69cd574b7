"""The leaderboard: all runs and variants of a dataset, ranked, with differences marked that may be noise."""

from scripts.score.bootstrap import Estimate
from scripts.score.columns import RANKED_BY, columns_of, kind_of
from scripts.score.gates import metric_difference
from scripts.score.metrics import METRICS
from scripts.score.shown import interval_text, shown

RESAMPLES, SEED = 1000, 0
RUN_COLUMNS = ("dataset", "rank", "run", "model", "method", "variant", "shipped", "verdict", "records", "answer_kind")


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


def cell(metric: str, scores: dict, base: dict | None) -> dict:
    """Return the table cell of a metric: value, interval, difference from the scores `base` (None: not compared)."""
    value = scores["metrics"].get(metric)
    if value is None:
        return {"value": None, "reason": scores["reasons"].get(metric, "")}
    against = metric_difference(scores, base, metric, RESAMPLES, SEED) if base else None
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
    bases = {row["run"]: row["scores"] for row in rows if row["variant"] == "base"}
    for row in rows:
        base = None if row["variant"] == "base" else bases.get(row["run"])
        row["cells"] = {metric: cell(metric, row["scores"], base) for metric in METRICS}
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
    """Return one board per dataset: its ranking metric, its ranked rows, and the metrics to show."""
    datasets: dict[str, list[dict]] = {}
    for run in runs:
        for variant in run["variants"]:
            row = {**run, "variant": variant, "verdict": verdicts[run["run"]], "scores": scores[run["run"], variant]}
            row["shipped"] = run["method"] != "prompt" and verdicts[run["run"]]["shipped"] == variant
            datasets.setdefault(run["dataset"], []).append(row)
    return [
        {
            "dataset": name,
            "ranked_by": ranking_metric(rows),
            "columns": columns_of([row["scores"] for row in rows], any(row.get("strategies") for row in rows)),
            "rows": ranked(rows),
        }
        for name, rows in datasets.items()
    ]


def csv_columns() -> list[str]:
    """Return the columns of leaderboard.csv: of each metric, value and difference from the base, with intervals."""
    names = [name for metric in METRICS for name in (metric, f"{metric}_minus_base")]
    return [*RUN_COLUMNS, *(f"{name}{end}" for name in names for end in ("", "_low", "_high"))]


def csv_row(board: dict, row: dict) -> list:
    """Return one line of leaderboard.csv; missing values are None."""
    known = {**row["scores"], **row, "dataset": board["dataset"], "verdict": row["verdict"]["verdict"]}
    known["shipped"] = "yes" if row["shipped"] else "no"
    line = [known[column] for column in RUN_COLUMNS]
    for metric in METRICS:
        found = row["cells"][metric]
        for values in (found, found.get("against") or {}):
            line += [values.get(key) for key in ("value", "low", "high")]
    return line


def display(metric: str, found: dict) -> dict:
    """Return a cell with its display texts; missing ones are None."""
    blank = dict.fromkeys(("spread", "delta", "delta_spread", "meaning", "reason", "best", "as_good"))
    texts = {**blank, **found, "text": shown(metric, found["value"])}
    if "low" in found:
        texts["spread"] = interval_text(metric, found)
    if against := found.get("against"):
        texts["delta"] = shown(metric, against["value"], signed=True)
        texts["delta_spread"] = interval_text(metric, against, signed=True)
    return texts
