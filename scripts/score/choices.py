"""The choices among the runs of sweeps, for the leaderboard's page."""

from scripts.score.board import display
from scripts.score.metrics import METRICS


def choice_table(choice: dict) -> dict:
    """Return the table of a sweep's runs with their value on the validation split, from the content of choice.json."""
    return {
        "sweep": choice["sweep"],
        "metric": METRICS[choice["metric"]],
        "records": max(row["n"] for row in choice["runs"]),
        "rows": [
            {**row, "chosen": row["run"] == choice["chosen"], "cell": display(choice["metric"], row)}
            for row in choice["runs"]
        ],
    }
