"""Writes what each step of a workflow spends in imports; bench_demo.py puts it beside the steps as sitecustomize.py.

Python runs it before a step's program. When the step ends, a line of JSON is added to the file in SNAKETUNE_CLOCK: its
log, and its wall and CPU seconds from here to its end, in all and in imports. CPU seconds are those of all threads and
of child processes.
"""

import atexit
import builtins
import importlib
import json
import os
import sys
import threading
import time

local = threading.local()
spent = {"imports": 0.0, "CPU imports": 0.0}
started, cpu_started = time.perf_counter(), time.process_time()


def timed(function):
    """Return an import function that adds the seconds of its outermost calls to `spent`."""

    def importing(*arguments, **options):
        if getattr(local, "inside", False):
            return function(*arguments, **options)
        local.inside = True
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            return function(*arguments, **options)
        finally:
            local.inside = False
            spent["imports"] += time.perf_counter() - wall
            spent["CPU imports"] += time.thread_time() - cpu

    return importing


def write() -> None:
    """Add the line of this process."""
    children = os.times()
    found = {
        "log": sys.orig_argv[sys.orig_argv.index("--log") + 1],
        "s": time.perf_counter() - started,
        "CPU s": time.process_time() - cpu_started + children.children_user + children.children_system,
        **spent,
    }
    with open(os.environ["SNAKETUNE_CLOCK"], "a", encoding="utf-8") as file:
        file.write(json.dumps(found) + "\n")


def start() -> None:
    """Watch the imports of a step; other programs, and the steps' own child processes, are left alone."""
    words = sys.orig_argv
    if "SNAKETUNE_CLOCK" in os.environ and "--log" in words and any(word.startswith("scripts/") for word in words):
        builtins.__import__ = timed(builtins.__import__)
        importlib.import_module = timed(importlib.import_module)
        atexit.register(write)


if __name__ == "sitecustomize":
    start()
