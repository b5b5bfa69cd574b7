"""The leaderboard: all runs and variants of a dataset, ranked, with differences marked that may be noise."""

from collections.abc import Iterable

from scripts.score.columns import RANKED_BY, columns_of, kind_of
from scripts.score.gates import metric_difference
from scripts.score.interval_kinds import LEVEL, Interval
from scripts.score.metrics import METRICS
from scripts.score.shown import interval_text, shown

RESAMPLES, SEED = 10_000, 0
RUN_COLUMNS = ("dataset", "rank", "run", "model", "method", "variant", "shipped", "verdict", "records", "answer_kind")


def ranking_metric(rows: list[dict]) -> str | None:
    """Return the ranking metric of a dataset's rows: the first for their kind that all of them have."""
    wanted = RANKED_BY[kind_of([row["scores"] for row in rows])]
    return next((metric for metric in wanted if all(row["scores"]["metrics"][metric] for row in rows)), None)


def marked_metrics(gates: list[dict], ranking: str | None) -> list[str]:
    """Return the metrics whose differences are marked as better or worse: those of the gates, else the ranking one."""
    return list(dict.fromkeys(gate["metric"] for gate in gates)) or ([ranking] if ranking else [])


def cell(metric: str, scores: dict, base: dict | None, resamples: int = RESAMPLES) -> dict:
    """Return the table cell of a metric: value, interval, difference from the scores `base` (None: not compared).

    `interval` is the difference's interval, for `mark`, and `meaning` what `mark` says of it.
    """
    value = scores["metrics"].get(metric)
    if value is None:
        return {"value": None, "reason": scores["reasons"].get(metric, "")}
    found = metric_difference(scores, base, metric, resamples, SEED) if base else None
    return {**value, "metric": metric, "against": found and found.row(), "interval": found, "meaning": None}


def mark(cells: Iterable[dict]) -> None:
    """Set the meaning of differences: `better`, `worse`, `change` (no direction is better), or `noise`.

    All cells of a page are marked at once, corrected for their number, so that a page on which nothing differs has a
    wrong mark in one of twenty cases.
    """
    compared = [found for found in cells if found.get("interval")]
    for found, is_shown in zip(compared, shown_to_differ([found["interval"] for found in compared]), strict=True):
        found["meaning"] = meaning(found["metric"], found["interval"].value) if is_shown else "noise"


def meaning(metric: str, difference: float) -> str:
    """Return what a difference of a metric means."""
    side = METRICS[metric].direction
    return "change" if side == "neither" else "better" if (difference < 0) == (side == "lower") else "worse"


def shown_to_differ(differences: list[Interval]) -> list[bool]:
    """Return which differences are not 0, corrected for their number after Holm (see `judge_gates`)."""
    shown, ordered = set(), sorted(range(len(differences)), key=lambda place: differences[place].p_value(0))
    for rank, place in enumerate(ordered):
        if not differences[place].side(0, 1 - (1 - LEVEL) / (len(ordered) - rank)):
            break
        shown.add(place)
    return [place in shown for place in range(len(differences))]


def as_good_as_best(metric: str, rows: list[dict]) -> list[bool]:
    """Return which rows have the best value of a metric or can't be told from it; none if all are equal."""
    values = [row["cells"][metric]["value"] for row in rows]
    if len(set(values)) < 2:
        return [False] * len(rows)
    top = min(values) if METRICS[metric].direction == "lower" else max(values)
    best = rows[values.index(top)]["scores"]
    others = [row["scores"] for row, value in zip(rows, values, strict=True) if value != top]
    found = [metric_difference(scores, best, metric, RESAMPLES, SEED) for scores in others]
    differing = iter(shown_to_differ([one for one in found if one]))
    told = iter([bool(one) and next(differing) for one in found])
    return [value == top or not next(told) for value in values]


def ranked(rows: list[dict]) -> list[dict]:
    """Return a dataset's rows with cells, best first.

    Equal rows share a rank, and `tied` rows are not distinguishable from the best.
    """
    bases = {row["run"]: row["scores"] for row in rows if row["variant"] == "base"}
    metric = ranking_metric(rows)
    marked = marked_metrics([gate for row in rows for gate in row["verdict"]["gates"]], metric)
    for row in rows:
        base = None if row["variant"] == "base" else bases.get(row["run"])
        # Many runs have many differences, and only the marked ones decide anything: the others are by Student's t.
        row["cells"] = {name: cell(name, row["scores"], base, RESAMPLES * (name in marked)) for name in METRICS}
    if metric is None:
        return [{**row, "rank": None, "tied": False} for row in rows]
    sign = 1 if METRICS[metric].direction == "lower" else -1
    order = sorted(rows, key=lambda row: sign * row["cells"][metric]["value"])
    values = [row["cells"][metric]["value"] for row in order]
    tied = as_good_as_best(metric, order)
    for row, value, is_tied in zip(order, values, tied, strict=True):
        row["cells"][metric] |= {"best": is_tied and value == values[0], "as_good": is_tied and value != values[0]}
    return [
        {**row, "rank": values.index(value) + 1, "tied": is_tied and value != values[0]}
        for row, value, is_tied in zip(order, values, tied, strict=True)
    ]


def boards(runs: list[dict], scores: dict[tuple[str, str], dict], verdicts: dict[str, dict]) -> list[dict]:
    """Return one board per dataset: its ranking metric, its ranked rows, and the metrics to show."""
    datasets: dict[str, list[dict]] = {}
    for run in runs:
        for variant in run["variants"]:
            row = {**run, "variant": variant, "verdict": verdicts[run["run"]], "scores": scores[run["run"], variant]}
            row["shipped"] = run["method"] != "prompt" and verdicts[run["run"]]["shipped"] == variant
            datasets.setdefault(run["dataset"], []).append(row)
    made = [
        {
            "dataset": name,
            "ranked_by": ranking_metric(rows),
            "columns": columns_of([row["scores"] for row in rows], any(row.get("strategies") for row in rows)),
            "rows": ranked(rows),
        }
        for name, rows in datasets.items()
    ]
    for board in made:
        gates = [gate for row in board["rows"] for gate in row["verdict"]["gates"]]
        board["marked"] = marked_metrics(gates, board["ranked_by"])
    mark(row["cells"][metric] for board in made for row in board["rows"] for metric in board["marked"])
    return made


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
