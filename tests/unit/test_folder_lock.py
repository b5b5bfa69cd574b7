"""A second workflow in a folder is told of the first, whatever Snakemake's logger hides."""

import logging
import os
from contextlib import contextmanager

import pytest

from scripts.common.folder_lock import LOCK_FILE, held, one_workflow_at_a_time, owned


def test_a_second_workflow_is_told_of_the_first_on_stderr(tmp_path, monkeypatch, capsys, caplog):
    class Persistence:
        path = tmp_path

        @contextmanager
        def lock(self):
            yield

    monkeypatch.setattr("scripts.common.folder_lock.PATIENCE", 0)
    monkeypatch.setattr("snakemake.persistence.PersistenceBase", Persistence)
    monkeypatch.setattr(logging, "raiseExceptions", True)  # as it is afterwards
    one_workflow_at_a_time()
    with held(tmp_path / LOCK_FILE), owned(tmp_path / LOCK_FILE), pytest.raises(SystemExit), Persistence().lock():
        pytest.fail("the folder is in use")
    said = capsys.readouterr().err
    assert said.startswith(f"Another snakemake is at work in this folder, process {os.getpid()} on ")
    assert said.count("\n") == 1
    assert not caplog.messages, "with --quiet all the logger says nothing"
