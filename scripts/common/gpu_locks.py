"""A job's own GPUs, held by file locks that the kernel releases when the process ends, however it ends."""

import atexit
import os
import re
import threading
import time
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.common.devices import OF_JOB, VISIBLE, Device, devices
from scripts.common.errors import UserError
from scripts.common.terminal import log, terminal

if TYPE_CHECKING:
    from filelock import FileLock

# Where the files are: on this machine, for all its users, and seen from within a container too. The second is the
# former name of the variable.
FOLDER_VARIABLES, FOLDER = ("SNAKETUNE_GPU_LOCKS", "SNAKETUNE_LEASES"), "/tmp"  # noqa: S108
# Set for the processes that a step starts: its GPUs are theirs as well.
TAKEN = "SNAKETUNE_GPUS_TAKEN"
SECONDS_BETWEEN_TRIES = 0.5
SECONDS_BETWEEN_TOUCHES = 3600
held: list["FileLock"] = []


def take_devices(count: int | None, environment: MutableMapping[str, str] = os.environ) -> list[str]:
    """Reserve `count` GPUs for this process and return their names; wait while other jobs have them.

    They stand in CUDA_VISIBLE_DEVICES afterwards, before anything looks at it. 0 hides all GPUs; None, or a machine
    without any, changes nothing. Processes that this one starts share them, and must end with it
    (`die_with_parent`). Raises UserError when fewer are there than asked for.
    """
    if environment.get(TAKEN):
        return environment.get(VISIBLE, "").split(",")
    if count == 0:
        environment[VISIBLE] = ""
    there = devices(environment) if count else []
    if not there:
        return []
    if count > len(there):
        raise UserError(
            f"asks for {count} GPUs, and there are {len(there)}: {names_of(there)}",
            remedy="ask for fewer, or list more in CUDA_VISIBLE_DEVICES",
        )
    folder = lock_folder(environment)
    taken = wait_for(count, there, folder)
    threading.Thread(target=keep_from_cleaners, args=(list(held),), daemon=True).start()
    if OF_JOB in environment:
        atexit.register(remove_files, list(held))
    environment[TAKEN] = "yes"
    environment[VISIBLE] = names_of(taken, separator=",")
    log.info("has for itself: GPU %s", names_of(taken))
    return [device.name for device in taken]


def lock_folder(environment: MutableMapping[str, str]) -> Path:
    """Return the folder of the lock files."""
    return Path(next(filter(None, map(environment.get, FOLDER_VARIABLES)), FOLDER))


def wait_for(count: int, there: list[Device], folder: Path) -> list[Device]:
    """Return `count` devices, locked from now on; say once what it waits for."""
    said = False
    while True:
        taken = free_devices(count, there, folder)
        if taken:
            return taken
        if not said:
            line = f"waits for {count} of GPU {names_of(there)}: other jobs have them"
            line += f" (`fuser -v {folder}/snaketune-gpu-*` says which)"
            log.info(line)
            if terminal.apart_from_log:
                terminal.line(line)
            said = True
        time.sleep(SECONDS_BETWEEN_TRIES)


def free_devices(count: int, there: list[Device], folder: Path) -> list[Device]:
    """Return the first `count` devices that nobody holds, locked; none if there are fewer.

    One process at a time looks, so that two which want several GPUs don't each hold a part of them.
    """
    from filelock import Timeout

    taken, locks = [], []
    try:
        with lock_of(folder / "snaketune-gpus.lock"):
            for device in there:
                lock = lock_of(folder / f"snaketune-gpu-{re.sub(r'[^A-Za-z0-9.-]', '_', device.key)}.lock")
                with suppress(Timeout):
                    lock.acquire(blocking=False)
                    taken.append(device)
                    locks.append(lock)
                if len(taken) == count:
                    held.extend(locks)
                    return taken
            for lock in locks:
                lock.release()
    except OSError as error:
        remedy = f"remove it, or set {FOLDER_VARIABLES[0]}"
        raise UserError(f"can't be opened as a lock: {error.strerror}", error.filename, remedy=remedy) from None
    return []


def lock_of(path: Path) -> "FileLock":
    """Return the lock of a file, which is made for all users if it is not there. A link is not followed."""
    from filelock import FileLock

    return FileLock(path, mode=0o666, thread_local=False, fallback_to_soft=False)


def remove_files(locks: list["FileLock"]) -> None:
    """Remove lock files that no other job will ever want: those of a Slurm job."""
    for lock in locks:
        with suppress(OSError):
            os.unlink(lock.lock_file)


def keep_from_cleaners(locks: list["FileLock"]) -> None:
    """Touch the files now and then: systemd removes from /tmp what was not touched for ten days."""
    while True:
        with suppress(OSError):
            for lock in locks:
                os.utime(lock.lock_file)
        time.sleep(SECONDS_BETWEEN_TOUCHES)


def names_of(there: list[Device], separator: str = ", ") -> str:
    """Return the names of devices as one text."""
    return separator.join(device.name for device in there)
