"""File systems that have no locks (flock), as some of clusters: work goes on there, and nothing is taken for killed."""

import errno
import fcntl
import os

from scripts.common.parent_watchdog import owner_is_gone
from scripts.train.training_step import only_training_in
from scripts.workflow.folder_lock import held


def test_a_workflow_runs_a_training_too_and_no_lock_of_another_is_taken_for_its_own(monkeypatch, tmp_path):
    """Every lock is refused as Lustre refuses it when it is mounted without them."""

    def refuse(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with held(tmp_path / "lock") as may_remove, only_training_in(tmp_path):
        assert not may_remove
    (tmp_path / "lock").touch()
    assert not owner_is_gone(tmp_path / "lock", "token")
