"""A disk that fills up in the course of a workflow: one clear line, nothing half done, going on once there is room."""

import re
import shutil
import subprocess

from scripts.common.files import sha256_of
from tests.support.releases import current_run, make_bundle, release
from tests.support.small_disk import ENOUGH, LITTLE

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
