"""A lock on an open file that ends with the process."""

import fcntl
import time
from typing import TextIO


def take_lock(file: TextIO | int, patience: float) -> None:
    """Take the lock of an open file (or descriptor), trying for so many seconds.

    Raises BlockingIOError when another process holds it; another OSError where the file system has no locks.
    """
    end = time.monotonic() + patience
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
        time.sleep(0.1)
