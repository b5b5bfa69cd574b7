"""Checksum files: a step writes the SHA-256 of each output, and later steps check it before they read the file.

The checksum file of `train.arrow` is `.train.arrow.sha256`; its first line has the format of sha256sum. A file without
a checksum file belongs to the user and is not checked. To change a result on purpose, delete its checksum file.

The other lines are the inputs that the step had read, with their SHA-256 and their paths relative to the folder. They
link each result to the raw files (`broken_links` in scripts/deploy/provenance.py), and `sha256sum -c` checks a result
together with its inputs.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from scripts.common.errors import UserError

THREADS = 4  # each hashes nearly 2 GB/s on a CPU with SHA instructions; a few threads keep up with any disk
known: dict[tuple, str] = {}
named: set[str] = set()  # absolute paths on the step's command line: files, and folders of files
inputs: dict[str, str] = {}  # SHA-256 of each input that was read, by absolute path


def sha256_of(path: Path | str) -> str:
    """Return a file's SHA-256 as hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_sha256(path: Path | str) -> str:
    """Return a file's SHA-256; reuse an earlier result of this process if the file did not change."""
    status = os.stat(path)
    key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if key not in known:
        known[key] = sha256_of(path)
    return known[key]


def known_sha256s(paths: list[Path]) -> list[str]:
    """Return the SHA-256 of each file, computed in parallel."""
    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(known_sha256, paths))


def checksum_path(path: Path | str) -> Path:
    """Return the path of a file's checksum file."""
    path = Path(path)
    return path.with_name(f".{path.name}.sha256")


def is_checksum_file(path: Path) -> bool:
    """Return whether a file's name is that of a checksum file."""
    return path.name.startswith(".") and path.suffix == ".sha256"


def paths_in(arguments: Iterable[Any]) -> Iterator[str]:
    """Yield the paths among the arguments, including those in lists and tuples."""
    for argument in arguments:
        if isinstance(argument, Path):
            yield os.path.abspath(argument)
        elif isinstance(argument, list | tuple):
            yield from paths_in(argument)


def name_inputs(arguments: Iterable[Any]) -> None:
    """Start a step with these arguments: their paths count as inputs when the step reads them."""
    inputs.clear()
    named.clear()
    named.update(paths_in(arguments))


def note_input(path: Path | str, sha256: str | None = None) -> None:
    """Record a file as an input if the command line names it or its folder, or if its `sha256` is given."""
    path = os.path.abspath(path)
    if sha256 or ((path in named or os.path.dirname(path) in named) and os.path.isfile(path)):
        inputs[path] = sha256 or known_sha256(path)


def recorded_inputs(path: Path | str) -> dict[Path, str]:
    """Return the inputs in a result's checksum file: path to SHA-256."""
    folder = os.path.dirname(path)
    lines = checksum_path(path).read_text(encoding="utf-8", errors="replace").splitlines()[1:]
    pairs = (line.partition("  ") for line in lines)
    return {Path(os.path.normpath(os.path.join(folder, name))): sha256 for sha256, _, name in pairs}


def checksum_text(path: Path, sha256: str) -> str:
    """Return the content of a file's checksum file, with the inputs of the step."""
    folder = os.path.abspath(path.parent)
    inputs.pop(os.path.abspath(path), None)  # a step may read its own earlier output
    lines = [f"{sha256}  {path.name}", *(f"{inputs[name]}  {os.path.relpath(name, folder)}" for name in sorted(inputs))]
    return "".join(f"{line}\n" for line in lines)


def intact(path: Path | str) -> Path:
    """Record a file as an input and return its path.

    Raises UserError if the file differs from its checksum file. A file without a checksum file is not checked.
    """
    path = Path(path)
    try:
        expected = checksum_path(path).read_bytes()[:64].decode("ascii", "replace")
    except (FileNotFoundError, NotADirectoryError):
        expected = None
    if expected is not None and path.is_file() and known_sha256(path) != expected:
        remedy = "delete it, and the run that needs it makes it again"
        raise UserError("has changed since it was made", path, remedy=remedy)
    note_input(path)
    return path
