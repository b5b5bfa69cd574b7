"""Checkpoints are data: what is half written, altered, foreign or code is never resumed, and is named."""

import io
import logging
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from scripts.common.errors import UserError
from scripts.common.files import MANIFEST, read_json, write_manifest
from scripts.common.seals import is_seal, seal_of
from scripts.common.threads import use_threads
from scripts.train.checkpoints import (
    SAVING,
    checkpoint_name,
    checkpoint_to_take_up,
    checkpoints_in,
    finish_checkpoint,
    latest_checkpoint,
    remove_old,
)
from scripts.train.tokenize_conversations import tokenize_dataset
from tests.support.training import make_dataset, run_settings, train_in

CHAT = run_settings(training={"epochs": 1, "checkpoint_steps": 1, "keep_checkpoints": 20})


class Touch:
    """An object that makes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.fixture(scope="module")
def trained(tiny_base, tmp_path_factory) -> Path:
    """A folder with the data of a run, and in `run` the checkpoints of all its steps."""
    use_threads(2)
    folder = tmp_path_factory.mktemp("trained")
    tokenize_dataset(make_dataset(folder / "dataset"), tiny_base, folder / "tokens", CHAT["tokens"])
    train_in(folder, tiny_base, folder / "run", CHAT)
    return folder


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """The checkpoints of the run, to be damaged."""
    (checkpoints,) = (trained / "run" / "checkpoints").iterdir()
    return Path(shutil.copytree(checkpoints, tmp_path / "run" / "checkpoints" / checkpoints.name))


def vouch_for(checkpoint: Path, **facts) -> None:
    """Write a checkpoint's manifest anew, as whoever altered it can."""
    seal_of(checkpoint / MANIFEST).unlink()
    known = {key: value for key, value in read_json(checkpoint / MANIFEST).items() if key != "files"}
    write_manifest(checkpoint, **{**known, **facts})


def assert_set_aside(run: Path, newest: Path, what: str, caplog) -> None:
    """Assert that the newest checkpoint is named, put aside as it is, and that the one before it is taken."""
    taken = latest_checkpoint(run)
    assert taken.name == f"checkpoint-{int(newest.name.split('-')[1]) - 1}"
    assert what in caplog.text
    assert not os.path.lexists(newest)
    assert os.path.lexists(run / f"refused-{newest.name}")


def newest_of(run: Path) -> Path:
    newest = checkpoints_in(run)[0]
    assert latest_checkpoint(run) == newest
    return newest


def test_the_checkpoint_that_is_taken_up_is_named_in_the_log(run, caplog):
    caplog.set_level(logging.INFO, "snaketune")
    newest = newest_of(run)
    assert not caplog.messages
    assert checkpoint_to_take_up(run) == newest
    assert caplog.messages == [f"continues from step {newest.name.split('-')[1]} ({newest})"]
    assert checkpoint_to_take_up(run / "nothing") is None
    assert len(caplog.messages) == 1


def test_a_half_written_checkpoint_is_removed_and_the_one_before_is_taken(run):
    newest = newest_of(run)
    (newest / MANIFEST).unlink()
    (run / SAVING / "checkpoint-99").mkdir(parents=True)
    assert latest_checkpoint(run) == checkpoints_in(run)[0] != newest
    assert not newest.exists()
    assert not (run / SAVING).exists()


def test_a_flipped_bit_in_any_file_of_a_checkpoint_is_named(run, caplog):
    newest = newest_of(run)
    for path in sorted(newest.iterdir()):
        whole = path.read_bytes()
        middle = 32 if is_seal(path) else len(whole) // 2  # what follows the hash is provenance, which no resume reads
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        assert_set_aside(run, newest, str(newest / MANIFEST if is_seal(path) else path), caplog)
        caplog.clear()
        path = run / f"refused-{newest.name}" / path.name
        path.write_bytes(whole)
        path.parent.rename(newest)
    assert latest_checkpoint(run) == newest


def test_a_file_that_no_manifest_lists_is_named(run, caplog):
    newest = newest_of(run)
    torch.save({"step": 1}, newest / "scaler.pt")
    assert_set_aside(run, newest, f"{newest / 'scaler.pt'}: is not listed in the checkpoint's manifest", caplog)


def test_a_missing_file_is_named(run, caplog):
    newest = newest_of(run)
    (weights,) = newest.glob("*.safetensors")
    weights.unlink()
    assert_set_aside(run, newest, f"{weights}: is missing", caplog)


def test_a_link_in_a_checkpoint_is_named(run, tmp_path, caplog):
    newest = newest_of(run)
    (weights,) = newest.glob("*.safetensors")
    weights.rename(tmp_path / "elsewhere")
    weights.symlink_to(tmp_path / "elsewhere")
    assert_set_aside(run, newest, f"{weights}: is not a regular file", caplog)


def test_a_link_to_a_checkpoint_is_named(run, tmp_path, caplog):
    newest = newest_of(run)
    newest.rename(tmp_path / "elsewhere")
    newest.symlink_to(tmp_path / "elsewhere")
    assert_set_aside(run, newest, f"{newest}: is a link", caplog)
    assert (tmp_path / "elsewhere").is_dir()


def test_a_checkpoint_of_another_run_is_named(run, caplog):
    newest = newest_of(run)
    vouch_for(newest, fingerprint="0123456789abcdef")
    assert_set_aside(run, newest, f"{newest}: is of another run, 0123456789abcdef, not of {run.name}", caplog)


