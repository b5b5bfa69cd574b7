"""Allow one Snakemake at a time in a folder, with a lock that the kernel releases when the process ends.

Snakemake's own lock consists of files in .snakemake/locks. After a kill they remain, and the user must remove them with
--unlock. Here the process also holds `flock` on a file next to them. A process that gets this lock knows that no other
Snakemake is running, and removes leftover lock files. The lock file names its owner, which the steps watch.
"""

import json
import logging
import os
import platform
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.common.errors import full_disk
from scripts.common.files import take_lock
from scripts.common.parent_watchdog import OWNER, machine, owner_of

LOCK_FILE = "one_at_a_time.lock"
PATIENCE = 3  # seconds; a step briefly holds the lock to check whether its workflow is running
log = logging.getLogger("snaketune")


class FolderInUseError(Exception):
    """Another Snakemake is running in the folder."""


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Lock a folder's lock file during the block; yield whether leftover locks may be removed.

    They may not if the last owner was on another machine, because its lock in a shared folder may not be visible here.
    If the file system has no locks, yields False without a lock. Raises FolderInUseError if another process holds the
    lock.
    """
    with open(path, "a+", encoding="utf-8") as file:
        try:
            take_lock(file, PATIENCE)
        except BlockingIOError:
            owner = owner_of(file)
            raise FolderInUseError(
                f"Another snakemake is running in this folder, process {owner.get('pid')} on {owner.get('host')}: "
                "wait for it or stop it. To run two at a time, use another folder (--directory, with --configfile)."
            ) from None
        except OSError as error:
            log.warning("%s can't be locked (%s): another snakemake in this folder would not be noticed", path, error)
            yield False
            return
        last = owner_of(file)
        yield not last or platform.node() == last.get("host") or machine() == last.get("machine")


@contextmanager
def owned(path: Path) -> Iterator[None]:
    """Write the owner into the lock file, and pass its token to the steps of this process during the block."""
    token = uuid.uuid4().hex
    owner = {"host": platform.node(), "machine": machine(), "pid": os.getpid(), "token": token}
    path.write_text(json.dumps(owner), encoding="utf-8")
    os.environ[OWNER] = f"{token} {path.absolute()}"
    try:
        yield
    finally:
        os.environ.pop(OWNER, None)


def one_workflow_at_a_time() -> None:
    """Make Snakemake hold the folder's lock file while it holds its own lock, and remove leftover locks first.

    A dry run, a report, --unlock and remote jobs take no lock. All work of a workflow happens under the lock, so a full
    disk is reported here as well.
    """
    from snakemake.logging import logger
    from snakemake.persistence import PersistenceBase

    logging.raiseExceptions = False  # no traceback on the terminal if the log can't be written
    own_lock = PersistenceBase.lock
    if own_lock.__module__ == __name__:
        return

    @contextmanager
    def lock(self):
        path = self.path / LOCK_FILE
        try:
            with held(path) as may_remove:
                if may_remove:
                    if any(True for _ in self._read_locks()):
                        logger.info("Removed the lock of a killed run: no other snakemake is running in this folder.")
                    self.cleanup_locks()
                    (self.path / "locks").mkdir(exist_ok=True)
                with own_lock(self), owned(path):
                    yield
        except (FolderInUseError, OSError) as error:
            known = error if isinstance(error, FolderInUseError) else full_disk(error, {"folder": self.path})
            if known is None:
                raise
            # One line without the logger, which prints nothing with `--quiet all`, and writes to the same disk.
            print(known, file=sys.stderr)
            raise SystemExit(1) from None

    PersistenceBase.lock = lock
