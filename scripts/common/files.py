"""Files that are whole or absent, their hashes, and manifests of folders."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scripts.common.errors import UserError

MANIFEST = "manifest.json"


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it takes the place of `path` when the block ends well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield beside
        with open(beside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """Yield an empty folder beside `path` to fill; it takes the place of `path` when the block ends well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in path.parent.glob(f".{path.name}.*.partial"):
        shutil.rmtree(stale, ignore_errors=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    beside.mkdir()
    try:
        yield beside
        if path.exists():
            shutil.rmtree(path)
        os.replace(beside, path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system can't do that; of a link, what it leads to."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def write_text(path: Path | str, text: str) -> None:
    """Write a text file as a whole."""
    with atomic_path(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON that a person can read and that is the same for the same value."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file; one that is none is a UserError with its line."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"is not valid JSON: {error.msg}", path, error.lineno) from None


def write_jsonl(path: Path | str, rows: Iterator[dict] | list[dict]) -> int:
    """Write one JSON object a line, as a whole file; return how many."""
    count = 0
    with atomic_path(path) as beside, open(beside, "w", encoding="utf-8") as file:
        for count, row in enumerate(rows, 1):  # noqa: B007
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
    return count


def read_jsonl(path: Path | str) -> Iterator[dict]:
    """Yield the objects of a JSONL file; a bad line is a UserError that names it."""
    with open(path, encoding="utf-8") as file:
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


def sha256_of(path: Path | str) -> str:
    """Return a file's SHA-256 as hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_sha256(value: Any) -> str:
    """Return the SHA-256 of a value as canonical JSON, as hex digits: the same for the same value, in any key order."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def write_manifest(folder: Path | str, **facts: Any) -> Path:
    """Write the folder's manifest: facts, and size and SHA-256 of each file. Written last: there means complete."""
    folder = Path(folder)
    files = {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST and not path.name.endswith(".partial")
    }
    write_json(folder / MANIFEST, {**facts, "files": files})
    return folder / MANIFEST


def check_manifest(manifest: Path | str, hashes: bool = False) -> dict:
    """Return a manifest's content after checking that each file is there at its size (and, if asked, with its hash).

    Raises UserError naming the first file that differs.
    """
    manifest = Path(manifest)
    content = read_json(manifest)
    for name, expected in content["files"].items():
        path = manifest.parent / name
        remedy = f"delete {manifest} to make the folder again"
        if not path.is_file():
            raise UserError("is missing", path, remedy=remedy)
        if path.stat().st_size != expected["bytes"]:
            raise UserError(f"has {path.stat().st_size} bytes, not {expected['bytes']}", path, remedy=remedy)
        if hashes and sha256_of(path) != expected["sha256"]:
            raise UserError("has changed since it was made", path, remedy=remedy)
    return content
