"""Bundles built by the real step, and what tests ask of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

from scripts.config.datasets import Dataset
from scripts.config.models import Model
from scripts.config.root import Project
from scripts.deploy.build_bundle import main


def bundle_settings(run_key: str, run: dict, base: Path, dataset: dict, **others) -> dict:
    """Return the settings of the step, as the rule gives them; the model is the folder `base`."""
    return {
        "run_key": run_key,
        "model_key": "tiny",
        "dataset_key": run["dataset"],
        "project": Project(organization="Club").model_dump(mode="json"),
        "run": run,
        "model": Model(path=str(base), architecture="mistral").model_dump(mode="json"),
        "dataset": Dataset(**dataset).model_dump(mode="json"),
        **others,
    }


def build(model: Path, base: Path, run: Path, target: Path, settings: dict, *more: object) -> int:
    """Run the step on the files in the folder `run`, with more options; a later one wins. Return its exit status."""
    words = [model, "--verdict", run / "verdict.json", "--base", base / "manifest.json"]
    words += ["--training", run / "training.json", "--test", run / "test.jsonl", "--folder", target, *more]
    return main([*map(str, words), "--settings", json.dumps(settings)])


def check_sums(bundle: Path) -> set[str]:
    """Check a bundle with sha256sum; return the names that it has checked."""
    command = ["sha256sum", "-c", "SHA256SUMS"]
    checked = subprocess.run(command, cwd=bundle, capture_output=True, text=True, check=True).stdout
    return {line.removesuffix(": OK") for line in checked.splitlines()}


def run_example(program: Path, *words: str) -> str:
    """Run an example program by itself; return what it prints."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, str(program), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
