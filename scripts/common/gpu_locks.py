"""Find the GPUs of this machine without torch, and reserve some for a job with file locks.

The kernel releases the locks when the process ends, even if it is killed.
"""

import atexit
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.common.errors import UserError
from scripts.common.terminal import log, warn

if TYPE_CHECKING:
    from filelock import FileLock

# Folder of the lock files, shared by all users of this machine and visible in containers. The second variable is the
# former name of the first.
FOLDER_VARIABLES, FOLDER = ("SNAKETUNE_GPU_LOCKS", "SNAKETUNE_LEASES"), "/tmp"  # noqa: S108
# Set for child processes of a step, which share its GPUs.
TAKEN = "SNAKETUNE_GPUS_TAKEN"
SECONDS_BETWEEN_ATTEMPTS = 0.5
SECONDS_BETWEEN_TOUCHES = 3600
held: list["FileLock"] = []
VISIBLE = "CUDA_VISIBLE_DEVICES"
# The GPUs of the machine in the format of CUDA_VISIBLE_DEVICES, used instead of nvidia-smi; empty: no GPU.
OVERRIDE = "SNAKETUNE_DEVICES"
GPU_LINE = re.compile(r"GPU (?P<index>\d+): .*\(UUID: (?P<name>GPU-[^)]+)\)")
MIG_LINE = re.compile(r"\s+MIG .*\(UUID: (?P<name>MIG-[^)]+)\)")
SECONDS_FOR_NVIDIA_SMI = 60
OF_JOB = "SLURM_JOB_ID"


@dataclass(frozen=True)
class Device:
    """A GPU or a MIG part: its name in CUDA_VISIBLE_DEVICES, and a key that is the same in all processes."""

    name: str
    key: str


def devices(environment: Mapping[str, str] = os.environ) -> list[Device]:
    """Return the GPUs that this process may use: those of CUDA_VISIBLE_DEVICES, or all if it is not set.

    In the second case, names are UUIDs, because CUDA numbers GPUs by speed and nvidia-smi by position on the bus.
    """
    there = there_by_number(environment)
    if VISIBLE not in environment:
        return [Device(name, name) for names in there.values() for name in names]
    return [Device(name, key_of(name, there, environment)) for name in listed(environment[VISIBLE])]


