"""A disk that fills up in the course of a workflow: one clear line, nothing half done, going on once there is room."""

import os
import re
import shutil
import subprocess
from collections import Counter

import pytest

from scripts.common.files import sha256_of
from scripts.common.full_disk import free_bytes
from tests.support.needs import MUST_RUN

FIRST_ROOM, GROWTH, MOST = 200_000, 4, 60_000_000  # bytes that a try has for what it writes
# Training names the checkpoint that has no room.
WHAT = r"the disk is full; make room there|the checkpoint of step \d+ can't be written: .*; see that there is room"
LINE = re.compile(rf"^(?:(\w+)\.py: )?\S+: (?:{WHAT})", re.MULTILINE)
EXACT = (
    "datasets/cards/train.jsonl", "models/small/model.safetensors", "runs/cards/tokens/train.arrow",
    "runs/cards/adapter/adapter_model.safetensors", "runs/cards/merged/model.safetensors", "runs/cards/gguf/bf16.gguf",
)  # fmt: skip


class SmallDisk:
    """A tmpfs of a size that can be changed."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        self.mount("-t", "tmpfs", "-o", f"size={MOST}", "none", str(folder))

    @staticmethod
    def mount(*words: str) -> None:
        """Run mount; without the right to do so the test is skipped, and fails in CI."""
        done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
        if done.returncode:
            reason = f"only root can mount a small disk here: {done.stderr.strip()}"
            (pytest.fail if os.environ.get(MUST_RUN) else pytest.skip)(reason)

    def leave(self, room: int) -> None:
        """Make the disk so large that so many bytes are free."""
        size = shutil.disk_usage(self.folder).used + room
        self.mount("-o", f"remount,size={size}", str(self.folder))


@pytest.fixture
def disk(tmp_path):
    """A small disk, empty at first."""
    disk = SmallDisk(tmp_path / "disk")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk.folder)], check=True)


def test_a_full_disk_is_one_clear_line_and_once_there_is_room_all_goes_on(finished, disk):
    project = finished.copy(disk.folder / "project")
    for part in ("datasets", "models", "runs"):
        shutil.rmtree(project.folder / "results" / part)
    expected = {name: sha256_of(finished.folder / "results" / name) for name in EXACT}
    room, last, failed = FIRST_ROOM, None, Counter()
    while True:
        disk.leave(room)
        done = project.snakemake("--quiet", "host", "reason", "rules", environment={"PYTHONDONTWRITEBYTECODE": "1"})
        paths = {name: project.folder / "results" / name for name in EXACT}
        half = [name for name, path in paths.items() if path.exists() and sha256_of(path) != expected[name]]
        assert half == []
        assert "Traceback" not in done.stdout, done.stdout
        if done.returncode == 0:
            break
        steps = {match[1] for match in LINE.finditer(done.stdout)}
        assert steps, done.stdout
        failed.update(steps)
        room = room * GROWTH if steps == last else FIRST_ROOM
        last = steps
        assert room < MOST, f"{steps} never has enough"
    print(dict(failed))
    assert {"build_embedded_model", "train_model", "merge_adapter", "convert_to_gguf"} <= failed.keys()
    assert {name: sha256_of(path) for name, path in paths.items()} == expected
    assert list((project.folder / "results").rglob("*.partial")) == []
    assert free_bytes(project.folder) < room
