"""Training steps as real processes: killed, terminated, out of memory, out of room; each says so, and goes on."""

import json
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest

from scripts.common.files import check_manifest, read_json, read_jsonl, sha256_of, write_manifest
from scripts.train.checkpoints import checkpoints_in, latest_checkpoint, step_of
from scripts.train.tokenize_conversations import tokenize_dataset
from tests.support.gpu import ROOT, program
from tests.support.interruptions import without_times
from tests.support.tiny_model import make_tiny_model
from tests.support.training import make_dataset, run_settings

LONG = run_settings(
    lora={"dropout": 0.1},
    tokens={"packing": True, "max_length": 96},
    training={"epochs": 12, "micro_batch": 1, "logging_steps": 3, "checkpoint_steps": 2},
)
SOON = 120  # seconds from SIGTERM to the end
PATIENCE = 900  # seconds for what takes a few where nothing else computes


@pytest.fixture(scope="module")
def tokens(tiny_base, tmp_path_factory) -> Path:
    """The rows of a small dataset."""
    folder = tmp_path_factory.mktemp("killed")
    make_dataset(folder / "dataset")
    tokenize_dataset(folder / "dataset", tiny_base, folder / "tokens", LONG["tokens"])
    return folder / "tokens"


class Step:
    """A training step in a process of its own, its outputs in a folder."""

    def __init__(self, tokens: Path, base: Path, folder: Path, settings: dict, before: tuple = ()):
        self.folder = folder
        command, environment = program(
            "train/train_model.py", tokens, "--base", base, "--checkpoints", folder / "checkpoints",
            "--output", folder / "adapter", "--curve", folder / "curve.jsonl", "--facts", folder / "training.json",
            "--log", folder / "log", "--threads", 1, "--settings", json.dumps(settings),
        )  # fmt: skip
        command[1:1] = before
        self.process = subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True)

    def wait_for(self, pattern: str) -> None:
        """Wait until there is a file of this pattern; fails when the process ends before."""
        for _ in range(PATIENCE * 100):
            if list(self.folder.glob(pattern)):
                return
            assert self.process.poll() is None, self.process.stderr.read() + (self.folder / "log").read_text()[-4000:]
            time.sleep(0.01)
        raise AssertionError(f"no {pattern} came")

    def wait_for_step(self, number: int) -> None:
        """Wait until a checkpoint of this step, or a later one, is there."""
        while self.reached() < number:
            self.wait_for("checkpoints/*/checkpoint-*/manifest.json")
            assert self.process.poll() is None

    def reached(self) -> int:
        """Return the step of the newest checkpoint."""
        found = [step_of(path) for path in self.folder.glob("checkpoints/*/checkpoint-*")]
        return max(found, default=0)

    def end(self, sent: signal.Signals | None = None) -> str:
        """Send a signal, if one is given, and wait for the end; return what the step said on the terminal."""
        if sent:
            self.process.send_signal(sent)
        _, said = self.process.communicate(timeout=SOON if sent else PATIENCE)
        return said


@pytest.fixture(scope="module")
def undisturbed(tokens, tiny_base, tmp_path_factory) -> Path:
    """The folder of the long run, trained in one go."""
    step = Step(tokens, tiny_base, tmp_path_factory.mktemp("undisturbed"), LONG)
    said = step.end()
    assert step.process.returncode == 0, said
    return step.folder


def test_a_run_that_was_killed_and_terminated_ends_byte_for_byte_as_one_that_was_not(
    tokens, tiny_base, tmp_path, undisturbed
):
    ended = []
    for number, sent in ((5, signal.SIGKILL), (12, signal.SIGTERM)):
        step = Step(tokens, tiny_base, tmp_path, LONG)
        step.wait_for_step(number)
        said = step.end(sent)
        if sent == signal.SIGTERM:
            assert step.process.returncode == 1
            last = said.strip().splitlines()[-1]
            assert "stopped by SIGTERM after step" in last
            ended.append(last.removeprefix("train_model.py: "))
            assert f"stopped by SIGTERM after step {step.reached()} of" in last
        else:
            assert step.process.returncode == -signal.SIGKILL
            ended.append("killed")
        assert not (tmp_path / "adapter").exists()
    step = Step(tokens, tiny_base, tmp_path, LONG)
    said = step.end()
    assert step.process.returncode == 0, said
    assert sha256_of(tmp_path / "adapter/adapter_model.safetensors") == sha256_of(
        undisturbed / "adapter/adapter_model.safetensors"
    )
    curves = [without_times(list(read_jsonl(folder / "curve.jsonl"))) for folder in (undisturbed, tmp_path)]
    assert curves[0] == curves[1]
    attempts = read_json(tmp_path / "training.json")["attempts"]
    assert [entry["ended"] for entry in attempts] == [*ended, "done"]
    assert {entry["micro_batch"] for entry in attempts} == {1}
    assert [entry["ended"] for entry in read_json(undisturbed / "training.json")["attempts"]] == ["done"]