def there_by_number(environment: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the machine's GPUs: number to a list with the UUID, or with the UUIDs of the MIG parts."""
    if OVERRIDE in environment:
        return {name: [name] for name in listed(environment[OVERRIDE])}
    return parsed(nvidia_smi(environment))


def nvidia_smi(environment: Mapping[str, str]) -> str:
    """Return the output of `nvidia-smi -L`; empty if it is not installed or fails. Raises UserError if it hangs."""
    program = shutil.which("nvidia-smi", path=environment.get("PATH"))
    if program is None:
        return ""
    try:
        command, seconds = [program, "-L"], SECONDS_FOR_NVIDIA_SMI
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        remedy = f"repair the driver, or set {VISIBLE}= to use no GPU"
        raise UserError(f"nvidia-smi does not answer for {seconds} s", remedy=remedy) from None
    return done.stdout if done.returncode == 0 else ""


def parsed(listing: str) -> dict[str, list[str]]:
    """Return number to UUIDs from the output of `nvidia-smi -L`; a GPU with MIG parts is replaced by its parts."""
    found: dict[str, list[str]] = {}
    parts: dict[str, list[str]] = {}
    for line in listing.splitlines():
        if match := GPU_LINE.match(line):
            number = match["index"]
            found[number] = [match["name"]]
        elif (match := MIG_LINE.match(line)) and found:
            parts.setdefault(number, []).append(match["name"])
    return {**found, **parts}


def listed(text: str) -> list[str]:
    """Return the names in a list as CUDA reads it: a negative number or an empty name ends the list."""
    names = takewhile(lambda name: name and not name.startswith("-"), map(str.strip, text.split(",")))
    return list(dict.fromkeys(names))


def key_of(name: str, there: dict[str, list[str]], environment: Mapping[str, str]) -> str:
    """Return a key that identifies a device on this machine: its UUID if known, else its name.

    Under Slurm the key includes the job, so that jobs that share a GPU do not wait for each other. Slurm may number the
    GPUs of each job step from 0, so without a UUID the key includes the job step and the node as well.
    """
    uuids = [uuid for names in there.values() for uuid in names]
    known = there.get(name) or [uuid for uuid in uuids if uuid.startswith(name)]
    key = known[0] if known else name
    job = environment.get(OF_JOB)
    if job is None:
        return key
    step = "" if known else f"{environment.get('SLURM_STEP_ID', '')}-{environment.get('SLURMD_NODENAME', '')}-"
    return f"slurm-{job}-{step}{key}"


def take_devices(count: int | None, environment: MutableMapping[str, str] = os.environ) -> list[str]:
    """Reserve `count` GPUs for this process and return their names; wait while other jobs use them.

    Sets CUDA_VISIBLE_DEVICES, so call it before CUDA is initialised. 0 hides all GPUs; None, or a machine without GPUs,
    changes nothing. Child processes share the GPUs and must end with this process (`die_with_parent`). Raises UserError
    if there are fewer than `count` GPUs.
    """
    if environment.get(TAKEN):
        return environment.get(VISIBLE, "").split(",")
    if count == 0:
        environment[VISIBLE] = ""
    there = devices(environment) if count else []
    if not there:
        return []
    if count > len(there):
        remedy = "request fewer, or list more in CUDA_VISIBLE_DEVICES"
        raise UserError(f"needs {count} GPUs, but there are only {len(there)}: {names_of(there)}", remedy=remedy)
    folder = lock_folder(environment)
    taken = wait_for(count, there, folder)
    threading.Thread(target=keep_from_cleaners, args=(list(held),), daemon=True).start()
    if OF_JOB in environment:
        atexit.register(remove_files, list(held))
    environment[TAKEN] = "yes"
    environment[VISIBLE] = names_of(taken, separator=",")
    log.info("reserved GPU %s", names_of(taken))
    return [device.name for device in taken]


def lock_folder(environment: MutableMapping[str, str]) -> Path:
    """Return the folder of the lock files."""
    return Path(next(filter(None, map(environment.get, FOLDER_VARIABLES)), FOLDER))


def wait_for(count: int, there: list[Device], folder: Path) -> list[Device]:
    """Lock and return `count` devices; while waiting, log once what it waits for."""
    said = False
    while not (taken := free_devices(count, there, folder)):
        if not said:
            command = f"fuser -v {folder}/snaketune-gpu-*"
            warn(f"waits for {count} of the GPUs {names_of(there)}, which other jobs use (`{command}` lists them)")
            said = True
        time.sleep(SECONDS_BETWEEN_ATTEMPTS)
    return taken


def free_devices(count: int, there: list[Device], folder: Path) -> list[Device]:
    """Lock and return the first `count` free devices; return none if fewer are free.

    Only one process at a time searches. Otherwise two processes that need several GPUs could each hold some of them
    and wait for each other.
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
    """Return the lock of a file; a missing file is created writable for all users. Links are not followed."""
    from filelock import FileLock

    return FileLock(path, mode=0o666, thread_local=False, fallback_to_soft=False)


def remove_files(locks: list["FileLock"]) -> None:
    """Remove the lock files of a Slurm job, which no other job uses."""
    for lock in locks:
        with suppress(OSError):
            os.unlink(lock.lock_file)


def keep_from_cleaners(locks: list["FileLock"]) -> None:
    """Touch the files every hour: systemd before version 254 removes locked files from /tmp after ten unused days."""
    while True:
        with suppress(OSError):
            for lock in locks:
                os.utime(lock.lock_file)
        time.sleep(SECONDS_BETWEEN_TOUCHES)


def names_of(there: list[Device], separator: str = ", ") -> str:
    """Return the names of devices as one text."""
    return separator.join(device.name for device in there)
