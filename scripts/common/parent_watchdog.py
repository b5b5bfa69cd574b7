"""No step outlives its workflow: when the Snakemake that started it is gone, it is asked to stop, then killed.

A step hangs on a shell that hangs on Snakemake, and a signal that only kills Snakemake reaches neither.
"""

import ctypes
import fcntl
import json
import logging
import os
import platform
import signal
import threading
import time
from functools import cache
from pathlib import Path
from typing import TextIO

OWNER = "SNAKETUNE_WORKFLOW"  # in the environment of a workflow's steps: token and lock file, see folder_lock.py
SECONDS_BETWEEN_LOOKS = 1
GRACE = 60  # seconds for a checkpoint
PR_SET_PDEATHSIG = 1  # linux/prctl.h
log = logging.getLogger("snaketune")


@cache
def machine() -> str:
    """Return what names this machine until its next start, in a container as well; its name where Linux has no more."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return platform.node()


def owner_of(file: TextIO) -> dict:
    """Return who wrote a lock file: host, machine, pid and token; nothing if it is empty or no JSON."""
    file.seek(0)
    try:
        return dict(json.load(file))
    except ValueError:
        return {}


def owner_is_gone(path: Path, token: str) -> bool:
    """Say whether the process that wrote this token into a lock file has ended; False where it can't be told."""
    try:
        with open(path, encoding="utf-8") as file:
            owner = owner_of(file)
            if owner and owner["machine"] != machine():
                return False
            if owner and owner["token"] != token:
                return True
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return True
    except OSError:  # held, or gone with its folder, or on a file system without locks
        return False


def end_with_workflow() -> None:
    """Watch from a thread whether the workflow that started this process lives; without one there is nothing to do."""
    token, _, path = os.environ.get(OWNER, "").partition(" ")
    if path:
        threading.Thread(target=watch, args=(Path(path), token), daemon=True).start()


def watch(path: Path, token: str) -> None:
    """End this process once the owner of a lock file is gone."""
    while not owner_is_gone(path, token):
        time.sleep(SECONDS_BETWEEN_LOOKS)
    log.warning("the workflow that started this step is gone: stopping")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os.kill(os.getpid(), signal.SIGKILL)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends; for `preexec_fn` of a step's own helper processes."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
