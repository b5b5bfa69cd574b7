"""Earlier verdicts on a test split, in a file that no rule deletes: who looks often finds a difference by chance."""

import datetime
from pathlib import Path

from scripts.common.files import canonical_sha256, read_jsonl, write_jsonl
from scripts.score.gates import aim
from scripts.score.metrics import METRICS, QUANTILES
from scripts.score.shown import shown

NAME = "verdicts.jsonl"  # in the folder of each run


def looks_of(gates: list[dict], scores: dict[str, dict]) -> dict[str, str]:
    """Return a hash of what each judged gate looked at: records, groups and statistics of its variants.

    A time differs each time, so it is left out.
    """
    looks = {}
    for gate in gates:
        seen = []
        for variant in (gate["variant"], gate["baseline"]):
            if found := scores.get(variant):
                rows = None if measures_time(gate["metric"]) else found["statistics"].get(gate["metric"])
                seen.append([found["ids"], found["groups"], rows])
        looks[gate["name"]] = canonical_sha256([gate["metric"], seen])[:16]
    return looks


def measures_time(metric: str) -> bool:
    """Say whether a metric is a time or follows from one."""
    return METRICS[metric].statistic in QUANTILES or METRICS[metric].setting == "price_per_hour"


class History:
    """The verdicts on a run's results so far.

    Each row has "date" (ISO 8601, UTC), "run", "dataset", "records", "verdict", "gates" (`looks_of`), "asked" (what a
    gate asks for), "shipped", and "values", those of the gates' metrics for what is shipped. A look of a gate at the
    same statistics is the same look.
    """

    def __init__(self, path: Path, scores: dict[str, dict], dataset: str):
        self.path, self.dataset, self.scores = path, dataset, scores
        self.records = max((found["records"] for found in scores.values()), default=0)
        self.rows = list(read_jsonl(path)) if path.exists() else []

    def used_up(self, gates: list[dict]) -> tuple[str, ...]:
        """Return the judged gates with `looks` that have now been looked at more often on this dataset's test split."""
        seen = [row["gates"] for row in self.rows if row["dataset"] == self.dataset] + [looks_of(gates, self.scores)]
        counts = {gate["name"]: len({row.get(gate["name"]) for row in seen} - {None}) for gate in gates}
        return tuple(gate["name"] for gate in gates if 1 < gate["looks"] < counts[gate["name"]])

    def add(self, decided: dict) -> None:
        """Write a verdict as the last row; the same verdict on the same statistics is one row."""
        looks, word = looks_of(decided["gates"], self.scores), decided["verdict"]
        asked = {gate["name"]: f"{aim(gate)}, {gate['on_failure']}" for gate in decided["gates"]}
        same = [row for row in self.rows if (row["gates"], row["verdict"], row["asked"]) == (looks, word, asked)]
        row = {
            "date": same[0]["date"] if same else datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "run": decided["run"],
            "dataset": self.dataset,
            "records": self.records,
            "verdict": decided["verdict"],
            "gates": looks,
            "asked": asked,
            "shipped": decided["shipped"],
            "values": {gate["metric"]: self.value(decided["shipped"], gate["metric"]) for gate in decided["gates"]},
        }
        others = [row for row in self.rows if row not in same]
        # It is no output of a rule, so it has no checksum.
        write_jsonl(self.path, [*others, row], part=True)

    def value(self, variant: str, metric: str) -> float | None:
        """Return a metric's value."""
        found = self.scores[variant]["metrics"].get(metric) if variant in self.scores else None
        return found and found["value"]


def since_last(path: Path) -> str | None:
    """Return in one line what changed from the last but one look at a run's results to the last; None for the first."""
    rows = list(read_jsonl(path)) if path.exists() else []
    if len(rows) < 2:
        return None
    before, now = rows[-2:]
    lines = [
        f"{key} {before[key]} → {now[key]}" for key in ("verdict", "shipped", "records") if before[key] != now[key]
    ]
    for name in dict.fromkeys([*before["asked"], *now["asked"]]):
        texts = [row["asked"].get(name, "none") for row in (before, now)]
        if texts[0] != texts[1]:
            lines.append(f"gate {name}: {texts[0]} → {texts[1]}")
    for metric in (name for name in now["values"] if name in before["values"]):
        texts = [shown(metric, row["values"][metric]) for row in (before, now)]
        if texts[0] != texts[1]:
            lines.append(f"{METRICS[metric].title} {texts[0]} → {texts[1]}")
    return f"Since {when(before)}: {'; '.join(lines) or 'no metric of the gates changed'}."


def when(row: dict) -> str:
    """Return day and time of a verdict, in UTC."""
    return row["date"][:16].replace("T", " ")


def earlier_verdicts(runs: Path, run: str, dataset: str) -> list[dict]:
    """Return the verdicts on a dataset's test split that were made before the last one on a run, of all runs."""
    rows = {path.parent.name: list(read_jsonl(path)) for path in sorted(runs.glob(f"*/{NAME}"))}
    own = rows.pop(run, [])
    earlier = [row for found in rows.values() for row in found if not own or row["date"] < own[-1]["date"]]
    earlier += own[:-1]
    return sorted((row for row in earlier if row["dataset"] == dataset), key=lambda row: row["date"])
