"""One attempt at a run: its files, settings, fingerprint and facts."""

import importlib.util
import math
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

from scripts.common.base_model import device_name
from scripts.common.checksums import intact, known_sha256
from scripts.common.environment import environment
from scripts.common.errors import UserError
from scripts.common.files import check_manifest, read_json, write_json
from scripts.common.number_format import FORMATS, precision_of_run
from scripts.train.arguments import batch_shape
from scripts.train.checkpoints import checkpoints_in, fingerprint, step_of
from scripts.train.energy import EnergyMeter

SPLITS = ("train", "validation")
SHAPING_PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "bitsandbytes")
# Settings that may change without a new fingerprint; micro-batch times accumulation must stay the same. The number of
# processes changes only the last digits; on a CPU the number of threads is part of the fingerprint. The number format
# that `precision` results in has its own entry in the fingerprint.
FREE_TO_CHANGE = (
    "report_to", "keep_checkpoints", "checkpoint_steps", "micro_batch", "accumulation", "logging_steps",
    "processes", "nodes", "precision",
)  # fmt: skip

TRACKERS_REMEDY = "install the trackers with `make trackers`; container images and conda environments have none"

CURVE_KEYS = (
    "step", "epoch", "loss", "eval_loss", "learning_rate", "grad_norm", "mean_token_accuracy",
    "eval_mean_token_accuracy", "entropy", "seconds", "tokens_per_second", "memory_mb",
    "energy_joules",
)  # fmt: skip


@dataclass
class TrainingRun:
    """One attempt at training a run; `images` is the folder of the images of a vision run's rows."""

    tokens: Path
    base: Path
    checkpoints: Path
    output: Path
    settings: dict
    threads: int
    attempt: int = 1  # each further attempt halves the micro-batch
    images: Path | None = None
    result_version: int = 0  # of the step: see scripts/workflow/code_digest.py
    started: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, arguments, result_version: int, attempt: int = 1) -> "TrainingRun":
        """Create an attempt from a step's arguments."""
        a = arguments
        files = (a.tokens, a.base, a.checkpoints, a.output)
        return cls(*files, a.settings, a.threads, attempt, getattr(a, "images", None), result_version)

    @cached_property
    def inputs(self) -> dict:
        """The inputs that determine the result, in addition to settings, number format and device."""
        return {
            "rows": {split: known_sha256(intact(self.tokens / f"{split}.arrow")) for split in SPLITS},
            "base": check_manifest(self.base)["files"],
            "threads": self.threads,
            "versions": {package: version(package) for package in SHAPING_PACKAGES},
            "result_version": self.result_version,
        }

    @cached_property
    def device(self) -> str:
        return device_name()

    @cached_property
    def precision(self) -> str:
        """The number format: that of this device, or the one an earlier attempt began with."""
        begun = [precision for precision in FORMATS if self.has_begun(precision)]
        return precision_of_run(self.settings["training"]["precision"], begun)

    def has_begun(self, precision: str) -> bool:
        """Return whether there are checkpoints of an earlier attempt in a number format."""
        return bool(checkpoints_in(self.folder(precision)))

    def folder(self, precision: str, **further) -> Path:
        """Return the folder of the checkpoints, named by the fingerprint of everything that determines the result."""
        training = self.settings["training"]
        name = fingerprint(
            **self.inputs,
            **further,
            device=self.device,
            precision=precision,
            settings={**self.settings, "training": {k: v for k, v in training.items() if k not in FREE_TO_CHANGE}},
            effective_batch=training["micro_batch"] * training["accumulation"],
        )
        return self.checkpoints / name

    def finished_fingerprint(self) -> str:
        """Return the fingerprint of a finished run; it does not include the device, nor the trackers."""
        settings = {**self.settings, "training": {**self.settings["training"], "report_to": []}}
        return fingerprint(**self.inputs, settings=settings, manifest=check_manifest(self.base))

    @property
    def shape(self) -> tuple[int, int]:
        """Micro-batch and accumulation per process in this attempt."""
        return batch_shape(self.settings["training"], self.attempt)

    @property
    def name(self) -> str:
        return self.checkpoints.parent.name

    def result(self, trainer, meter: EnergyMeter, **others) -> tuple[list[dict], dict]:
        """Return the training curve, and the facts: the trainer's results, the run's settings, and `others`."""
        (micro_batch, accumulation), best = self.shape, trainer.state.best_model_checkpoint
        step = step_of(Path(best)) if best else trainer.state.global_step
        return curve_rows(trainer.state.log_history), {
            "method": self.settings["method"],
            "packing": "off",
            "steps": trainer.state.global_step,
            "best_step": trainer.diverged["kept_step"] if trainer.diverged else step,  # whose weights are kept
            "best_eval_loss": trainer.state.best_metric,
            "diverged": trainer.diverged,
            "trainable_parameters": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
            **others,
            "precision": self.precision,
            "device": self.device,
            "threads": self.threads,
            "micro_batch": micro_batch,
            "accumulation": accumulation,
            "attempt": self.attempt,
            "fingerprint": trainer.folder.name,
            "versions": self.inputs["versions"],
            **run_metadata(time.monotonic() - self.started, meter),
        }


def check_packages(training: dict) -> None:
    """Raise UserError when a package that the settings ask for is not installed."""
    needed = {tracker: (tracker, TRACKERS_REMEDY) for tracker in training["report_to"]}
    if training["attention"] == "flash_attention_2":
        needed["flash_attn"] = ("attention: flash_attention_2", None)
    for package, (setting, remedy) in needed.items():
        if importlib.util.find_spec(package) is None:
            raise UserError(f"training asks for {setting}, but the package {package} is not installed", remedy=remedy)


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
    """Return the points of the curve; what is not finite, such as the first gradient norms in fp16, becomes null."""
    rows = [{key: entry[key] for key in CURVE_KEYS if key in entry} for entry in history]
    for row in rows:
        row |= {key: None for key, value in row.items() if value is not None and not math.isfinite(value)}
    return [row for row in rows if "loss" in row or "eval_loss" in row]


def tidy_adapter_config(path: Path, base: Path, facts: dict) -> None:
    """Name the base by its hub id and revision, and sort lists that were sets."""
    config = read_json(path)
    config["base_model_name_or_path"] = facts["id"] or str(base.parent)
    config["revision"] = facts["revision"]
    for key, value in config.items():
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            config[key] = sorted(value)
    write_json(path, config, part=True)
