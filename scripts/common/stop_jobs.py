"""SIGTERM to Snakemake stops its jobs, as Ctrl-C at a terminal does.

By itself Snakemake waits on SIGTERM until its running jobs are done, which can be hours. Shells between Snakemake and
a step are left alone: they end with the step, and Snakemake waits for them.
"""

import os
import signal
import threading
import time
from pathlib import Path

SHELLS = ("bash", "sh", "dash")
GRACE = 60  # seconds until a job that does not stop is killed


def descendants(pid: int) -> dict[int, str]:
    """Return the processes below one, with the names of their programs."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name, _, fields = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")
        except OSError:  # it ended meanwhile
            continue
        parents[int(folder.name)], names[int(folder.name)] = int(fields.split()[1]), name.partition("(")[2]

    def below(child: int) -> bool:
        while child in parents:
            child = parents[child]
            if child == pid:
                return True
        return False

    return {child: names[child] for child in parents if below(child)}


def stop_jobs(grace: float = GRACE) -> None:
    """Ask all processes below this one to stop, those that start meanwhile too, until none is left or time is up."""
    asked, end = set(), time.monotonic() + grace
    while True:
        late = time.monotonic() > end
        for pid, name in descendants(os.getpid()).items():
            if (late or pid not in asked) and name not in SHELLS:
                asked.add(pid)
                try:
                    os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
                except OSError:  # it ended meanwhile, or is another user's
                    continue
        time.sleep(0.2)


def stop_jobs_on_sigterm() -> None:
    """Take SIGTERM like Ctrl-C: jobs stop, Snakemake cleans up and ends. For the main thread, at its start."""

    def stop(number, frame):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
        threading.Thread(target=stop_jobs, daemon=True).start()
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
