"""Files and folders are whole or absent, at whatever moment their writer is killed."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent, indent

import pytest

from scripts.common.checksums import intact
from scripts.common.files import atomic_folder, atomic_path, check_manifest, scratch_folder

# Each writer writes again and again; content and manifest say by themselves whether they are whole.
WRITERS = {
    "file": """
        with atomic_path(target / "data.jsonl") as beside, open(beside, "w") as file:
            for line in range(count):
                file.write(f"{count}\\n")
    """,
    "folder": """
        with atomic_folder(target / "model") as folder:
            for name in range(3):
                (folder / f"{name}.safetensors").write_bytes(bytes([count % 256]) * count)
            write_manifest(folder, count=count)
    """,
}
PROGRAM = """
import itertools, os, sys
from pathlib import Path
from scripts.common.files import atomic_folder, atomic_path, write_manifest
target = Path(sys.argv[1])
for line in sys.stdin:  # a writer for each line, which dies by the signal that the test sends to it
    child = os.fork()
    if not child:
        for count in itertools.cycle(range(100, 2000, 7)):
{writer}
    print(child, flush=True)
    os.waitpid(child, 0)
    print("gone", flush=True)
"""
KILLS = 200


def check_file(target: Path) -> bool:
    """Assert that the file is whole; say whether it is there."""
    path = target / "data.jsonl"
    if not path.exists():
        return False
    lines = intact(path).read_text().splitlines()
    assert lines
    assert lines == [str(len(lines))] * len(lines)
    return True


def check_folder(target: Path) -> bool:
    """Assert that the folder is whole; say whether it is there."""
    if not (target / "model").exists():
        return False
    facts = check_manifest(target / "model" / "manifest.json")
    assert {file["bytes"] for file in facts["files"].values()} == {facts["count"]}
    assert len(facts["files"]) == 3
    return True


@pytest.mark.parametrize(("kind", "check"), [("file", check_file), ("folder", check_folder)])
def test_a_kill_at_any_moment_leaves_nothing_half_done(tmp_path, kind, check):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    moments = random.Random(seed)
    program = PROGRAM.replace("{writer}", indent(dedent(WRITERS[kind]), " " * 12))
    there = 0
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        for number in range(KILLS):
            parent.stdin.write("\n")
            parent.stdin.flush()
            writer, started = int(parent.stdout.readline()), time.monotonic()
            if number == 0:  # how long a writer takes here, until the first of what it writes is whole
                while not list(tmp_path.glob("[!.]*")):
                    time.sleep(0.0005)
                longest = 2 * (time.monotonic() - started)
            else:
                time.sleep(moments.uniform(0, longest))
            os.kill(writer, signal.SIGKILL)
            assert parent.stdout.readline() == "gone\n"
            there += check(tmp_path)
        parent.stdin.close()
    assert there > KILLS / 4


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*.partial"))


def test_what_killed_steps_left_is_removed_by_the_next(tmp_path):
    (tmp_path / ".a.json.123.partial").write_text("half")
    (tmp_path / ".a.json.sha256.123.partial").write_text("half")
    (tmp_path / ".model.123.partial").mkdir()
    (tmp_path / ".model.123.partial" / "weights").write_text("half")
    (tmp_path / ".model.123.old.partial").mkdir()
    (tmp_path / ".a.gguf.scratch.123.partial").mkdir()
    (tmp_path / ".a.jsonl.0123456789abcdef.partial").write_text("answers so far, which their step goes on from")
    with atomic_path(tmp_path / "a.json") as beside:
        beside.write_text("{}")
    with atomic_folder(tmp_path / "model"):
        pass
    with scratch_folder(tmp_path / "a.gguf") as folder, atomic_path(tmp_path / "a.gguf") as beside:
        beside.write_text("GGUF")
        assert folder.is_dir()
    with atomic_path(tmp_path / "a.jsonl") as beside:
        beside.write_text("")
    assert leftovers(tmp_path) == [".a.jsonl.0123456789abcdef.partial"]


def test_a_step_that_was_taken_for_dead_puts_nothing_in_place(tmp_path):
    """It outlived its workflow, and the next run makes its output anew."""
    writer = atomic_path(tmp_path / "a.json")
    beside = writer.__enter__()
    beside.write_text("old")
    beside.rename(tmp_path / ".a.json.99999.partial")
    with atomic_path(tmp_path / "a.json") as other:
        other.write_text("new")
    with pytest.raises(FileNotFoundError):
        writer.__exit__(None, None, None)
    assert (tmp_path / "a.json").read_text() == "new"
    assert leftovers(tmp_path) == []
