"""Errors that a user can fix, and the detection of a full disk."""

import errno
import os
import re
import shutil
from pathlib import Path
from typing import Any

from scripts.common.plain_text import visible

NUMBERS = (errno.ENOSPC, errno.EDQUOT)
# Libraries in Rust or C++, and child processes, report a full disk only in their message.
WORDS = re.compile("|".join(map(os.strerror, NUMBERS)), re.IGNORECASE)
LITTLE = 64 * 2**10  # free bytes; native code that can't write may report any error, or none


class UserError(Exception):
    """Bad input. The message is one line with place, problem and remedy, shown without a traceback.

    Control characters, which quoted data may contain, are escaped.
    """

    def __init__(self, what: str, path: Path | str | None = None, line: int | None = None, remedy: str | None = None):
        name = visible(str(path))
        place = "" if path is None else f"{name}: " if line is None else f"{name}:{line}: "
        super().__init__(visible(f"{place}{what}" + (f"; {remedy}" if remedy else ""), keep="\n\t"))


def full_disk(error: BaseException, arguments: dict[str, Any]) -> UserError | None:
    """Return a UserError with the path that could not be written if a full disk caused an error; otherwise None.

    The paths among the step's arguments show where it writes; inputs come first, outputs last.
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
    return UserError("the disk is full", named, remedy="free some space, and run the same command again to continue")


def refuse_full_disk(path: Path) -> None:
    """Raise OSError if the disk of a path is full. Call it after a failure of native code that gives no reason."""
    if free_bytes(path) <= LITTLE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def free_bytes(path: Path) -> int:
    """Return the free bytes on the disk of a path, which need not exist."""
    existing = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
    return shutil.disk_usage(existing).free
