"""What several tests use is made once, though several processes of pytest want it at the same time."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def one_worker_at_a_time(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder in the cache; another process waits here."""
    with open(folder.with_name(f".{folder.name}.lock"), "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return the folder of this name that `make` filled; of the processes of one run of pytest, one does it.

    Tests may read what is in it and change nothing: other processes read it at the same time.
    """
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder, done = base / name, base / f"{name}.done"
    with one_worker_at_a_time(folder):
        if not done.exists():
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
