"""Our step and its peer or limit in turn (A B A B ...), and what was measured, as one record a row and processor.

A benchmark is a program bench_*.py of this folder that ends with `compare(...)` for each row that it measures. The
records are in tests/benchmarks/measured/; `python -m tests.benchmarks.page` writes docs/benchmarks.md from them, and
`make bench` runs the programs that need no accelerator, then that one. Nothing else should run beside.
"""

import datetime
import hashlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.benchmarks.bench_times import processor

ROOT = Path(__file__).resolve().parents[2]
MEASURED = ROOT / "tests/benchmarks/measured"
EVERY = 0.05  # seconds between two looks at the memory of a process


class Ran(NamedTuple):
    """A command that ended: wall and CPU seconds, peak MiB of it and its children together, and its output."""

    seconds: float
    cpu_seconds: float
    mib: float
    output: str


def run(command: Sequence[str], every: float = EVERY, **options) -> Ran:
    """Run a command (options of subprocess.Popen) and measure it; SystemExit with the end of its output if it fails.

    Memory is the proportional set size of all its processes, looked at every so many seconds, or the resident peak
    (VmHWM) of the largest one, whichever is more. Beside the demo, a look every 50 ms took a quarter of a core.
    wait4's peak of a child is not used: it starts at that of its parent.
    """
    with tempfile.TemporaryFile() as file:
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, **options)
        peak, ended = [0.0], threading.Event()
        watcher = threading.Thread(target=_watch, args=(process.pid, every, peak, ended))
        watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        ended.set()
        watcher.join()
        file.seek(0)
        output = file.read().decode(errors="replace")
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{output[-4000:]}")
    return Ran(seconds, usage.ru_utime + usage.ru_stime, peak[0], output)


def _watch(pid: int, every: float, peak: list[float], ended: threading.Event) -> None:
    while not ended.wait(every):
        total = 0
        try:
            parent = psutil.Process(pid)
            family = [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in family:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
                peak[0] = max(peak[0], int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024)
                total += process.memory_full_info().pss
            except (OSError, TypeError, psutil.NoSuchProcess, psutil.AccessDenied):
                continue  # it has ended
        peak[0] = max(peak[0], total / 2**20)


def compare(
    row: str,
    what: str,
    unit: str,
    sides: Mapping[str, Callable[[], float | Mapping[str, float]]],
    *,
    goal: str,
    rounds: int = 3,
    more_is_better: bool = False,
    versions: Sequence[str] = (),
    note: str = "",
    device: str | None = None,
) -> dict:
    """Measure each side `rounds` times in turn, ours first; keep and print the record, and return it.

    `row` is a short name for the file; `what` and `goal` ("<= 1.5", ">= 1.25": of ours divided by the best other side)
    are shown. Each side returns the number measured in `unit`, or several numbers by unit, `unit` among them: the
    others are shown beside it. `versions` are installed packages that matter (or "name version" of peers that have
    environments of their own). `device` is what the figures are of, if it is not the processor: the name of a GPU.
    """
    found: dict[str, list[dict]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, side in sides.items():
            measured = side()
            found[name].append(dict(measured) if isinstance(measured, Mapping) else {unit: measured})
            shown = ", ".join(f"{value:.4g} {each}" for each, value in found[name][-1].items())
            print(f"{row}, round {number + 1}, {name}: {shown}", flush=True)
    ours, *others = ([each[unit] for each in values] for values in found.values())
    best = (max if more_is_better else min)(map(statistics.median, others))
    ratio = statistics.median(ours) / best
    sign, limit = goal.split()
    record = {
        "row": row,
        "what": what,
        "unit": unit,
        "sides": found,
        "goal": goal,
        "ratio": round(ratio, 4),
        "met": ratio <= float(limit) if sign == "<=" else ratio >= float(limit),
        "processor": device or processor(),
        "versions": [each if " " in each else f"{each} {metadata.version(each)}" for each in versions],
        "command": " ".join(["python -m", _module(), *sys.argv[1:]]),
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "note": note,
    }
    keep(record)
    print(f"{row}: {ratio:.3g} (goal {goal}, {'met' if record['met'] else 'not met'})", flush=True)
    return record


def keep(record: dict) -> None:
    """Write a record to the file of its row and processor."""
    MEASURED.mkdir(exist_ok=True)
    machine = hashlib.sha256(record["processor"].encode()).hexdigest()[:8]
    path = MEASURED / f"{record['row']}.{machine}.json"
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _module() -> str:
    path = Path(sys.argv[0]).resolve()
    return ".".join(path.relative_to(ROOT).with_suffix("").parts) if path.is_relative_to(ROOT) else path.name


def _commit() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return re.sub(r"^.*-g", "", done.stdout.strip())
