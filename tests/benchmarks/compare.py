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


class Goal(NamedTuple):
    """A row: ours divided by the best other side, both in `unit`, and the `goal` of that ratio ("<= 1.5", ">= 1.25").

    `row` is a short name for the file. The other sides are those named `against` (all by default), or `limit` alone,
    beside which they are shown.
    """

    row: str
    what: str
    unit: str
    goal: str
    more_is_better: bool = False
    against: Sequence[str] = ()
    limit: float | None = None


def compare(
    goals: Goal | Sequence[Goal],
    sides: Mapping[str, Callable[[], Mapping[str, float]]],
    *,
    rounds: int = 3,
    check: Callable[[dict[str, list[dict]]], object] | None = None,
    versions: Sequence[str] = (),
    note: str = "",
    device: str | None = None,
) -> list[dict]:
    """Measure each side `rounds` times in turn, ours first; keep and print the record of each goal, and return them.

    Each side returns numbers by unit, those of the goals among them: the others are shown beside them. `check` is
    called with the numbers of all sides before anything is kept, and raises if their results differ. `versions` are
    installed packages that matter (or "name version" of peers that have environments of their own). `device` is what
    the figures are of, if it is not the processor: the name of a GPU.
    """
    goals = [goals] if isinstance(goals, Goal) else goals
    found: dict[str, list[dict]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, side in sides.items():
            found[name].append(dict(side()))
            shown = ", ".join(f"{value:.4g} {each}" for each, value in found[name][-1].items())
            print(f"{goals[0].row}, round {number + 1}, {name}: {shown}", flush=True)
    if check:
        check(found)
    common = {
        "processor": device or processor() + limits_of_instructions(),
        "versions": [each if " " in each else f"{each} {metadata.version(each)}" for each in versions],
        "command": " ".join(["python -m", _module(), *sys.argv[1:]]),
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "note": note,
    }
    records = [judged(goal, found) | common for goal in goals]
    for record in records:
        keep(record)
        print(f"{record['row']}: {record['ratio']} (goal {record['goal']}, {'' if record['met'] else 'not '}met)")
    return records


def judged(goal: Goal, found: Mapping[str, list[dict]]) -> dict:
    """Return the part of a record that a goal decides, from the numbers of each round of each side, ours first."""
    ours, *others = found
    if goal.limit is not None:
        found, others = {**found, "limit": [{goal.unit: goal.limit}]}, ["limit"]
    elif goal.against:
        others = list(goal.against)
        found = {name: found[name] for name in (ours, *others)}
    middle = {name: statistics.median(each[goal.unit] for each in found[name]) for name in (ours, *others)}
    ratio = middle[ours] / (max if goal.more_is_better else min)(middle[name] for name in others)
    sign, limit = goal.goal.split()
    return {
        "row": goal.row,
        "what": goal.what,
        "unit": goal.unit,
        "sides": {
            name: [{goal.unit: each[goal.unit], **each} for each in values if goal.unit in each]
            for name, values in found.items()
            if any(goal.unit in each for each in values)
        },
        "goal": goal.goal,
        "ratio": round(ratio, 4),
        "met": ratio <= float(limit) if sign == "<=" else ratio >= float(limit),
    }


def limits_of_instructions() -> str:
    """Return what keeps libraries from using all of the CPU's instructions, for the name of the processor."""
    names = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")
    found = [f"{name}={os.environ[name]}" for name in names if name in os.environ]
    return f"; limited by {' '.join(found)}" if found else ""


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
    """Return the checked-out commit, with -dirty if files beside the measured ones differ from it."""
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    code = [":/", ":!/tests/benchmarks/measured", ":!/docs/benchmarks.md"]
    differs = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", *code]).returncode
    return f"{commit}-dirty" if differs else commit
