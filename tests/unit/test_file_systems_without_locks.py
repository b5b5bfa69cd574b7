"""File systems that have no locks (flock), as some of clusters: work goes on there, and nothing is taken for killed."""

import errno
import fcntl
import os

import pytest

from scripts.common.folder_lock import held
from scripts.common.orphans import owner_is_gone
from scripts.train.training_step import only_training_in


@pytest.fixture(autouse=True)
def no_locks(monkeypatch):
    """Every lock is refused as Lustre refuses it when it is mounted without them."""

    def refuse(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_a_workflow_runs_and_leaves_the_lock_of_another_alone(tmp_path):
    with held(tmp_path / "lock") as may_remove:
        assert not may_remove


def test_no_step_takes_its_workflow_for_dead(tmp_path):
    (tmp_path / "lock").touch()
    assert not owner_is_gone(tmp_path / "lock", "token")


def test_a_training_runs(tmp_path):
    with only_training_in(tmp_path):
        pass
