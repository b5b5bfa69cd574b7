"""Run a command, and keep a copy of its results in a folder that outlives this machine, such as a mounted drive.

python -m scripts.workflow.keep /content/drive/MyDrive/snaketune -- snakemake --cores all

On a machine that has no results yet, they are restored first, so that the command continues where it was interrupted.
While it runs, and once more after it has ended, new and changed files are copied. Models, merged models, GGUF files and
the hidden states for a head are left out: they are large, and the workflow makes them again. The bundle is kept.

The folder needs neither links nor locks nor times of files: a table in it (`kept.json`) has the size, the time and the
SHA-256 of every copy. A copy that does not match, because it was cut off, is not restored.
"""

import argparse
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from scripts.common.files import PARTIAL

# In the working directory. Snakemake's metadata is how it notices that settings were changed.
FOLDERS = ("results", ".snakemake/metadata")
LEFT_OUT = re.compile(rf"models|merged|gguf|tools|hidden_states-.*|.*{re.escape(PARTIAL)}")
TABLE = "kept.json"
OWN_TABLE = Path(".snakemake") / TABLE  # what this machine has restored or copied
BLOCK = 2**20

Table = dict[str, tuple[int, int, str]]  # size in bytes, time in nanoseconds, SHA-256


def copy(source: Path, target: Path) -> str:
    """Copy a file under a temporary name and rename it; return its SHA-256."""
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name.removeprefix('.')}{PARTIAL}")
    digest = hashlib.sha256()
    with open(source, "rb") as read, open(beside, "wb") as written:
        while block := read.read(BLOCK):
            digest.update(block)
            written.write(block)
    os.replace(beside, target)
    return digest.hexdigest()


def read_table(path: Path) -> Table | None:
    """Return a table, or None if there is none or it was cut off."""
    with suppress(FileNotFoundError, json.JSONDecodeError):
        return {name: tuple(facts) for name, facts in json.loads(path.read_text(encoding="utf-8")).items()}
    return None


def write_table(path: Path, table: Table) -> None:
    """Write a table under a temporary name and rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}{PARTIAL}")
    beside.write_text(json.dumps(table), encoding="utf-8")
    os.replace(beside, path)


def kept_files() -> Iterator[Path]:
    """Yield the files that are kept; without those that are being written."""
    for top in FOLDERS:
        for folder, below, names in os.walk(top):
            below[:] = [name for name in below if not LEFT_OUT.fullmatch(name)]
            yield from (Path(folder, name) for name in names if not LEFT_OUT.fullmatch(name))


def restore(storage: Path) -> Table:
    """Copy what is kept to this machine, except for files that are here already; return the table of what is kept."""
    if (own := read_table(OWN_TABLE)) is not None:
        return own
    table, damaged = read_table(storage / TABLE) or {}, 0
    missing = [name for name in table if not Path(name).exists()]
    for name in missing:
        _, time, sha256 = table[name]
        with suppress(FileNotFoundError):
            if copy(storage / name, Path(name)) == sha256:
                os.utime(name, ns=(time, time))
                continue
            Path(name).unlink()
        damaged += 1
        del table[name]
    if missing:
        left_out = f"; {damaged} were incomplete, and will be made again" if damaged else ""
        print(f"{len(missing) - damaged} files were restored from {storage}{left_out}", flush=True)
    write_table(OWN_TABLE, table)
    return table


def keep(storage: Path, table: Table) -> None:
    """Copy new and changed files to the storage, and remove there what is gone here. The table is updated.

    Raises OSError if the storage is full or not there.
    """
    here = {}
    for path in kept_files():
        with suppress(FileNotFoundError):  # replaced at this moment
            status = path.stat()
            here[str(path)] = (status.st_size, status.st_mtime_ns)
    changed = [name for name, facts in here.items() if table.get(name, ())[:2] != facts]
    gone = table.keys() - here.keys()
    for name in changed:
        with suppress(FileNotFoundError):
            table[name] = (*here[name], copy(Path(name), storage / name))
    for name in gone:
        del table[name]
    if changed or gone:
        write_table(storage / TABLE, table)
        write_table(OWN_TABLE, table)
    for name in gone:
        (storage / name).unlink(missing_ok=True)
        with suppress(OSError):  # only empty folders are removed
            os.removedirs((storage / name).parent)


def try_to_keep(storage: Path, table: Table) -> bool:
    """Copy what changed; if that fails, print why and return False."""
    try:
        keep(storage, table)
    except OSError as error:
        print(f"results could not be copied to {storage}: {error}", flush=True)
        return False
    return True


def run(command: list[str], storage: Path, seconds: float) -> int:
    """Restore, run a command, and keep its results; return its exit status, or 1 if the last copy failed."""
    table = restore(storage)
    with subprocess.Popen(command) as process:
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        while process.poll() is None:
            with suppress(KeyboardInterrupt):  # the command receives it too, and ends by itself
                try:
                    process.wait(seconds)
                except subprocess.TimeoutExpired:
                    try_to_keep(storage, table)
    kept = try_to_keep(storage, table)
    return process.returncode or int(not kept)


def main(argv=None) -> int:
    """Run the command that follows `--`; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("storage", type=Path, help="the folder that outlives this machine")
    parser.add_argument("command", nargs="+", help="a command, after --")
    parser.add_argument("--every", type=float, default=30, metavar="SECONDS", help="time between copies (30)")
    arguments = parser.parse_args(argv)
    try:
        arguments.storage.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"results can't be kept in {arguments.storage}: {error.strerror}")
    return run(arguments.command, arguments.storage, arguments.every)


if __name__ == "__main__":
    sys.exit(main())
