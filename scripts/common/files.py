"""Files and folders that are whole or absent, manifests of folders, and locks on open files."""

import fcntl
import glob
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from scripts.common.checksums import checksum_path, intact, is_checksum_file, known_sha256s, sha256_of, write_checksum
from scripts.common.errors import UserError

MANIFEST = "manifest.json"
PARTIAL = ".partial"


@contextmanager
def atomic_path(path: Path | str, part: bool = False) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it takes the place of `path` when the block ends well.

    The file gets a checksum file, and what killed steps left of it is removed. A file that is `part` of a set has
    neither: the set's manifest has its hash. So have files in a folder that `atomic_folder` yields, its manifest
    excepted.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not part:
        remove_leftovers(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    has_checksum = not part and (path.name == MANIFEST or not any(parent.suffix == PARTIAL for parent in path.parents))
    try:
        yield beside
        sync(beside)
        sha256 = sha256_of(beside) if has_checksum else None
        # A kill between these leaves a whole file without a checksum, never one with the checksum of another.
        checksum_path(path).unlink(missing_ok=True)
        os.replace(beside, path)
        if has_checksum:
            write_checksum(path, sha256)
        sync(path.parent)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk names no file
        raise
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """Yield an empty folder beside `path` to fill; it takes the place of `path` when the block ends well.

    A kill at any moment leaves the old folder, none, or the new one, and never parts of one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    aside = path.with_name(f".{path.name}.{os.getpid()}.old{PARTIAL}")
    beside.mkdir()
    try:
        yield beside
        for folder, _, names in os.walk(beside, topdown=False):
            for place in (*(Path(folder, name) for name in names), Path(folder)):
                sync(place)
        if path.exists():
            os.replace(path, aside)
        os.replace(beside, path)
        sync(path.parent)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def scratch_folder(output: Path | str) -> Iterator[Path]:
    """Yield an empty folder beside an output, for what a step needs on its way to it; it is gone afterwards."""
    path = Path(output).with_name(f"{Path(output).name}.scratch")
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    folder = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(path: Path) -> None:
    """Remove what killed steps left beside a path that they were writing.

    One that outlived its workflow and is still at it finds nothing to put in place, and fails.
    """
    for stale in path.parent.glob(f".{glob.escape(path.name)}.*{PARTIAL}"):
        if re.fullmatch(r"(sha256\.)?\d{1,8}(\.old)?", stale.name[len(path.name) + 2 : -len(PARTIAL)]):
            if stale.is_dir():
                shutil.rmtree(stale, ignore_errors=True)
            else:
                stale.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk before going on; a file system may not know it of folders."""
    if path.is_dir():
        with suppress(OSError):
            sync_descriptor(path)
    else:
        sync_descriptor(path)


def sync_descriptor(path: Path) -> None:
    """Open a path and have its content on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system can't do that; of a link, what it leads to."""
    intact(source)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def write_text(path: Path | str, text: str, part: bool = False) -> None:
    """Write a text file as a whole; see `atomic_path` for a file that is `part` of a set."""
    with atomic_path(path, part) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any, part: bool = False) -> None:
    """Write JSON that a person can read and that is the same for the same value; `part` as for `write_text`."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n", part)


def read_json(path: Path | str) -> Any:
    """Read a JSON file; one that is none is a UserError with its line, and so is one that has changed."""
    try:
        return json.loads(intact(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"is not valid JSON: {error.msg}", path, error.lineno) from None


def write_jsonl(path: Path | str, rows: Iterator[dict] | list[dict], part: bool = False) -> int:
    """Write one JSON object a line, as a whole file; return how many. See `atomic_path` for a file that is `part`."""
    count = 0
    with atomic_path(path, part) as beside, open(beside, "w", encoding="utf-8") as file:
        for count, row in enumerate(rows, 1):  # noqa: B007
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
    return count


def read_jsonl(path: Path | str) -> Iterator[dict]:
    """Yield the objects of a JSONL file; a bad line is a UserError that names it, and so is a file that has changed."""
    with open(intact(path), encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"is not valid JSON: {error.msg}", path, number) from None
            if not isinstance(row, dict):
                raise UserError("is not a JSON object", path, number)
            yield row


def canonical_sha256(value: Any) -> str:
    """Return the SHA-256 of a value as canonical JSON, as hex digits: the same for the same value, in any key order."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def write_manifest(folder: Path | str, **facts: Any) -> Path:
    """Write the folder's manifest: facts, and size and SHA-256 of each file. Written last: there means complete."""
    folder = Path(folder)
    paths = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST and path.suffix != PARTIAL and not is_checksum_file(path)
    ]
    files = {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": sha256}
        for path, sha256 in zip(paths, known_sha256s(paths), strict=True)
    }
    write_json(folder / MANIFEST, {**facts, "files": files})
    return folder / MANIFEST


def check_manifest(manifest: Path | str, hashes: bool = True) -> dict:
    """Return a manifest's content after checking that each file is there as it was made.

    A step that reads no weights needs no hashes of `*.safetensors`: without `hashes` their sizes do. Raises UserError
    naming the first file that differs.
    """
    manifest = Path(manifest)
    content = read_json(manifest)
    remedy, hashed = f"delete {manifest} to make the folder again", []
    for name, expected in content["files"].items():
        path = manifest.parent / name
        if not path.is_file():
            raise UserError("is missing", path, remedy=remedy)
        if path.stat().st_size != expected["bytes"]:
            raise UserError(f"has {path.stat().st_size} bytes, not {expected['bytes']}", path, remedy=remedy)
        if hashes or path.suffix != ".safetensors":
            hashed.append((path, expected["sha256"]))
    for (path, expected), found in zip(hashed, known_sha256s([path for path, _ in hashed]), strict=True):
        if found != expected:
            raise UserError("has changed since it was made", path, remedy=remedy)
    return content


def take_lock(file: TextIO | int, patience: float) -> None:
    """Take the lock of an open file (or descriptor), trying for so many seconds.

    Raises BlockingIOError when another process holds it; another OSError where the file system has no locks.
    """
    end = time.monotonic() + patience
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
        time.sleep(0.1)
