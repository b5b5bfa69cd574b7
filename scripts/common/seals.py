"""Seals: beside each file that a step made lies its SHA-256, which is looked at before another step reads the file.

The seal of `train.arrow` is `.train.arrow.sha256`, a line as sha256sum writes it. A file without a seal is the user's
own and is read as it is. Who changes a file on purpose deletes its seal.
"""

import hashlib
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from scripts.common.errors import UserError

SEAL = re.compile(r"^\..+\.sha256$")
THREADS = 4  # one hashes nearly 2 GB/s on a processor with SHA instructions: disks are not faster than a few
known: dict[tuple, str] = {}


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


def seal_of(path: Path | str) -> Path:
    """Return where the seal of a file lies."""
    path = Path(path)
    return path.with_name(f".{path.name}.sha256")


def is_seal(path: Path) -> bool:
    """Say whether a file is a seal by its name."""
    return SEAL.match(path.name) is not None


def write_seal(path: Path, sha256: str) -> None:
    """Write the seal of a file."""
    seal = seal_of(path)
    beside = seal.with_name(f"{seal.name}.{os.getpid()}.partial")
    try:
        with open(beside, "w", encoding="utf-8") as file:
            file.write(f"{sha256}  {path.name}\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, seal)
    finally:
        beside.unlink(missing_ok=True)


def intact(path: Path | str) -> Path:
    """Return the path of an input that is as it was made, or that has no seal.

    Raises UserError for one that has changed, and names what to do.
    """
    path = Path(path)
    try:
        expected = seal_of(path).read_bytes()[:64].decode("ascii", "replace")
    except (FileNotFoundError, NotADirectoryError):
        return path
    if path.is_file() and known_sha256(path) != expected:
        raise UserError(
            "has changed since it was made", path, remedy="delete it, and the run that needs it makes it again"
        )
    return path