def test_sigterm_while_the_model_loads_ends_the_step_at_once(tokens, tiny_base, tmp_path):
    step = Step(tokens, tiny_base, tmp_path, LONG)
    step.wait_for("checkpoints/attempts.jsonl")
    said = step.end(signal.SIGTERM)
    assert step.process.returncode == 1
    assert said.strip() == "train_model.py: stopped by SIGTERM outside the training loop; run again"
    assert not (tmp_path / "adapter").exists()


def test_a_checkpoint_that_finds_no_room_ends_the_step_with_one_line(tokens, tiny_base, tmp_path):
    step = Step(tokens, tiny_base, tmp_path, LONG)
    step.wait_for_step(4)
    resource.prlimit(step.process.pid, resource.RLIMIT_FSIZE, (100_000, 100_000))  # files of the adapter have 200 KB
    said = step.end()
    assert step.process.returncode == 1
    last = said.strip().splitlines()[-1]
    assert "of step" in last
    assert "can't be written" in last
    assert "the previous checkpoint is kept" in last
    (run,) = {path.parent for path in tmp_path.glob("checkpoints/*/checkpoint-*")}
    assert latest_checkpoint(run) == checkpoints_in(run)[0]
    assert step_of(latest_checkpoint(run)) >= 4


WIDE = run_settings(
    lora={"r": 4, "dropout": 0.0},
    training={
        "epochs": 2, "micro_batch": 64, "accumulation": 1, "learning_rate": 1e-2, "precision": "fp32",
        "attention": "eager",  # rows are padded: without padding few tokens are computed at once
        "gradient_checkpointing": False,
    },
)  # fmt: skip


@pytest.fixture(scope="module")
def wide(tmp_path_factory) -> tuple[Path, Path]:
    """Rows, and a base whose activations need far more memory than its weights."""
    folder = tmp_path_factory.mktemp("wide")
    model = make_tiny_model(folder / "base", intermediate=8192)
    facts = {"name": "wide", "source": "embedded", "id": None, "revision": None, "architecture": "mistral"}
    base = write_manifest(model, **facts, license=None, parameters=1)
    make_dataset(folder / "dataset", train=64)
    tokenize_dataset(folder / "dataset", base, folder / "tokens", WIDE["tokens"])
    return folder / "tokens", base


def test_a_run_that_finds_too_little_memory_goes_on_with_half_the_micro_batch(wide, tmp_path):
    def run(name: str, limit: int, settings: dict):
        (tmp_path / name).mkdir()
        peak = tmp_path / name / "peak"
        before = ("-m", "tests.support.measured_memory", str(peak), str(limit))
        step = Step(*wide, tmp_path / name, settings, before)
        said = step.end()
        assert step.process.returncode == 0, said
        losses = [row.get("loss", row.get("eval_loss")) for row in read_jsonl(tmp_path / name / "curve.jsonl")]
        return int(peak.read_text()), losses, read_json(tmp_path / name / "training.json"), said

    smaller = {**WIDE, "training": {**WIDE["training"], "micro_batch": 32, "accumulation": 2, "max_steps": 1}}
    whole, losses, _, _ = run("whole", 0, WIDE)
    half, _, _, _ = run("half", 0, smaller)
    assert whole - half > 2**28, "the machine takes too little for this test to mean anything"
    _, found, facts, said = run("limited", (3 * whole + half) // 4, WIDE)
    assert "out of memory with a micro-batch of 64: continues with 32" in said
    assert (facts["micro_batch"], facts["accumulation"]) == (32, 2)
    attempts = [(entry["micro_batch"], entry["accumulation"], entry["ended"]) for entry in facts["attempts"]]
    assert attempts == [(64, 1, "out of memory"), (32, 2, "done")]
    assert found == pytest.approx(losses, rel=1e-4)
    assert check_manifest(tmp_path / "limited/adapter/manifest.json")
