"""Fixtures that several unit tests share."""

from pathlib import Path

import pytest

from tests.support.dataset_steps import Stage, settings_of


@pytest.fixture
def stage(tmp_path: Path, capsys: pytest.CaptureFixture) -> Stage:
    """The steps of the dataset stage in a folder of their own, with half of the records in train."""
    return Stage(tmp_path, settings_of(splits={"train": 0.5, "validation": 0.25, "test": 0.25}), capsys)


@pytest.fixture
def registry():
    """The metrics without those that a test adds."""
    from scripts.score.metrics import METRICS

    before = dict(METRICS)
    yield METRICS
    METRICS.clear()
    METRICS.update(before)
