"""Processes that write to a monitor's file; some are killed."""

import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from scripts.deploy.quality_monitor import ABTestMonitor

PROGRAM = """
import os, sys
sys.path.insert(0, sys.argv[1])
from quality_monitor import ABTestMonitor
path, writer, first, rows = sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
monitor = ABTestMonitor(path, keep=int(sys.argv[6]))
acknowledged = os.open(f"{path}.{writer}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for row in range(first, rows):
    monitor.log_metric(model=("old", "new")[row % 2], text=f"{writer} {row} is written", gen_time=0.1)
    os.write(acknowledged, b".")
"""


def write_with_kills(path: Path, processes: int, rows: int, kills: int) -> dict:
    """Write `rows` rows with each process; kill so many of them (SIGKILL) and start them again with the rest.

    Returns the numbers of acknowledged, stored and lost rows, and the seconds.
    """
    folder = Path(sys.modules[ABTestMonitor.__module__].__file__).parent
    rng, keep, began = random.Random(0), processes * rows + kills, time.monotonic()

    def acknowledged(writer: int) -> int:
        file = path.with_name(f"{path.name}.{writer}")
        return file.stat().st_size if file.exists() else 0

    def start(writer: int) -> subprocess.Popen:
        words = (folder, path, writer, acknowledged(writer), rows, keep)
        return subprocess.Popen([sys.executable, "-I", "-c", PROGRAM, *map(str, words)])

    running = {writer: start(writer) for writer in range(processes)}
    for kill in range(kills):
        while sum(map(acknowledged, running)) < (kill + 1) * processes * rows / (kills + 2):
            assert not any(process.poll() for process in running.values()), "a writer failed"
            time.sleep(0.005)
        writer = rng.choice([one for one, process in running.items() if process.poll() is None])
        running[writer].send_signal(signal.SIGKILL)
        running[writer].wait()
        running[writer] = start(writer)
    assert [process.wait() for process in running.values()] == [0] * processes
    report = ABTestMonitor(path, read_only=True).get_comparison_report()
    with sqlite3.connect(path) as connection:
        kept = {row[0] for row in connection.execute("SELECT text FROM recent")}
    ids = {f"{writer} {row} is written" for writer in range(processes) for row in range(rows)}
    return {
        "acknowledged": sum(map(acknowledged, running)),
        "stored": sum(found["count"] for found in report.values()),
        "lost": len(ids - kept),
        "seconds": time.monotonic() - began,
    }
