"""Checkpoints are data: what is half written, altered, foreign or code is never resumed, and is named."""

import functools
import logging
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models

from scripts.common.checksums import checksum_path, is_checksum_file
from scripts.common.errors import UserError
from scripts.common.files import MANIFEST, read_json, write_manifest
from scripts.train import checkpoints
from scripts.train.checkpoints import SAVING, checkpoints_in, latest_checkpoint, step_of
from tests.support.training import make_data, run_settings, train_in

CHAT = run_settings(training={"epochs": 1, "checkpoint_steps": 1, "keep_checkpoints": 20})


class Touch:
    """An object that makes a folder when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.fixture(scope="module")
def trained(tiny_base, tmp_path_factory) -> Path:
    """A folder with the data of a run, and in `run` the checkpoints of all its steps."""
    folder = make_data(tmp_path_factory.mktemp("trained"), tiny_base, CHAT)
    train_in(folder, tiny_base, folder / "run", CHAT)
    return folder


@pytest.fixture
def newest(trained, tmp_path) -> Path:
    """The newest of the run's checkpoints, to be damaged; it is the one that would be taken."""
    (folder,) = (trained / "run" / "checkpoints").iterdir()
    run = Path(shutil.copytree(folder, tmp_path / "run" / "checkpoints" / folder.name))
    newest = checkpoints_in(run)[0]
    assert latest_checkpoint(run) == newest
    return newest


def vouch_for(checkpoint: Path, **facts) -> None:
    """Write a checkpoint's manifest anew, as whoever altered it can."""
    checksum_path(checkpoint / MANIFEST).unlink()
    known = {key: value for key, value in read_json(checkpoint / MANIFEST).items() if key != "files"}
    write_manifest(checkpoint, **{**known, **facts})


def assert_set_aside(newest: Path, what: str, caplog) -> None:
    """Assert that the newest checkpoint is named, put aside as it is, and that the one before it is taken."""
    assert step_of(latest_checkpoint(newest.parent)) == step_of(newest) - 1
    assert what in caplog.text
    assert not os.path.lexists(newest)
    assert os.path.lexists(newest.with_name(f"refused-{newest.name}"))


def test_the_checkpoint_that_is_taken_up_is_named_in_the_log_and_half_written_ones_are_removed(newest, caplog):
    caplog.set_level(logging.INFO, "snaketune")
    run = newest.parent
    caplog.clear()
    assert latest_checkpoint(run) == newest
    assert latest_checkpoint(run / "nothing") is None
    assert caplog.messages == [f"continues from step {step_of(newest)} ({newest})"]
    (newest / MANIFEST).unlink()
    (run / SAVING / "checkpoint-99").mkdir(parents=True)
    assert latest_checkpoint(run) == checkpoints_in(run)[0] != newest
    assert not newest.exists()
    assert not (run / SAVING).exists()


def test_a_flipped_bit_in_any_file_of_a_checkpoint_is_named(newest, caplog):
    for path in sorted(newest.iterdir()):
        whole = path.read_bytes()
        # What follows the hash is provenance, which no resume reads.
        middle = 32 if is_checksum_file(path) else len(whole) // 2
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        assert_set_aside(newest, str(newest / MANIFEST if is_checksum_file(path) else path), caplog)
        caplog.clear()
        newest.with_name(f"refused-{newest.name}").rename(newest)
        path.write_bytes(whole)
    assert latest_checkpoint(newest.parent) == newest


def make_link(path: Path) -> None:
    path.symlink_to(path.rename(path.parents[2] / "elsewhere"))


def write_manifest_text(checkpoint: Path, text: str) -> None:
    checksum_path(checkpoint / MANIFEST).unlink()
    (checkpoint / MANIFEST).write_text(text, encoding="latin-1")


WEIGHTS, RNG = "adapter_model.safetensors", "rng_state.pth"
DAMAGES = {
    "not listed": (lambda path: (path / "x.pt").touch(), "/x.pt: is not listed in the checkpoint's manifest"),
    "hostile": (lambda path: torch.save(Touch(path / "it ran"), path / RNG), f"/{RNG}"),
    "missing": (lambda path: (path / WEIGHTS).unlink(), f"/{WEIGHTS}: is missing"),
    "a link in it": (lambda path: make_link(path / WEIGHTS), f"/{WEIGHTS}: is a link"),
    "a link": (make_link, ": is a link"),
    "of another run": (lambda path: vouch_for(path, fingerprint="0123"), ": belongs to step "),
    "of another step": (lambda path: vouch_for(path, step=1), ": belongs to step 1"),
}
for text in ("", "[]", "{}", '{"files": 3}', '{"files": {"x": {}}}', "\xff", '{"files": {}}'):
    DAMAGES[f"manifest {text}"] = (functools.partial(write_manifest_text, text=text), "")


