"""End a step when the Snakemake that started it has ended: first with SIGTERM, then with SIGKILL.

A step is a child of a shell, which is a child of Snakemake. A signal that kills only Snakemake reaches neither.
"""

import ctypes
import fcntl
import json
import logging
import os
import signal
import threading
import time
from functools import cache
from pathlib import Path
from typing import TextIO

OWNER = "SNAKETUNE_WORKFLOW"  # variable of a workflow's steps: token and path of the lock file; see folder_lock.py
SECONDS_BETWEEN_LOOKS = 1
GRACE = 60  # seconds to write a checkpoint
PR_SET_PDEATHSIG = 1  # linux/prctl.h
log = logging.getLogger("snaketune")


@cache
def machine() -> str:
    """Return Linux's boot id, which changes at each boot and is the same in containers."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def owner_of(file: TextIO) -> dict:
    """Return the owner in a lock file: host, machine, pid and token; empty if the file is not valid JSON."""
    file.seek(0)
    try:
        return dict(json.load(file))
    except ValueError:
        return {}


def owner_is_gone(path: Path, token: str) -> bool:
    """Return whether the process that wrote this token into a lock file has ended; False if that is unknown."""
    try:
        with open(path, encoding="utf-8") as file:
            owner = owner_of(file)
            if owner and owner["machine"] != machine():
                return False
            if owner and owner["token"] != token:
                return True
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return True
    except OSError:  # it is held, it was deleted with its folder, or the file system has no locks
        return False


def end_with_workflow() -> None:
    """Start a thread that ends this process after its workflow; do nothing if no workflow started it."""
    token, _, path = os.environ.get(OWNER, "").partition(" ")
    if path:
        threading.Thread(target=watch, args=(Path(path), token), daemon=True).start()


def watch(path: Path, token: str) -> None:
    """End this process when the owner of a lock file has ended."""
    while not owner_is_gone(path, token):
        time.sleep(SECONDS_BETWEEN_LOOKS)
    log.warning("the workflow that started this step has ended: stopping")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os.kill(os.getpid(), signal.SIGKILL)


def note_parent() -> None:
    """Note this process as the parent of the child that it is about to fork."""
    global parent
    parent = os.getpid()


def die_with_parent() -> None:
    """Make the kernel kill this process when its parent ends; for the `preexec_fn` of a step's child processes."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the call
        os.kill(os.getpid(), signal.SIGKILL)


parent = os.getppid()
os.register_at_fork(before=note_parent)
