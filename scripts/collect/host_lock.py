"""One request at a time to a host, from all processes of a user, with a delay between two requests."""

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def lock_folder() -> Path:
    """Return the folder of the lock files, the same for all checkouts of this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "snaketune" / "hosts"


@contextmanager
def turn_at(host: str, delay: float) -> Iterator[None]:
    """Hold a host's lock during the block, which begins `delay` seconds after the end of the last one.

    The lock file has the time of the last request, so the delay also holds after an interruption. The kernel releases
    the lock when the process ends.
    """
    path = lock_folder() / f"{re.sub('[^A-Za-z0-9.-]', '_', host)}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        last = file.read()
        if re.fullmatch(r"\d+\.\d+", last):
            time.sleep(min(max(float(last) + delay - time.time(), 0), delay))  # the clock may have been set back
        note_time(file)
        try:
            yield
        finally:
            note_time(file)


def note_time(file) -> None:
    """Replace the content of a lock file by the present time."""
    file.truncate(0)
    file.write(f"{time.time():.3f}")
    file.flush()
