"""How long the steps took that a bundle rests on, from Snakemake's benchmark files, and what that may have cost."""

import csv
from collections.abc import Iterable
from pathlib import Path

# Steps whose results are shown and not shipped: they may run after the bundle is made.
BESIDE = ("write_dataset_ledger", "plot_curve", "draw_confusion", "write_run_report", "write_leaderboard")
STAGES = ("dataset", "model", "train", "gguf", "predict", "score")


def seconds_of(path: Path) -> float | None:
    """Return the wall time that a benchmark file says, of its last run."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    try:
        return float(rows[-1]["s"])
    except (IndexError, KeyError, ValueError):
        return None


def step_times(folder: Path, record: dict, variants: Iterable[str]) -> list[dict]:
    """Return the seconds of each step of a run, of its dataset, its base model and of the run that made its model.

    `folder` is that of the benchmarks, `record` has the names, `variants` are those that were scored. A step that was
    tried again or that went on after an interruption counts from its last start.
    """
    runs = {record["run"], record["trained_as"]}
    names = {"dataset": {record["data"]["name"]}, "model": {record["base_model"]["name"]}}
    found = []
    for stage in STAGES:
        plain = names.get(stage, runs)
        known = dict.fromkeys(plain) | {f"{name}.{v}": v for name in plain for v in variants}
        for path in sorted((folder / stage).glob("**/*.tsv")):
            alone = path.parent == folder / stage
            step = path.stem if alone else path.parent.name
            if step in BESIDE or not (alone or path.stem in known):
                continue
            found.append({"stage": stage, "step": step, "variant": known.get(path.stem), "seconds": seconds_of(path)})
    return found


def estimated_cost(times: list[dict], price_per_hour: float | None) -> dict:
    """Return hours, price and their product; without a price there is no estimate."""
    hours = sum(step["seconds"] or 0.0 for step in times) / 3600
    estimate = None if price_per_hour is None else round(hours * price_per_hour, 6)
    return {"hours": round(hours, 6), "price_per_hour": price_per_hour, "estimate": estimate}
