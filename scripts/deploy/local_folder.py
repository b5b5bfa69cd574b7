"""A folder of releases on this machine: the file operations that `Releases` needs of it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.common.errors import UserError
from scripts.common.files import (
    PARTIAL,
    atomic_folder,
    read_json,
    read_jsonl,
    sha256_of,
    sync,
    take_lock,
    write_json,
    write_jsonl,
)
from scripts.deploy.sums import RELEASE, SUMS


class LocalFolder:
    """Operations on paths below a folder of this machine, which need not exist yet."""

    def __init__(self, folder: Path):
        self.folder = folder

    def entries(self, name: str = "") -> list[str]:
        """Return the names in a folder; none if it does not exist."""
        return [path.name for path in (self.folder / name).glob("*")]

    def linked(self, name: str) -> str | None:
        """Return the last name of what a link points to; None without the link. Raises UserError for anything else."""
        link = self.folder / name
        if link.exists() and not link.is_symlink():
            raise UserError("is not a link to a release", link, remedy="move it away, or name another folder")
        return Path(os.readlink(link)).name if link.is_symlink() else None

    def read_json(self, name: str) -> dict:
        """Return the contents of a JSON file."""
        return read_json(self.folder / name)

    def read_lines(self, name: str) -> list[dict]:
        """Return the objects of a JSONL file; none if it does not exist."""
        return list(read_jsonl(self.folder / name)) if (self.folder / name).is_file() else []

    def write_json(self, name: str, value: dict) -> None:
        """Write a JSON file atomically."""
        write_json(self.folder / name, value, part=True)

    def write_lines(self, name: str, rows: list[dict]) -> None:
        """Write a JSONL file atomically."""
        write_jsonl(self.folder / name, rows, part=True)

    def rename(self, old: str, new: str) -> None:
        """Rename a file or folder; a file takes the place of another."""
        os.replace(self.folder / old, self.folder / new)

    def remove(self, *names: str) -> None:
        """Delete files and folders."""
        for path in (self.folder / name for name in names):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def point(self, name: str, to: str) -> None:
        """Let a link point to a path, in one step."""
        beside = self.folder / f".{name}.{os.getpid()}{PARTIAL}"
        beside.symlink_to(to)
        os.replace(beside, self.folder / name)
        sync(self.folder)

    @contextmanager
    def held(self, name: str, patience: float) -> Iterator[None]:
        """Hold a lock during the block, as soon as no other process has it; wait so many seconds."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / name, "a", encoding="utf-8") as file:
            try:
                take_lock(file, patience)
            except BlockingIOError:
                raise still_held(file.name) from None
            yield

    def copy(self, bundle: Path, release: str, files: dict[str, str], facts: dict) -> None:
        """Copy files, given with their hashes, as a release, and write its release.json."""
        with atomic_folder(self.folder / release) as folder:
            for name, sha256 in files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(bundle / name, folder / name)
                if sha256_of(folder / name) != sha256:
                    raise differs(bundle / name)
            write_json(folder / RELEASE, facts)


def still_held(lock: Path | str) -> UserError:
    """Return the error for a lock that another delivery keeps."""
    return UserError("another delivery still holds the lock", lock, remedy="try later")


def differs(path: Path) -> UserError:
    """Return the error for a file whose copy is not what the bundle's checksums say."""
    remedy = "run the same command again; if it fails again, build the bundle again, or check the disk"
    return UserError(f"its copy differs from {SUMS}", path, remedy=remedy)
