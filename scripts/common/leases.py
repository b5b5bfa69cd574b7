"""A job's own GPUs, held by locks on files that end with the processes that use them.

A GPU is taken as long as any process holds a shared lock (flock) on its file. Whoever wants one takes turns, by an
exclusive lock on a file of its own, and looks for files that nobody holds. A process that a step starts joins the
step's lease by locks of its own, and a forked one shares them: a GPU is free when the last of them is gone.
"""

import atexit
import fcntl
import os
import re
import stat
import threading
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path

from scripts.common.devices import OF_JOB, VISIBLE, Device, devices
from scripts.common.errors import UserError
from scripts.common.flock import take_lock
from scripts.common.terminal import log, terminal

# Where the files are: on this machine, for all its users, and seen from within a container too.
FOLDER_VARIABLE, FOLDER = "SNAKETUNE_LEASES", "/tmp"  # noqa: S108
# The process that has a lease and its files, for the processes that it starts.
LEASE = "SNAKETUNE_LEASE"
SECONDS_BETWEEN_TRIES = 0.5
# A turn takes milliseconds.
PATIENCE = 10
SECONDS_BETWEEN_TOUCHES = 3600
held: list[int] = []


def take_devices(count: int | None, environment: MutableMapping[str, str] = os.environ) -> list[str]:
    """Make `count` GPUs this process's own, wait for them if they are taken, and return their names.

    They stand in CUDA_VISIBLE_DEVICES afterwards, before anything looks at it. 0 hides all GPUs; None, or a machine
    without any, changes nothing. Raises UserError when fewer are there than asked for.
    """
    if environment.get(LEASE):
        holder, *files = environment[LEASE].split(os.pathsep)
        join(int(holder), files)
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
    folder = Path(environment.get(FOLDER_VARIABLE) or FOLDER)
    taken = wait_for(count, there, folder)
    threading.Thread(target=keep_from_cleaners, args=(list(held),), daemon=True).start()
    files = [lock_file(device, folder) for device in taken]
    if OF_JOB in environment:
        atexit.register(remove_files, files, folder)
    environment[LEASE] = os.pathsep.join([str(os.getpid()), *map(str, files)])
    environment[VISIBLE] = names_of(taken, separator=",")
    log.info("has for itself: GPU %s", names_of(taken))
    return [device.name for device in taken]


def wait_for(count: int, there: list[Device], folder: Path) -> list[Device]:
    """Return `count` devices that are this process's from now on; say once what it waits for."""
    said = False
    while True:
        with turn(folder):
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
    """Return the first `count` devices that nobody holds, held now; none if there are fewer."""
    taken, descriptors = [], []
    for device in there:
        descriptor = locked(lock_file(device, folder))
        if descriptor is not None:
            taken.append(device)
            descriptors.append(descriptor)
        if len(taken) == count:
            held.extend(descriptors)
            return taken
    for descriptor in descriptors:
        os.close(descriptor)
    return []


def locked(path: Path) -> int | None:
    """Return a descriptor that holds a shared lock on a file that nobody else holds; None where somebody does.

    Only whoever has the turn calls this: between the exclusive lock, which says that nobody holds the file, and the
    shared one, which others can join, there is a moment without any.
    """
    while True:
        descriptor = opened(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if is_still(path, descriptor):
            return descriptor
        os.close(descriptor)


@contextmanager
def turn(folder: Path) -> Iterator[None]:
    """Wait for the turn to look for free devices, and hand it on."""
    path = folder / "snaketune-gpus.lock"
    while True:
        descriptor = opened(path)
        try:
            take_lock(descriptor, PATIENCE)
        except BlockingIOError:
            terminal.line(f"another process has held {path} for {PATIENCE} s, though none needs it for long: waiting")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if is_still(path, descriptor):
            break
        os.close(descriptor)
    try:
        yield
    finally:
        os.close(descriptor)


def join(holder: int, files: list[str]) -> None:
    """Hold the devices of the step that started this process as well: they stay taken if the step dies first.

    As the step is alive after the locks are there, nobody can have had the devices in between.
    """
    for file in files:
        descriptor = opened(Path(file))
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        held.append(descriptor)
    if not Path(f"/proc/{holder}").exists():
        raise UserError(f"the step that had the GPU for this process ({holder}) is gone", remedy="start it again")


def remove_files(files: list[Path], folder: Path) -> None:
    """Remove lock files that no other job will ever want, those of a Slurm job, unless another process holds them."""
    with turn(folder):
        for path, descriptor in zip(files, held, strict=False):
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


def opened(path: Path) -> int:
    """Open a lock file, made if need be, that any user may have made: no link is followed, and no pipe waited for.

    A shared folder such as /tmp lets nobody remove another's file, and a file is not opened to be created where one is
    (`fs.protected_regular` forbids that). Others may read it, which is enough for a lock.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | flags, 0o666)
            os.fchmod(descriptor, 0o666)
        except FileExistsError:
            descriptor = os.open(path, flags)
    except OSError as error:
        raise UserError(
            f"can't be opened as a lock: {error.strerror}", path, remedy=f"remove it, or set {FOLDER_VARIABLE}"
        ) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UserError("is no ordinary file", path, remedy=f"remove it, or set {FOLDER_VARIABLE}")
    return descriptor


def is_still(path: Path, descriptor: int) -> bool:
    """Say whether the open file is still the one of that name: a cleaner of /tmp may have removed it."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def keep_from_cleaners(descriptors: list[int]) -> None:
    """Touch the files now and then: systemd removes from /tmp what was not touched for ten days."""
    while True:
        with suppress(OSError):
            for descriptor in descriptors:
                os.utime(descriptor)
        time.sleep(SECONDS_BETWEEN_TOUCHES)


def lock_file(device: Device, folder: Path) -> Path:
    """Return the file whose lock stands for a device."""
    return folder / f"snaketune-gpu-{re.sub(r'[^A-Za-z0-9.-]', '_', device.key)}.lock"


def names_of(there: list[Device], separator: str = ", ") -> str:
    """Return the names of devices as one text."""
    return separator.join(device.name for device in there)
