"""Metadata of a training: its curve, time, environment and energy."""

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

from scripts.common.environment import environment
from scripts.common.files import read_json, write_json
from scripts.train.checkpoints import step_of
from scripts.train.energy import EnergyMeter

CURVE_KEYS = (
    "step", "epoch", "loss", "eval_loss", "learning_rate", "grad_norm", "mean_token_accuracy",
    "eval_mean_token_accuracy", "entropy", "seconds", "tokens_per_second", "memory_mb",
    "energy_joules",
)  # fmt: skip


def run_metadata(seconds: float, meter: EnergyMeter) -> dict:
    """Return times, environment and energy of a training that took this many seconds and ends now.

    `meter` was created when the training began. Seconds and joules are those of the attempt that finished.
    """
    ended = datetime.now(UTC).replace(microsecond=0)
    return {
        "seconds": round(seconds, 1),
        "started": (ended - timedelta(seconds=round(seconds))).isoformat(),
        "ended": ended.isoformat(),
        "energy": {"joules": meter.since(), "meters": meter.meters, "missing": meter.missing},
        "environment": environment(),
    }


def curve_rows(history: list[dict]) -> list[dict]:
    """Return the points of the curve; an infinite gradient norm, as at the start of fp16 training, becomes null."""
    rows = [{key: entry[key] for key in CURVE_KEYS if key in entry} for entry in history]
    for row in rows:
        if "grad_norm" in row and not math.isfinite(row["grad_norm"]):
            row["grad_norm"] = None
    return [row for row in rows if "loss" in row or "eval_loss" in row]


def best_step(state) -> int:
    """Return the step whose weights are kept: the best checkpoint's, or the last."""
    best = state.best_model_checkpoint
    return step_of(Path(best)) if best else state.global_step


def tidy_adapter_config(path: Path, base: Path, facts: dict) -> None:
    """Name the base by its hub id and revision, and sort lists that were sets."""
    config = read_json(path)
    config["base_model_name_or_path"] = facts["id"] or str(base.parent)
    config["revision"] = facts["revision"]
    for key, value in config.items():
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            config[key] = sorted(value)
    write_json(path, config, part=True)
