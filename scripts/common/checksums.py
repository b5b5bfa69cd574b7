"""Checksums: beside each file that a step made lies its SHA-256, which is checked before another step reads the file.

The checksum file of `train.arrow` is `.train.arrow.sha256`, a line as sha256sum writes it. A file without one is the
user's own and is read as it is. Who changes a file on purpose deletes its checksum file.

Further lines of a checksum file are the inputs that the step had read when it wrote the file, with their SHA-256 and
their paths relative to its folder: so each result leads back to the raw files (`broken_links` in
scripts/deploy/provenance.py), and `sha256sum -c` checks a result together with its inputs.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from scripts.common.errors import UserError

CHECKSUM_FILE = re.compile(r"^\..+\.sha256$")
THREADS = 4  # one hashes nearly 2 GB/s on a processor with SHA instructions: disks are not faster than a few
known: dict[tuple, str] = {}
named: set[str] = set()  # absolute paths that the step's command line names: files, and folders of files
inputs: dict[str, str] = {}  # SHA-256 of each of them that was read, by absolute path


def sha256_of(path: Path | str) -> str:
    """Return a file's SHA-256 as hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_sha256(path: Path | str) -> str:
    """Return a file's SHA-256; of a file that nobody touched since this process asked, the one found then."""
    status = os.stat(path)
    key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if key not in known:
        known[key] = sha256_of(path)
    return known[key]


def known_sha256s(paths: list[Path]) -> list[str]:
    """Return the SHA-256 of each file, several at a time."""
    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(known_sha256, paths))


def checksum_path(path: Path | str) -> Path:
    """Return where the checksum file of a file lies."""
    path = Path(path)
    return path.with_name(f".{path.name}.sha256")


def is_checksum_file(path: Path) -> bool:
    """Say whether a file is a checksum file by its name."""
    return CHECKSUM_FILE.match(path.name) is not None


def paths_in(arguments: Iterable[Any]) -> Iterator[str]:
    """Yield the paths of a command line, those in lists and pairs too."""
    for argument in arguments:
        if isinstance(argument, Path):
            yield os.path.abspath(argument)
        elif isinstance(argument, list | tuple):
            yield from paths_in(argument)


def name_inputs(arguments: Iterable[Any]) -> None:
    """Begin a step with this command line: what is read of the paths in it from now on is an input."""
    inputs.clear()
    named.clear()
    named.update(paths_in(arguments))


def note_input(path: Path | str, sha256: str | None = None) -> None:
    """Note the SHA-256 of a file that is read: one that is given, or that of a file which the command line names.

    Of a folder that the command line names, the files in it are inputs.
    """
    path = os.path.abspath(path)
    if sha256 or ((path in named or os.path.dirname(path) in named) and os.path.isfile(path)):
        inputs[path] = sha256 or known_sha256(path)


def recorded_inputs(path: Path | str) -> dict[Path, str]:
    """Return the SHA-256 of each input that a result was made from, by path, as its checksum file says."""
    folder = os.path.dirname(path)
    lines = checksum_path(path).read_text(encoding="utf-8", errors="replace").splitlines()[1:]
    pairs = (line.partition("  ") for line in lines)
    return {Path(os.path.normpath(os.path.join(folder, name))): sha256 for sha256, _, name in pairs}


def write_checksum(path: Path, sha256: str) -> None:
    """Write the checksum file of a file, and the inputs that it was made from."""
    checksum_file, folder = checksum_path(path), os.path.abspath(path.parent)
    inputs.pop(os.path.abspath(path), None)  # a step that looks at what an earlier try of it left
    lines = [f"{sha256}  {path.name}", *(f"{inputs[name]}  {os.path.relpath(name, folder)}" for name in sorted(inputs))]
    beside = checksum_file.with_name(f"{checksum_file.name}.{os.getpid()}.partial")
    try:
        with open(beside, "w", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, checksum_file)
    finally:
        beside.unlink(missing_ok=True)


def intact(path: Path | str) -> Path:
    """Return the path of an input that is as it was made, or that has no checksum file.

    Raises UserError for one that has changed, and names what to do.
    """
    path = Path(path)
    try:
        expected = checksum_path(path).read_bytes()[:64].decode("ascii", "replace")
    except (FileNotFoundError, NotADirectoryError):
        expected = None
    if expected is not None and path.is_file() and known_sha256(path) != expected:
        raise UserError(
            "has changed since it was made", path, remedy="delete it, and the run that needs it makes it again"
        )
    note_input(path)
    return path
