"""The processes of a running workflow, and how to kill them as a reset button does."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

STEP = re.compile(r"scripts/(\w+)/(\w+)\.py")


class RunningWorkflow:
    """A snakemake in a session of its own."""

    def __init__(self, folder: Path, *arguments: str):
        self.folder = folder
        tools = Path(sys.executable).parent
        environment = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
        self.output = open(folder / "snakemake.out", "w+", encoding="utf-8")  # noqa: SIM115 (closed by `said`)
        self.process = subprocess.Popen(
            [str(tools / "snakemake"), "--cores", "2", *arguments, "--quiet", "host", "reason", "rules"],
            cwd=folder, env=environment, stdout=self.output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        """The process id of snakemake itself."""
        return self.process.pid

    def said(self) -> str:
        """Return what it said so far."""
        return (self.folder / "snakemake.out").read_text(encoding="utf-8", errors="replace")

    def alive(self) -> bool:
        """Say whether snakemake runs."""
        return self.process.poll() is None

    def steps(self) -> dict[int, tuple[str, str]]:
        """Return the running steps by process id: (stage, step)."""
        return steps_below(self.pid)

    def wait_for_step(self, step: str, seconds: float = 600) -> int:
        """Return the process id of a step once it runs. Raises AssertionError when it does not come."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.alive():
            for pid, (_, name) in self.steps().items():
                if name == step:
                    return pid
            time.sleep(0.05)
        raise AssertionError(f"{step} does not run: {self.said()}")

    def kill_tree(self) -> set[tuple[str, str]]:
        """Kill snakemake and everything below it at one moment; return the steps that were running."""
        tree = stop_tree(self.pid)
        steps = set(self.steps().values())
        kill(tree)
        self.process.wait()
        wait_until_gone(tree)
        return steps

    def finish(self, seconds: float = 900) -> int:
        """Wait until it ends by itself; return its exit status."""
        return self.process.wait(seconds)


def descendants(pid: int) -> set[int]:
    """Return the ids of the descendants of a process."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return {child.pid for child in psutil.Process(pid).children(recursive=True)}
    return set()


def steps_below(root: int) -> dict[int, tuple[str, str]]:
    """Return the steps that run below a process, by process id: (stage, step)."""
    found = {}
    for pid in descendants(root):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
            if len(words) > 1 and Path(words[0]).name.startswith("python") and (match := STEP.search(words[1])):
                found[pid] = match.groups()
    return found


def stop_tree(root: int) -> set[int]:
    """Stop a process and everything below it, so that nobody starts or cleans up anything; return their ids."""
    tree: set[int] = set()
    while found := {root, *descendants(root)} - tree:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        tree |= found
    return tree


def kill(pids: Iterable[int]) -> None:
    """Kill processes; those that have ended are passed over."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def is_gone(pid: int) -> bool:
    """Say whether a process has ended; one that nobody has waited for yet has."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    return status.rpartition(")")[2].split()[0] == "Z"


def wait_until_gone(pids: Iterable[int]) -> None:
    """Wait until none of these processes is left. Raises AssertionError when one stays for five minutes."""
    end = time.monotonic() + 300
    while left := [pid for pid in pids if not is_gone(pid)]:
        assert time.monotonic() < end, f"still there: {left}"
        time.sleep(0.02)
