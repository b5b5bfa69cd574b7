"""Stages stand apart: an edit of one re-runs no step of another, as a step re-runs when a module of its own changes."""

from pathlib import Path

import pytest

from scripts.workflow.code_digest import files_of_script

SCRIPTS = Path(__file__).parents[2] / "scripts"


def modules_of(script: str) -> list[str]:
    """Return what a step consists of, as its rule lists it, relative to `scripts/`."""
    return [path.relative_to(SCRIPTS).as_posix() for path in files_of_script(SCRIPTS / script)]


@pytest.mark.parametrize("script", sorted(path.name for path in (SCRIPTS / "predict").glob("*.py")))
def test_prediction_does_not_run_again_for_an_edit_of_ingestion_or_training(script):
    modules = modules_of(f"predict/{script}")
    assert not [module for module in modules if module.startswith(("dataset/", "train/"))]


def test_the_training_of_a_head_does_not_run_again_for_an_edit_of_the_training_with_images():
    modules = modules_of("train/train_head.py")
    assert "train/train_span_lora.py" in modules
    assert not [module for module in modules if module.startswith(("train/vision_", "train/train_model"))]
    assert "train/vision_training.py" in modules_of("train/train_model.py")
