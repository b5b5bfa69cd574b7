"""The choices among the runs of sweeps, for the leaderboard's page."""

from scripts.score.board import display
from scripts.score.metrics import METRICS
from scripts.score.pictures import whiskers


def choice_table(choice: dict) -> dict:
    """Return the table of a sweep's runs with their value on the validation split, from the content of choice.json.

    The best run comes first, and each row has a chart of its value, on a scale that all share.
    """
    metric, runs = choice["metric"], choice["runs"]
    sign = 1 if METRICS[metric].direction == "lower" else -1
    runs = sorted(
        runs, key=lambda row: (row["run"] != choice["chosen"], row["value"] is None, sign * (row["value"] or 0))
    )
    charts = whiskers([row if row["value"] is not None else None for row in runs])["rows"]
    return {
        "sweep": choice["sweep"],
        "metric": METRICS[metric],
        "records": max(row["n"] for row in runs),
        "rows": [
            {**row, "chosen": row["run"] == choice["chosen"], "cell": display(metric, row), "chart": chart}
            for row, chart in zip(runs, charts, strict=True)
        ],
    }
