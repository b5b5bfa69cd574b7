"""What the tests on a GPU share: trainings, whole or cut off, and steps in processes of their own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from scripts.train.checkpoints import step_of

ROOT = Path(__file__).resolve().parents[2]


def program(script: str, *words, gpu: bool = True) -> tuple[list[str], dict[str, str]]:
    """Return command line and environment of a step, as `subprocess` takes them; without `gpu` it sees none."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.getenv("PYTHONPATH")])])}
    if not gpu:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return [sys.executable, str(ROOT / "scripts" / script), *map(str, words)], environment


def run_step_program(script: str, *words, gpu: bool = True) -> None:
    """Run a step in a process of its own, to its end."""
    command, environment = program(script, *words, gpu=gpu)
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]


def losses(curve: list[dict]) -> dict[int, float]:
    """Return the training loss of each step."""
    return {row["step"]: row["loss"] for row in curve if "loss" in row}


def copy_checkpoints(checkpoints: Path, target: Path, last: int) -> None:
    """Copy a run's checkpoints up to a step, and what lies beside them, as they were when the run stood there."""
    shutil.copytree(checkpoints, target)
    for checkpoint in target.glob("*/checkpoint-*"):
        if step_of(checkpoint) > last:
            shutil.rmtree(checkpoint)
