"""SIGTERM to Snakemake stops its jobs, and so does Ctrl-C.

By itself Snakemake waits on SIGTERM until its running jobs are done, which can be hours. What stands between Snakemake
and a step is left alone: shells end with the step, and Snakemake waits for them; in a container, the program that holds
the image in place must not go before the step, or the step has no files any more to end in good order.
"""

import os
import signal
import threading
import time
from pathlib import Path

GO_BETWEENS = ("bash", "sh", "dash", "starter", "squashfuse", "squashfuse_ll", "fuse2fs", "fuse-overlayfs", "gocryptfs")
SIGNALS = (signal.SIGTERM, signal.SIGINT)
GRACE = 60  # seconds until a job that does not stop is killed
stopping = threading.Event()  # set from the signal on


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
            if (late or pid not in asked) and name not in GO_BETWEENS:
                asked.add(pid)
                try:
                    os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
                except OSError:  # it ended meanwhile, or is another user's
                    continue
        time.sleep(0.2)


def stop_jobs_on_signals() -> None:
    """At SIGTERM and Ctrl-C jobs stop, Snakemake cleans up and ends. For the main thread, at its start."""

    def stop(number, frame):
        for signal_number in SIGNALS:
            signal.signal(signal_number, signal.SIG_IGN)  # once is enough
        stopping.set()
        threading.Thread(target=stop_jobs, daemon=True).start()
        raise KeyboardInterrupt

    for signal_number in SIGNALS:
        signal.signal(signal_number, stop)
