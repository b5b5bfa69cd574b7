"""Stages stand apart: an edit of one re-runs no step of another, as a step re-runs when a module of its own changes."""

from pathlib import Path

import pytest

from scripts.workflow.code_digest import files_of_script

SCRIPTS = Path(__file__).parents[2] / "scripts"
# What these stages write, later ones read by the same modules.
SHARED = {
    "dataset/canonical.py", "dataset/entities.py", "train/classifier_head.py", "train/padding.py",
    "train/span_alignment.py",
}  # fmt: skip


@pytest.mark.parametrize(
    ("scripts", "never"),
    [("predict/*.py", ("dataset/", "train/")), ("train/train_head.py", ("train/vision_", "train/train_model"))],
)
def test_an_edit_of_one_stage_runs_no_step_of_another_again(scripts, never):
    assert all(any(SCRIPTS.glob(f"{prefix}*")) for prefix in never)
    for script in SCRIPTS.glob(scripts):
        modules = {path.relative_to(SCRIPTS).as_posix() for path in files_of_script(script)} - SHARED
        assert modules
        assert not [module for module in modules if module.startswith(never)], script
