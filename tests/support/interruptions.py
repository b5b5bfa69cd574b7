"""Trainings that real signals interrupt at chosen moments, and what the curves of two trainings must agree in."""

import os
import signal
from collections.abc import Callable

import pytest
from transformers import TrainerCallback

from scripts.common.errors import UserError
from scripts.train import callbacks as training_callbacks

TIMES = ("seconds", "tokens_per_second", "memory_mb", "energy_joules")


class Interrupter(TrainerCallback):
    """Sends SIGTERM to this process at (event, step) moments, each of them once."""

    def __init__(self, moments: list[tuple[str, int]]):
        self.moments = list(moments)

    def reached(self, event: str, step: int) -> None:
        """Send the signal if this is a moment for it."""
        if (event, step) in self.moments:
            self.moments.remove((event, step))
            os.kill(os.getpid(), signal.SIGTERM)

    def on_step_begin(self, args, state, control, **_):
        self.reached("step begins", state.global_step)

    def on_step_end(self, args, state, control, **_):
        self.reached("step ends", state.global_step)

    def on_prediction_step(self, args, state, control, **_):
        self.reached("evaluation", state.global_step)


def interrupted(train: Callable[[], tuple], monkeypatch, moments: list[tuple[str, int]]) -> tuple:
    """Train until the end, going on after each SIGTERM; return what the last call of `train` returned.

    Fails unless every moment came, and each ended a training.
    """
    callbacks, interrupter = training_callbacks.run_callbacks, Interrupter(moments)
    monkeypatch.setattr(training_callbacks, "run_callbacks", lambda *words: [*callbacks(*words), interrupter])
    for _ in moments:
        with pytest.raises(UserError, match="stopped by SIGTERM after step"):
            train()
    assert not interrupter.moments
    result = train()
    monkeypatch.setattr(training_callbacks, "run_callbacks", callbacks)
    return result


def without_times(curve: list[dict]) -> list[dict]:
    """Return a curve without what no two trainings have in common: time, speed, memory and energy."""
    return [{key: value for key, value in row.items() if key not in TIMES} for row in curve]
