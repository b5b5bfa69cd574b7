"""Atomic writing of files and folders, manifests of folders, and locks on open files."""

import fcntl
import glob
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from scripts.common.checksums import checksum_path, checksum_text, intact, is_checksum_file, known_sha256s, sha256_of
from scripts.common.errors import UserError

MANIFEST = "manifest.json"
PARTIAL = ".partial"


def json_encoder(**options) -> Callable[[Any], str]:
    """Return `json.JSONEncoder(**options).encode` without an indent, which makes its C encoder anew for each call."""
    own = json.JSONEncoder(**options)
    text = json.encoder.encode_basestring_ascii if own.ensure_ascii else json.encoder.encode_basestring
    separators = own.key_separator, own.item_separator
    encode = json.encoder.c_make_encoder(
        None, own.default, text, None, *separators, own.sort_keys, own.skipkeys, own.allow_nan
    )
    return lambda value: "".join(encode(value, 0))


CANONICAL = json_encoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


@contextmanager
def atomic_path(path: Path | str, part: bool = False) -> Iterator[Path]:
    """Yield a temporary path to write to, and rename it to `path` when the block succeeds.

    The file gets a checksum file, and leftovers of killed steps are removed. A file that is `part` of a set gets no
    checksum file, because the set's manifest has its hash. The same applies to files in a folder of `atomic_folder`,
    except for its manifest.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not part:
        remove_leftovers(path)
    beside = path.with_name(f".{path.name.removeprefix('.')}.{os.getpid()}{PARTIAL}")
    has_checksum = not part and (path.name == MANIFEST or not any(parent.suffix == PARTIAL for parent in path.parents))
    try:
        yield beside
        sync(beside)
        sha256 = sha256_of(beside) if has_checksum else None
        # In this order, a kill can leave a complete file without a checksum, but never with a wrong one.
        checksum_path(path).unlink(missing_ok=True)
        os.replace(beside, path)
        if has_checksum:
            write_text(checksum_path(path), checksum_text(path, sha256), part=True)
        sync(path.parent)
    except OSError as error:
        error.filename = error.filename or str(path)  # an error about a full disk has no file name
        raise
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """Yield an empty temporary folder, and rename it to `path` when the block succeeds.

    A kill leaves the old folder, no folder or the new folder, but never an incomplete one.
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
    """Yield an empty folder next to an output for temporary files; it is deleted after the block."""
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
    """Remove the temporary files that killed steps left next to a path.

    A step that outlived its workflow and is still writing then fails, because its temporary file is missing.
    """
    for stale in path.parent.glob(f".{glob.escape(path.name)}.*{PARTIAL}"):
        if re.fullmatch(r"(sha256\.)?\d{1,8}(\.old)?", stale.name[len(path.name) + 2 : -len(PARTIAL)]):
            if stale.is_dir():
                shutil.rmtree(stale, ignore_errors=True)
            else:
                stale.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file or a folder's entries to disk; ignore errors for folders, which some file systems can't flush."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it if the file system can't; symbolic links are followed."""
    intact(source)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def write_text(path: Path | str, text: str, part: bool = False) -> None:
    """Write a text file atomically; `part` is that of `atomic_path`."""
    with atomic_path(path, part) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any, part: bool = False) -> None:
    """Write indented JSON atomically, with the same text for the same value; `part` is that of `atomic_path`."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n", part)


def read_json(path: Path | str) -> Any:
    """Read a JSON file. Raises UserError for invalid JSON, with the line, and for a changed file."""
    try:
        return json.loads(intact(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"is not valid JSON: {error.msg}", path, error.lineno) from None


def write_jsonl(path: Path | str, rows: Iterator[dict] | list[dict], part: bool = False) -> int:
    """Write one JSON object per line, atomically; return the number of lines. `part` is that of `atomic_path`."""
    count = 0
    with atomic_path(path, part) as beside, open(beside, "w", encoding="utf-8") as file:
        for count, row in enumerate(rows, 1):  # noqa: B007
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
    return count


def read_jsonl(path: Path | str) -> Iterator[dict]:
    """Yield the objects of a JSONL file. Raises UserError for a bad line, with its number, and for a changed file."""
    with open(intact(path), encoding="utf-8") as file:
        yield from parse_jsonl(file, path)


def parse_jsonl(lines: Iterable[str], path: Path | str, first: int = 1) -> Iterator[dict]:
    """Yield the objects of lines of a JSONL file, of which the first has the number `first`."""
    for number, line in enumerate(lines, first):
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
    """Return the SHA-256 of a value's canonical JSON as hex digits; the order of keys does not matter."""
    return hashlib.sha256(CANONICAL(value).encode("utf-8")).hexdigest()


def write_manifest(folder: Path | str, **facts: Any) -> Path:
    """Write a folder's manifest: `facts`, and size and SHA-256 of each file. Write it last: it marks completion."""
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
    """Return a manifest's content after checking size and hash of each file.

    Without `hashes`, only the size of `*.safetensors` is checked, for steps that do not read the weights. Raises
    UserError with the first file that differs.
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
    """Lock an open file or descriptor, retrying for `patience` seconds.

    Raises BlockingIOError if another process holds the lock, and another OSError if the file system has no locks.
    """
    end = time.monotonic() + patience
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
        time.sleep(0.1)
