"""Errors that a user can mend."""

from pathlib import Path


class UserError(Exception):
    """Bad input: one clear line that says where, what and how to mend it; shown without a traceback."""

    def __init__(self, what: str, path: Path | str | None = None, line: int | None = None, remedy: str | None = None):
        place = "" if path is None else f"{path}: " if line is None else f"{path}:{line}: "
        super().__init__(f"{place}{what}" + (f"; {remedy}" if remedy else ""))
