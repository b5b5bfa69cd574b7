"""One Snakemake at a time in a folder, by a lock that dies with its process.

Snakemake's own lock is files in .snakemake/locks, which a kill leaves behind for a person to remove with --unlock. The
process that takes it here holds `flock` on a file beside them as well: whoever gets that knows that no other is at
work, and may remove what a killed one left. The file says who holds it, so that the steps know whose they are.
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
PATIENCE = 3  # seconds; a step that looks whether its workflow lives holds the lock for a moment


class FolderInUseError(Exception):
    """Another Snakemake is at work in the folder."""


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold a folder's lock file as long as the block runs; say whether what a killed holder left may be removed.

    It may not when the last holder was on another machine: its lock of a shared folder may be unknown here. Where the
    file system has no such locks, nothing is held. Raises FolderInUseError when another process holds it.
    """
    with open(path, "a+", encoding="utf-8") as file:
        try:
            take_lock(file, PATIENCE)
        except BlockingIOError:
            owner = owner_of(file)
            raise FolderInUseError(
                f"Another snakemake is at work in this folder, process {owner.get('pid')} on {owner.get('host')}: "
                "wait for it or end it. Side by side they can work in other folders (--directory, with --configfile)."
            ) from None
        except OSError:
            yield False
            return
        last = owner_of(file)
        yield not last or platform.node() == last.get("host") or machine() == last.get("machine")


@contextmanager
def owned(path: Path) -> Iterator[None]:
    """Write into a held lock file who holds it, and tell the steps of this process, as long as the block runs."""
    token = uuid.uuid4().hex
    owner = {"host": platform.node(), "machine": machine(), "pid": os.getpid(), "token": token}
    path.write_text(json.dumps(owner), encoding="utf-8")
    os.environ[OWNER] = f"{token} {path.absolute()}"
    try:
        yield
    finally:
        os.environ.pop(OWNER, None)


def one_workflow_at_a_time() -> None:
    """Have Snakemake hold the folder's lock file wherever it takes its own lock, and remove what a killed one left.

    Its other work (a dry run, a report, --unlock) takes no lock, nor do the jobs that it starts elsewhere. As the lock
    spans all that it does, this is also where it meets a full disk.
    """
    from snakemake.logging import logger
    from snakemake.persistence import PersistenceBase

    logging.raiseExceptions = False  # a log that can't be written is no reason for a traceback on the terminal
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
                        logger.info("A run that was killed left its lock: removed, for nobody else is at work here.")
                    self.cleanup_locks()
                    (self.path / "locks").mkdir(exist_ok=True)
                with own_lock(self), owned(path):
                    yield
        # One line each, which an error of Snakemake's would not be.
        except FolderInUseError as error:
            print(error, file=sys.stderr)  # the logger says nothing with `--quiet all`
            raise SystemExit(1) from None
        except OSError as error:
            full = full_disk(error, {"folder": self.path})
            if full is None:
                raise
            print(full, file=sys.stderr)  # the logger writes to that disk as well
            raise SystemExit(1) from None

    PersistenceBase.lock = lock
