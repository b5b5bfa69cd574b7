"""Earlier verdicts on a test split, in a file that no rule deletes: who looks often finds a difference by chance."""

import datetime
from pathlib import Path

from scripts.common.files import canonical_sha256, read_jsonl, write_jsonl
from scripts.score.metrics import METRICS, QUANTILES

NAME = "verdicts.jsonl"  # in the folder of each run


def look_of(scores: dict[str, dict]) -> str:
    """Return a hash of what a verdict looked at: the records and their statistics, except times."""
    seen = {
        variant: [found["ids"], {m: rows for m, rows in found["statistics"].items() if not measures_time(m)}]
        for variant, found in scores.items()
    }
    return canonical_sha256(seen)


def measures_time(metric: str) -> bool:
    """Say whether a metric is a time or follows from one, so that it differs each time."""
    return METRICS[metric].statistic in QUANTILES or METRICS[metric].setting == "price_per_hour"


class History:
    """The verdicts on a run's results so far; each row has "date", "run", "dataset", "records", "verdict", "gates" and
    "look" (`look_of`). A look at the same results is the same look."""

    def __init__(self, path: Path, scores: dict[str, dict], dataset: str):
        self.path, self.dataset, self.look = path, dataset, look_of(scores)
        self.records = max((found["records"] for found in scores.values()), default=0)
        self.rows = list(read_jsonl(path)) if path.exists() else []
        self.others = [row for row in self.rows if row["look"] != self.look]

    def used_up(self, gates: dict[str, dict]) -> tuple[str, ...]:
        """Return the gates with `looks` that have now been looked at more often on this dataset's test split."""
        seen = [row for row in self.others if row["dataset"] == self.dataset]
        counts = {name: 1 + sum(name in row["gates"] for row in seen) for name in gates}
        return tuple(name for name, gate in gates.items() if 1 < gate["looks"] < counts[name])

    def add(self, decided: dict) -> None:
        """Write a verdict as the last row; of one look only the last verdict stays."""
        before = next((row["date"] for row in self.rows if row["look"] == self.look), None)
        row = {
            "date": before or datetime.datetime.now(datetime.UTC).date().isoformat(),
            "run": decided["run"],
            "dataset": self.dataset,
            "records": self.records,
            "verdict": decided["verdict"],
            "gates": sorted(gate["name"] for gate in decided["gates"]),
            "look": self.look,
        }
        write_jsonl(self.path, [*self.others, row])


def earlier_verdicts(runs: Path, run: str, dataset: str) -> list[dict]:
    """Return the verdicts on a dataset's test split before the last one on a run, of all runs in a folder."""
    rows = {path.parent.name: list(read_jsonl(path)) for path in sorted(runs.glob(f"*/{NAME}"))}
    earlier = [row for name, found in rows.items() for row in (found[:-1] if name == run else found)]
    return sorted((row for row in earlier if row["dataset"] == dataset), key=lambda row: row["date"])
