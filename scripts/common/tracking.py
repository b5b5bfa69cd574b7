"""Write a run to its trackers through a child process, so that they can neither fail, slow nor change the caller."""

import atexit
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from scripts.common.terminal import terminal

ROOT = Path(__file__).resolve().parents[2]
WAIT = 10  # seconds that a training waits at its end for the last points
LONGEST = 120  # seconds from the last message to the end of the child, which a training does not wait for


class Tracking:
    """The child process (scripts/common/trackers.py) that writes a run to its trackers; a process has one at a time.

    `results` is the results folder, `training` the fingerprint of the training (None: there is none), and `settings`
    what the trackers show. With the same `training` and `answers` (a hash; None: any) the same tracked run continues.
    """

    current: "Tracking | None" = None

    def __init__(
        self,
        results: Path,
        run: str,
        trackers: list[str],
        settings: dict,
        *,
        training: str | None,
        answers: str | None = None,
    ):
        if Tracking.current:
            Tracking.current.end()  # of a training that ran out of memory
        Tracking.current = self
        self.folder, self.run, self.trackers = results / "trackers", run, trackers
        # Libraries of the child must not find modules in the working directory.
        command = [sys.executable, "-P", "-m", "scripts.common.trackers"]
        variables = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        }
        # Its own session: Ctrl-C ends the training, and the child then writes what is left.
        streams = {"stdin": subprocess.PIPE, "stdout": terminal.stream, "stderr": terminal.stream}
        self.child = subprocess.Popen(command, **streams, env=variables, text=True, start_new_session=True)
        self.send(
            folder=os.path.abspath(self.folder),
            log=terminal.log and os.path.abspath(terminal.log),
            run=run,
            trackers=trackers,
            settings=settings,
            training=training,
            answers=answers,
        )
        atexit.register(self.end)

    def send(self, **message) -> None:
        """Send a message; one that a child which has ended can't read is dropped."""
        with suppress(OSError, ValueError):
            print(json.dumps(message), file=self.child.stdin, flush=True)

    def end(self, wait: float = WAIT) -> None:
        """Close the channel, and wait for the child this many seconds; it ends by itself."""
        with suppress(OSError):
            self.child.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self.child.wait(wait)
        if wait:
            atexit.unregister(self.end)

    def finish(self) -> dict[str, dict]:
        """Wait for the end; return each tracker's `id` of the run, and the `error` if the run is not complete there."""
        self.end(wait=LONGEST + 10)
        path = self.folder / f"{self.run}.json"
        record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        unknown = {"id": None, "error": "the process that writes to the trackers failed: see the log"}
        return {name: {key: record.get(name, unknown)[key] for key in unknown} for name in self.trackers}
