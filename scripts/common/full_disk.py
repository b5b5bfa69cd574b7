"""What a full disk looks like to a step, and one clear line about it."""

import errno
import os
import re
import shutil
from pathlib import Path
from typing import Any

from scripts.common.errors import UserError

NUMBERS = (errno.ENOSPC, errno.EDQUOT)
# Libraries written in Rust or C++, and helper processes, say it in words only.
WORDS = re.compile("|".join(map(os.strerror, NUMBERS)), re.IGNORECASE)
LITTLE = 64 * 2**10  # bytes; native code that can't write more may say anything, or nothing


def full_disk(error: BaseException, arguments: dict[str, Any]) -> UserError | None:
    """Return a UserError that names what could not be written if a full disk is behind an error; otherwise None.

    The paths among the step's arguments tell where it writes: inputs stand first, outputs last.
    """
    chain = []
    paths = [path for name, path in reversed(arguments.items()) if isinstance(path, Path) and name != "log"]
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    told = [each for each in chain if getattr(each, "errno", None) in NUMBERS or WORDS.search(str(each))]
    fullest = min(paths, key=free_bytes, default=None)
    understood = isinstance(chain[0], UserError) or fullest is None
    if not told and (understood or free_bytes(fullest) > LITTLE):
        return None
    named = next((each.filename for each in told if getattr(each, "filename", None)), fullest)
    return UserError("the disk is full", named, remedy="make room there, and type the same command again to go on")


def refuse_full_disk(path: Path) -> None:
    """Raise OSError when the disk of a path is full: for native code that fails without saying why."""
    if free_bytes(path) <= LITTLE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def free_bytes(path: Path) -> int:
    """Return the free bytes of the disk on which a path is or will be."""
    existing = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
    return shutil.disk_usage(existing).free
