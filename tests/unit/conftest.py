"""Fixtures that several unit tests share."""

import os
import sys
from pathlib import Path

import pytest

from tests.support.dataset_steps import Stage, settings_of


@pytest.fixture
def stage(tmp_path: Path, capsys: pytest.CaptureFixture) -> Stage:
    """The steps of the dataset stage in a folder of their own, with half of the records in train."""
    return Stage(tmp_path, settings_of(splits={"train": 0.5, "validation": 0.25, "test": 0.25}), capsys)


@pytest.fixture
def scontrol(tmp_path: Path) -> dict[str, str]:
    """Environment variables; PATH leads to a `scontrol` for the check in profiles/slurm (real ones: tests/system)."""
    program = tmp_path / "bin/scontrol"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'MinJobAge = 300 sec'\n")
    program.chmod(0o755)
    return {"PATH": os.pathsep.join([str(program.parent), str(Path(sys.executable).parent), os.environ["PATH"]])}


@pytest.fixture
def registry():
    """The metrics without those that a test adds."""
    from scripts.score.metrics import METRICS

    before = dict(METRICS)
    yield METRICS
    METRICS.clear()
    METRICS.update(before)
