"""Stop the jobs of Snakemake at SIGTERM and Ctrl-C.

By default, Snakemake waits at SIGTERM until its running jobs are done, which can take hours. Processes between
Snakemake and a step get no signal. Shells end with the step, and Snakemake waits for them. In a container, the program
that mounts the image must not end before the step, which still needs its files.
"""

import signal
import threading
import time
from contextlib import suppress

import psutil

HELPERS = ("bash", "sh", "dash", "starter", "squashfuse", "squashfuse_ll", "fuse2fs", "fuse-overlayfs", "gocryptfs")
SIGNALS = (signal.SIGTERM, signal.SIGINT)
GRACE = 60  # seconds until a job that does not stop is killed by SIGKILL
stopping = threading.Event()  # set when a signal arrives


def stop_jobs(grace: float = GRACE) -> None:
    """Send SIGTERM to all descendants, including new ones, and SIGKILL after `grace` seconds; never returns."""
    asked, end = set(), time.monotonic() + grace
    while True:
        late = time.monotonic() > end
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):  # it has ended, or belongs to another user
                if (late or child.pid not in asked) and child.name() not in HELPERS:
                    asked.add(child.pid)
                    child.send_signal(signal.SIGKILL if late else signal.SIGTERM)
        time.sleep(0.2)


def stop_jobs_on_signals() -> None:
    """Make SIGTERM and Ctrl-C stop the jobs and end Snakemake cleanly. Call it from the main thread."""

    def stop(number, frame):
        for signal_number in SIGNALS:
            signal.signal(signal_number, signal.SIG_IGN)  # ignore further signals
        stopping.set()
        threading.Thread(target=stop_jobs, daemon=True).start()
        raise KeyboardInterrupt

    for signal_number in SIGNALS:
        signal.signal(signal_number, stop)
