"""Errors that a user can mend."""

from pathlib import Path

from scripts.common.plain_text import visible


class UserError(Exception):
    """Bad input: one clear line that says where, what and how to mend it; shown without a traceback.

    What a terminal would obey, such as an escape sequence in the data that it quotes, is spelled out.
    """

    def __init__(self, what: str, path: Path | str | None = None, line: int | None = None, remedy: str | None = None):
        name = visible(str(path))
        place = "" if path is None else f"{name}: " if line is None else f"{name}:{line}: "
        super().__init__(visible(f"{place}{what}" + (f"; {remedy}" if remedy else ""), keep="\n\t"))
