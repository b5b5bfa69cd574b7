"""The pages of runs, as the steps of the score stage write them."""

import csv
import json
from pathlib import Path

from tests.support.pages import Page

FACTS = {"dataset": "d", "model": "base", "method": "lora"}


def write_board(
    results: Path,
    runs: dict[str, list[str]],
    method: str = "lora",
    seeds: list[list[str]] = (),
    sweeps: tuple = (),
    monitors: list[str] = (),
    **facts: dict,
) -> list[dict]:
    """Write the leaderboard of runs with their variants; return its rows.

    `seeds` are groups of runs that differ only in their seed, `sweeps` names of sweeps, `monitors` files of the
    monitor of production, `facts` those of single runs.
    """
    from scripts.score.write_leaderboard import main

    listed = [
        {"run": run, **FACTS, "method": method, "variants": variants, **facts.get(run, {})}
        for run, variants in runs.items()
    ]
    words = [str(results), "--csv", f"{results}/leaderboard.csv", "--page", f"{results}/leaderboard.html"]
    settings = {"runs": listed, "seeds": seeds, "sweeps": sweeps, "monitors": monitors}
    assert main([*words, "--settings", json.dumps(settings)]) == 0
    with open(results / "leaderboard.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_report(results: Path, run: str, variants: list[str], *more: str, trained: bool = True, **facts) -> Page:
    """Write the report of a run; return it."""
    from scripts.score.write_run_report import main

    folder = results / "runs" / run
    words = []
    for kind, end in (("scores", "json"), ("answers", "jsonl"), ("errors", "jsonl")):
        words += [f"--{kind}", *[f"{folder}/{kind}/{variant}.{end}" for variant in variants]]
    words += ["--verdict", f"{folder}/verdict.json", *(["--curve", f"{folder}/curve.jsonl"] if trained else [])]
    given = {"run": run, **FACTS, "strategies": [], "strategy": None, "price_per_hour": None, **facts}
    words += ["--manifest", f"{results}/models/{given['model']}/manifest.json", "--page", f"{folder}/report.html"]
    assert main([*words, *more, "--settings", json.dumps(given)]) == 0
    return Page((folder / "report.html").read_text(encoding="utf-8"))
