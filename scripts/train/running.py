"""What trainings of models and of token classifiers share: what shapes a run, its rows, its curve, its files."""

import importlib.util
import json
import math
from pathlib import Path

from scripts.common.errors import UserError
from scripts.common.files import write_json
from scripts.common.seals import intact
from scripts.train.checkpoints import step_of
from scripts.train.world import is_first

SHAPING_PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "bitsandbytes")
# What may change without another run coming of it; micro-batch times accumulation must stay the same. The number of
# processes changes no more than the last digits, and on a CPU the number of their threads makes another run of it.
FREE_TO_CHANGE = (
    "report_to", "keep_checkpoints", "checkpoint_steps", "micro_batch", "accumulation", "logging_steps",
    "processes", "nodes",
)  # fmt: skip
CURVE_KEYS = (
    "step", "epoch", "loss", "eval_loss", "learning_rate", "grad_norm", "mean_token_accuracy",
    "eval_mean_token_accuracy", "entropy", "seconds", "tokens_per_second", "memory_mb",
    "energy_joules",
)  # fmt: skip


def load_rows(tokens: Path, split: str):
    """Return a split's rows as a memory-mapped `datasets.Dataset`; UserError when they have changed."""
    from datasets import Dataset

    return Dataset.from_file(str(intact(tokens / f"{split}.arrow"))).remove_columns("id")


def check_packages(training: dict) -> None:
    """Raise UserError when a package that the settings ask for is not installed."""
    needed = {tracker: tracker for tracker in training["report_to"]}
    if training["attention"] == "flash_attention_2":
        needed["flash_attn"] = "attention: flash_attention_2"
    for package, wish in needed.items():
        if importlib.util.find_spec(package) is None:
            raise UserError(f"training asks for {wish}, but the package {package} is not installed")


def run_callbacks(training: dict, run: str, resumed: Path | None, evaluates: bool) -> list:
    """Return what happens beside the training loop."""
    from scripts.train.callbacks import (
        EnergyOfSteps,
        ExtraCheckpoints,
        RefuseNoNumber,
        TrainingBar,
        early_stopping,
    )

    callbacks = [EnergyOfSteps(), RefuseNoNumber()]
    if is_first():
        callbacks.append(TrainingBar(f"train {run}"))
    if training["checkpoint_steps"]:
        callbacks.append(ExtraCheckpoints(training["checkpoint_steps"]))
    if training["early_stopping_patience"] and evaluates:
        callbacks.append(early_stopping(training["early_stopping_patience"], resumed))
    return callbacks


def curve_rows(history: list[dict]) -> list[dict]:
    """Return the points of the curve; a gradient norm that is no number, as fp16 has at its start, becomes null."""
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
    """Name the base as others know it (hub id and revision), and put lists that were sets into a fixed order."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = facts["id"] or str(base.parent)
    config["revision"] = facts["revision"]
    for key, value in config.items():
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            config[key] = sorted(value)
    write_json(path, config, part=True)