def test_a_checkpoint_under_the_name_of_another_step_is_named(run, caplog):
    newest = newest_of(run)
    step = int(newest.name.split("-")[1])
    newest.rename(run / f"checkpoint-{step + 1}")
    assert latest_checkpoint(run).name == f"checkpoint-{step - 1}"
    assert f"is of step {step}" in caplog.text


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": 3}', '{"files": {"x": {}}}', "\xff", '{"files": {}}'])
def test_a_manifest_that_is_none_is_named(run, caplog, text):
    newest = newest_of(run)
    seal_of(newest / MANIFEST).unlink()
    (newest / MANIFEST).write_text(text, encoding="latin-1")
    assert_set_aside(run, newest, newest.name, caplog)


def test_a_checkpoint_whose_best_one_is_broken_is_left_out(run, caplog):
    newest = newest_of(run)
    earlier = checkpoints_in(run)[2]
    vouch_for(newest, best_step=int(earlier.name.split("-")[1]))
    assert latest_checkpoint(run) == newest
    (earlier / "adapter_model.safetensors").write_bytes(b"")
    assert latest_checkpoint(run) == checkpoints_in(run)[1]
    assert f"{newest} is left out: its best checkpoint" in caplog.text


HOSTILE = {
    "plain pickle": lambda path, proof: path.write_bytes(pickle.dumps(Touch(proof))),
    "of PyTorch": lambda path, proof: torch.save({"python": Touch(proof)}, path),
    "of old PyTorch": lambda path, proof: torch.save(Touch(proof), path, _use_new_zipfile_serialization=False),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("name", ["rng_state.pth", "optimizer.pt", "scheduler.pt", "scaler.pt"])
def test_a_hostile_file_that_the_manifest_vouches_for_never_runs_and_stops_the_step(run, tmp_path, kind, name):
    newest, proof = newest_of(run), tmp_path / "it ran"
    HOSTILE[kind](newest / name, proof)
    vouch_for(newest)
    with pytest.raises(UserError, match=f"{newest / name}: is refused, because it is not plain data"):
        latest_checkpoint(run)
    assert not proof.exists()
    run_it = pickle.loads if kind == "plain pickle" else lambda data: torch.load(io.BytesIO(data), weights_only=False)
    run_it((newest / name).read_bytes())
    assert proof.exists()  # it is as hostile as it should be


def test_a_hostile_file_that_no_manifest_vouches_for_is_named_and_never_read(run, tmp_path, caplog):
    newest, proof = newest_of(run), tmp_path / "it ran"
    HOSTILE["of PyTorch"](newest / "rng_state.pth", proof)
    assert_set_aside(run, newest, str(newest / "rng_state.pth"), caplog)
    assert not proof.exists()


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "adapter_model.bin", "training_args.bin", ".metadata", "code.py"]
)
def test_files_of_a_kind_that_no_checkpoint_holds_stop_the_step(run, name):
    newest = newest_of(run)
    (newest / name).write_bytes(b"anything")
    vouch_for(newest)
    with pytest.raises(UserError, match=f"{newest / name}: is refused: no checkpoint holds a file of this kind"):
        latest_checkpoint(run)


def test_a_torchscript_archive_is_refused(run):
    newest = newest_of(run)
    torch.jit.script(torch.nn.Linear(1, 1)).save(newest / "optimizer.pt")
    assert zipfile.is_zipfile(newest / "optimizer.pt")
    vouch_for(newest)
    with pytest.raises(UserError, match=f"{newest / 'optimizer.pt'}: is refused"):
        latest_checkpoint(run)


def test_the_training_itself_refuses_a_hostile_checkpoint(trained, run, tiny_base, tmp_path):
    newest, proof = newest_of(run), tmp_path / "it ran"
    torch.save(Touch(proof), newest / "rng_state.pth")
    vouch_for(newest)
    with pytest.raises(UserError, match=r"rng_state\.pth: is refused"):
        train_in(trained, tiny_base, tmp_path / "run", CHAT)
    assert not proof.exists()
    assert not (tmp_path / "run" / "adapter").exists()


def test_the_newest_checkpoints_and_the_best_are_kept(tmp_path):
    run = tmp_path / "0123"
    for step in range(1, 7):
        (run / SAVING / checkpoint_name(step)).mkdir(parents=True)
        finish_checkpoint(run, checkpoint_name(step), step=step)
    remove_old(run, 2, best_step=3)
    assert [path.name for path in checkpoints_in(run)] == ["checkpoint-6", "checkpoint-5", "checkpoint-3"]


def test_an_evaluated_checkpoint_goes_before_the_one_that_awaited_its_evaluation(tmp_path):
    run = tmp_path / "0123"
    for name in (checkpoint_name(4), checkpoint_name(4, pending=True), checkpoint_name(3)):
        (run / SAVING / name).mkdir(parents=True)
        finish_checkpoint(run, name, step=int(name.split("-")[1]))
    assert [path.name for path in checkpoints_in(run)] == [
        "checkpoint-4",
        "checkpoint-4-before-evaluation",
        "checkpoint-3",
    ]
    remove_old(run, 2, best_step=None)
    assert [path.name for path in checkpoints_in(run)] == ["checkpoint-4", "checkpoint-3"]
