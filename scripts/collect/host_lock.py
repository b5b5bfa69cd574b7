"""One request at a time to a host, from all processes of a user, with a delay between two requests."""

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from scripts.common.errors import UserError

LONGEST_PAUSE = 600  # seconds that a host may ask to wait; with more, nothing more is collected now


class ClosedError(UserError):
    """A host that asks for no requests for longer than LONGEST_PAUSE."""


class Turn:
    """The lock of a host, held: its file has the time of the last request, and the time before which it wants none."""

    def __init__(self, file: TextIO):
        self.file = file
        file.seek(0)
        found = re.fullmatch(r"(\d+\.\d+) (\d+\.\d+)", file.read())
        self.last, self.opens = (float(found[1]), float(found[2])) if found else (0.0, 0.0)

    def wait(self, delay: float) -> None:
        """Sleep until `delay` seconds after the last request, or until the host opens, and note the next request."""
        closed = self.opens - time.time()
        if closed > LONGEST_PAUSE:
            when = datetime.fromtimestamp(self.opens, UTC)
            what = f"the host asks for no requests until {when:%Y-%m-%d %H:%M} UTC"
            raise ClosedError(what, self.file.name, remedy="run the same command again then")
        # The clock may have been set back.
        time.sleep(max(closed, min(self.last + delay - time.time(), delay), 0))
        self.note()

    def note(self, pause: float = 0) -> None:
        """Write the present time as that of the last request, after which the host wants none for `pause` seconds."""
        self.last = time.time()
        self.opens = max(self.opens, self.last + pause)
        self.file.truncate(0)
        self.file.write(f"{self.last:.3f} {self.opens:.3f}")
        self.file.flush()


@contextmanager
def turn_at(host: str) -> Iterator[Turn]:
    """Hold a host's lock during the block. The kernel releases it when the process ends."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "snaketune" / "hosts"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{re.sub('[^A-Za-z0-9.-]', '_', host)}.lock", "a+", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield Turn(file)
