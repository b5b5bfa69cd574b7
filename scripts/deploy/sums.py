"""SHA256SUMS of a bundle: the names that it may hold, and their hashes."""

import re
from pathlib import Path

from scripts.common.errors import UserError
from scripts.common.plain_text import visible

SUMS = "SHA256SUMS"
RELEASE = "release.json"  # which release.py adds to a copy of the bundle
SUM_LINE = re.compile(r"([0-9a-f]{64})  ([^\\\x00-\x1f\x7f]+)")
SHOWN = 100  # characters of a value or a name


def inside(folder: Path, name: str) -> Path:
    """Return a path in a folder; raises UserError for a name outside of it."""
    path = Path(name)
    if path.is_absolute() or ".." in path.parts:
        raise UserError(f"'{visible(name[:SHOWN])}' is outside of the bundle and of its results")
    return folder / path


def read_sums(path: Path) -> dict[str, str]:
    """Return the hashes of a SHA256SUMS file by name; raises UserError for an invalid line or a repeated name."""
    if not path.is_file():
        raise UserError("is missing", path, remedy="name the folder of a complete bundle")
    sums: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        found = SUM_LINE.fullmatch(line)
        if not found or found[2] in sums or str(Path(found[2])) != found[2]:
            raise UserError("is not '<SHA-256>  <name>' with a unique name", path, number)
        inside(path.parent, found[2])
        sums[found[2]] = found[1]
    return sums
