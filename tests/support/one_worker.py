"""What tests keep in pytest's cache is made once, though several processes of pytest want it at the same time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def one_worker_at_a_time(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder in the cache; another process waits here."""
    with open(folder.with_name(f".{folder.name}.lock"), "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
