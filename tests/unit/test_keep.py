"""Results that outlive a machine: what is copied while a command runs, and what a new machine gets back."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.project import ROOT

CHECKPOINT = "results/football/runs/football/checkpoints/1/checkpoint-2/manifest.json"
METADATA = ".snakemake/metadata/abc"


def kept(machine: Path, storage: Path, script: str, status: int = 0) -> str:
    """Run a Python script in the folder of a machine, and keep its results; return what was printed."""
    command = ["-m", "scripts.workflow.keep", str(storage), "--every", "0.1", "--", sys.executable, "-c", script]
    machine.mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *command], cwd=machine, env=environment, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    return done.stdout


def writing(*names: str, then: str = "") -> str:
    """Return a script that writes its files' names into them."""
    write = "p = Path(n); p.parent.mkdir(parents=True, exist_ok=True); p.write_text(n)"
    return f"import os, time\nfrom pathlib import Path\nfor n in {names}: {write}\n{then}"


@pytest.fixture
def storage(tmp_path) -> Path:
    """A storage with what a machine kept that has since been lost."""
    left_out = ("results/football/models/m/model.safetensors", "results/football/runs/football/gguf/bf16.gguf")
    partial = "results/football/.curve.7.partial"
    kept(tmp_path / "lost", tmp_path / "storage", writing(CHECKPOINT, METADATA, partial, *left_out))
    return tmp_path / "storage"


def test_a_new_machine_gets_results_and_metadata_with_their_times_but_not_what_is_large(storage, tmp_path):
    said = kept(tmp_path / "new", storage, "")
    assert "2 files were restored" in said
    found = {str(path.relative_to(tmp_path / "new")) for path in (tmp_path / "new").rglob("*") if path.is_file()}
    assert found == {CHECKPOINT, METADATA, ".snakemake/kept.json"}
    times = [os.stat(tmp_path / machine / CHECKPOINT).st_mtime_ns for machine in ("lost", "new")]
    assert times[0] == times[1]
    assert "restored" not in kept(tmp_path / "new", storage, ""), "this machine has its results"


def test_copies_are_made_while_the_command_runs_and_its_exit_status_is_returned(tmp_path):
    seen = (
        f"while not os.path.exists({str(tmp_path / 'storage' / CHECKPOINT)!r}): time.sleep(0.05)\nraise SystemExit(3)"
    )
    kept(tmp_path / "machine", tmp_path / "storage", writing(CHECKPOINT, then=seen), status=3)


def test_a_copy_that_was_cut_off_is_not_restored(storage, tmp_path):
    (storage / CHECKPOINT).write_text("cut", encoding="utf-8")
    assert "1 files were restored" in kept(tmp_path / "new", storage, "")
    assert not (tmp_path / "new" / CHECKPOINT).exists()


def test_what_is_deleted_here_is_deleted_there_but_a_machine_without_results_deletes_nothing(storage, tmp_path):
    kept(tmp_path / "new", storage, writing("results/other"))
    assert (storage / CHECKPOINT).exists()
    kept(tmp_path / "new", storage, f"import os; os.remove({CHECKPOINT!r})")
    assert not (storage / CHECKPOINT).exists()
    assert (storage / "results/other").exists()


def test_a_storage_that_went_away_is_a_line_and_a_failure(tmp_path):
    gone = f"os.rmdir({str(tmp_path / 'storage')!r}); open({str(tmp_path / 'storage')!r}, 'w').close()"
    said = kept(tmp_path / "machine", tmp_path / "storage", writing(CHECKPOINT, then=gone), status=1)
    assert "results could not be copied to" in said
