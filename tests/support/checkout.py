"""A copy of this checkout as a new user has it, and `make` in it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.project import ROOT, without_make


def copy_of_the_checkout(folder: Path) -> Path:
    """Copy what git knows or would take, as a new user would have it."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def make(folder: Path, *arguments: str, env_vars: dict[str, str] | None = None) -> str:
    """Run make in the folder, with this environment and no other (`VENV=`: nothing is installed); return its output."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**without_make(), "COLUMNS": "140", "PATH": path, **(env_vars or {})}
    return printed_by(["make", "VENV=", "CORES=2", *arguments], folder, environment)


def printed_by(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    """Run a command in the folder, with this environment and no other; return its output. It has to succeed."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(command, cwd=folder, env=environment, text=True, **pipes)
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout
