"""A disk that fills up in the course of a workflow: one clear line, nothing half done, going on once there is room."""

import os
import re
import shutil
import subprocess

import pytest

from scripts.common.files import sha256_of
from tests.support.needs import MUST_RUN
from tests.support.releases import current_run, make_bundle, release

LITTLE, ENOUGH = 100_000, 60_000_000  # bytes that a try has for what it writes
# One after another. Where a step is named, it gets little room first and has to fail.
TARGETS = {
    "results/models/small/manifest.json": "build_embedded_model",
    "results/runs/cards/tokens/train.arrow": None,
    "results/runs/cards/training.json": "train_adapter",
    "results/runs/cards/merged/manifest.json": "merge_adapter",
    "results/runs/cards/gguf/bf16.gguf": "convert_to_gguf",
}
# Training names the checkpoint that has no room.
WHAT = r"the disk is full; free some space|the checkpoint of step \d+ can't be written: .*; free disk space"
LINE = re.compile(rf"^(?:(\w+) .*\(\S+\):\n)?\S+: (?:{WHAT})", re.MULTILINE)
EXACT = (
    "models/small/model.safetensors", "runs/cards/tokens/train.arrow",
    "runs/cards/adapter/adapter_model.safetensors", "runs/cards/merged/model.safetensors", "runs/cards/gguf/bf16.gguf",
)  # fmt: skip


class SmallDisk:
    """A tmpfs of a size that can be changed."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        self.mount("-t", "tmpfs", "-o", f"size={ENOUGH}", "none", str(folder))

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
    for part in ("models", "runs"):
        shutil.rmtree(project.folder / "results" / part)
    expected = {name: sha256_of(finished.folder / "results" / name) for name in EXACT}
    for target, step in TARGETS.items():
        if step:
            disk.leave(LITTLE)
            done = run(project, target, expected)
            assert done.returncode == 1, f"{target} fits into {LITTLE} bytes"
            assert step in {match[1] for match in LINE.finditer(done.stdout)}, done.stdout
        disk.leave(ENOUGH)
        done = run(project, target, expected)
        assert done.returncode == 0, done.stdout
    assert [name for name in EXACT if not (project.folder / "results" / name).exists()] == []
    assert list((project.folder / "results").rglob("*.partial")) == []


def run(project, target: str, expected: dict) -> subprocess.CompletedProcess:
    """Run the workflow to a target; whatever is there afterwards is whole."""
    arguments = (target, "--quiet", "host", "reason", "rules")
    done = project.snakemake(*arguments, environment={"PYTHONDONTWRITEBYTECODE": "1"})
    paths = {name: project.folder / "results" / name for name in EXACT}
    assert [name for name, path in paths.items() if path.exists() and sha256_of(path) != expected[name]] == []
    assert "Traceback" not in done.stdout, done.stdout
    return done


def test_a_delivery_without_room_leaves_the_release_that_is_current(disk, tmp_path, capsys):
    target, bundles = disk.folder / "target", [make_bundle(tmp_path, name, size=1_000_000) for name in "ab"]
    assert release("deliver", bundles[0], target) == 0
    disk.leave(5 * LITTLE)
    assert release("deliver", bundles[1], target) == 1
    assert "the disk is full; free some space, and run the same command again to continue" in capsys.readouterr().err
    assert current_run(target) == "a"
    assert len(list((target / "releases").iterdir())) == 1
    disk.leave(ENOUGH)
    assert release("deliver", bundles[1], target) == 0
    assert current_run(target) == "b"