@pytest.mark.parametrize("name", DAMAGES)
def test_a_checkpoint_that_is_not_as_the_run_left_it_is_named_set_aside_and_never_unpickled(newest, caplog, name):
    damage, said = DAMAGES[name]
    damage(newest)
    assert_set_aside(newest, f"{newest.name}{said}", caplog)
    assert not list(newest.parent.rglob("it ran"))


def test_a_checkpoint_whose_best_one_is_broken_is_left_out(newest, caplog):
    _, before, earlier, *_ = checkpoints_in(newest.parent)
    vouch_for(newest, best_step=step_of(earlier))
    assert latest_checkpoint(newest.parent) == newest
    (earlier / WEIGHTS).write_bytes(b"")
    assert latest_checkpoint(newest.parent) == before
    assert f"{newest} is skipped: its best checkpoint" in caplog.text


@pytest.mark.parametrize("name", [RNG, "optimizer.pt", "scheduler.pt", "scaler.pt"])
def test_a_hostile_file_that_the_manifest_vouches_for_never_runs_and_stops_the_training(
    trained, tiny_base, newest, tmp_path, name
):
    proof = tmp_path / "it ran"
    torch.save(Touch(proof), newest / name, _use_new_zipfile_serialization=name != "scheduler.pt")
    vouch_for(newest)
    with pytest.raises(UserError, match=f"{newest / name}: is refused, because it is not plain data"):
        train_in(trained, tiny_base, tmp_path / "run", CHAT)
    assert not (tmp_path / "run" / "adapter").exists()
    assert not proof.exists()
    torch.load(newest / name, weights_only=False)
    assert proof.exists()  # it is as hostile as it should be


@pytest.mark.parametrize("name", ["pytorch_model.bin", ".metadata", "code.py", "optimizer.pt"])
def test_files_of_a_kind_that_no_checkpoint_holds_and_compiled_code_stop_the_step(newest, name):
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), newest / "code")
    (newest / "code").rename(newest / name)
    vouch_for(newest)
    with pytest.raises(UserError, match=f"{newest / name}: is refused"):
        latest_checkpoint(newest.parent)


def test_the_newest_and_the_best_are_kept_and_an_evaluated_one_goes_before_one_that_awaited_its_evaluation(tmp_path):
    names = [*map(checkpoints.checkpoint_name, range(1, 7)), checkpoints.checkpoint_name(6, pending=True)]
    for name in names:
        (tmp_path / SAVING / name).mkdir(parents=True)
        checkpoints.finish_checkpoint(tmp_path, name, step=step_of(Path(name)))
    assert [path.name for path in checkpoints_in(tmp_path)] == [names[5], names[6], *reversed(names[:5])]
    checkpoints.remove_old(tmp_path, 2, best_step=3)
    assert [path.name for path in checkpoints_in(tmp_path)] == [names[5], names[4], names[2]]


@pytest.mark.parametrize(
    "write",
    [
        lambda: Path("/dev/full").write_text("x"),
        lambda: torch.save({"x": torch.zeros(9)}, "/dev/full"),
        lambda: Tokenizer(models.BPE()).save("/dev/full"),
        lambda: save_file({"x": torch.zeros(9)}, "/dev/null/x"),
    ],
    ids=["text", "torch", "tokenizers", "safetensors"],
)
def test_a_checkpoint_that_cannot_be_written_says_what_helps(tmp_path, write):
    (tmp_path / SAVING).mkdir()
    message = "the checkpoint of step 3 can't be written: .*; free disk space and run again"
    with pytest.raises(UserError, match=message), checkpoints.unwritable(tmp_path, step=3):
        write()
    assert not (tmp_path / SAVING).exists()


@pytest.mark.parametrize("error", [KeyError("x"), UserError("x"), RuntimeError("CUDA out of memory")])
def test_another_error_while_a_checkpoint_is_written_is_raised_as_it_is(tmp_path, error):
    (tmp_path / SAVING).mkdir()
    with pytest.raises(type(error)) as raised, checkpoints.unwritable(tmp_path, step=3):
        raise error
    assert raised.value is error
    assert not (tmp_path / SAVING).exists()
