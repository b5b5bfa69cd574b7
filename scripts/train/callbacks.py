"""Callbacks of the training loop: further checkpoints, early stopping, progress, energy, trackers."""

from pathlib import Path

import transformers
from accelerate import PartialState
from transformers import TrainerCallback

from scripts.common.cli import Progress
from scripts.common.terminal import log, terminal
from scripts.common.tracking import Tracking
from scripts.train.energy import EnergyMeter
from scripts.train.training_run import curve_rows


class ExtraCheckpoints(TrainerCallback):
    """Save a checkpoint every N steps and at the end, in addition to those at evaluations."""

    def __init__(self, steps: int):
        self.steps = steps

    def on_step_end(self, args, state, control, **_):
        if state.global_step % self.steps == 0 or state.global_step >= state.max_steps:
            control.should_save = True


class EarlyStoppingCallback(transformers.EarlyStoppingCallback):
    """transformers' early stopping; a run that had stopped early at the checkpoint it resumes from takes no step."""

    def on_train_begin(self, args, state, control, **options):
        super().on_train_begin(args, state, control, **options)
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True


class TrainingBar(TrainerCallback):
    """A progress bar of optimizer steps with the last loss."""

    def __init__(self, what: str):
        self.what, self.bar, self.note = what, None, ""

    def on_train_begin(self, args, state, control, **_):
        self.bar = Progress(self.what, state.max_steps, state.global_step)
        if state.global_step:
            line = f"{self.what}: continues from step {state.global_step} of {state.max_steps}"
            log.info("%s", line)
            terminal.line(line)

    def on_log(self, args, state, control, logs=None, **_):
        for key in ("loss", "eval_loss"):
            if key in (logs or {}):
                self.note = f"{key.replace('_', ' ')} {logs[key]:.3f}"

    def on_step_end(self, args, state, control, **_):
        self.bar.advance(note=self.note)


class EnergyOfSteps(TrainerCallback):
    """Add the energy since the last point to each training point of the curve."""

    def on_train_begin(self, args, state, control, **_):
        self.meter = EnergyMeter()

    def on_log(self, args, state, control, logs=None, **_):
        if "loss" in (logs or {}) and state.log_history:
            state.log_history[-1]["energy_joules"] = self.meter.since()


class LiveCurve(TrainerCallback):
    """Show the curve in the run's trackers while it grows; `folder` is that of the checkpoints.

    A checkpoint has the whole curve, so a training that resumes also sends what a killed one could not.
    """

    def __init__(self, settings: dict, folder: Path):
        self.settings, self.folder, self.sent = settings, folder.absolute(), 0

    def on_train_begin(self, args, state, control, **options):
        run, trackers = self.folder.parents[1], self.settings["training"]["report_to"]
        self.tracking = Tracking(run.parents[1], run.name, trackers, self.settings, training=self.folder.name)
        self.on_log(args, state, control, **options)

    def on_log(self, args, state, control, **_):
        rows = curve_rows(state.log_history)
        self.tracking.send(points=rows[self.sent :])
        self.sent = len(rows)

    def on_train_end(self, args, state, control, **_):
        self.tracking.end(wait=0)


def run_callbacks(settings: dict, folder: Path, name: str, evaluates: bool) -> list:
    """Return the callbacks of a run; `folder` is that of the checkpoints, and `name` is that of the progress bar."""
    training, callbacks = settings["training"], [EnergyOfSteps()]
    if PartialState().is_main_process:
        callbacks.append(TrainingBar(f"train {name}"))
        if training["report_to"]:
            callbacks.append(LiveCurve(settings, folder))
    if training["checkpoint_steps"]:
        callbacks.append(ExtraCheckpoints(training["checkpoint_steps"]))
    if training["early_stopping_patience"] and evaluates:
        callbacks.append(EarlyStoppingCallback(training["early_stopping_patience"]))
    return callbacks
