"""Only running out of memory halves the micro-batch; any other end of a training changes nothing."""

import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from scripts.common.errors import UserError
from scripts.common.terminal import terminal
from scripts.train import oom_retry as module
from scripts.train.memory import has_risen, loading, memory_limit_mb, oom_kills, out_of_memory
from scripts.train.oom_retry import DONE, KILLED, KILLED_FOR_MEMORY, RAN_OUT, RetryLog, train_with_oom_retry
from tests.support.training import run_settings

ROOT = Path(__file__).parents[2]
TRAINING = run_settings(training={"micro_batch": 8, "accumulation": 2})["training"]


def killed_training(folder: Path) -> None:
    """Start a training in a process that is then killed."""
    command = [sys.executable, "-m", "tests.support.killed_training", folder]
    assert subprocess.run(command, cwd=ROOT).returncode == -signal.SIGKILL


def test_after_a_kill_training_continues_with_the_same_micro_batch(tmp_path):
    killed_training(tmp_path)
    log = RetryLog(tmp_path, "run", TRAINING)
    assert ([entry["ended"] for entry in log.all], log.attempt()) == ([KILLED], 1)


@pytest.mark.parametrize(
    ("error", "step", "said"),
    [
        (UserError("stopped by SIGTERM"), nullcontext, "stopped by SIGTERM"),
        (ValueError("a fault"), nullcontext, "a fault"),
        (MemoryError(), loading, "out of memory while the model was loaded; give the step more memory"),
    ],
)
def test_after_another_end_training_continues_with_the_same_micro_batch(tmp_path, error, step, said):
    def fail(attempt):
        with step():
            raise error

    with pytest.raises(Exception, match=said):
        train_with_oom_retry(RetryLog(tmp_path, "run", TRAINING), fail, "remedy")
    assert RetryLog(tmp_path, "run", TRAINING).attempt() == 1


def test_after_the_kernel_killed_it_for_memory_training_continues_with_half_the_micro_batch(tmp_path, monkeypatch):
    killed_training(tmp_path)
    before = oom_kills()
    if before is None:
        pytest.skip("this kernel counts no processes that it kills for memory")
    for nothing in (before, None, {**before, "where": "another", "count": before["count"] + 1}):
        assert not has_risen(before, nothing)
    after = {**before, "count": before["count"] + 1}
    monkeypatch.setattr(module, "oom_kills", lambda: after)
    log = RetryLog(tmp_path, "run", TRAINING)
    assert log.all[0]["ended"] == KILLED_FOR_MEMORY
    assert log.attempt() == 2
    monkeypatch.setattr(module, "memory_limit_mb", lambda: memory_limit_mb() + 1)
    assert log.attempt() == 1  # there is more memory now
    log.begin(1)
    monkeypatch.setattr(module, "oom_kills", lambda: {**after, "count": after["count"] + 1})
    ended = [entry["ended"] for entry in RetryLog(tmp_path, "run", TRAINING).all]
    assert ended == [KILLED_FOR_MEMORY, KILLED_FOR_MEMORY]


def test_a_lack_of_memory_is_told_from_other_faults():
    cuda = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
    cpu = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"
    for error in (MemoryError(), OSError(12, "Cannot allocate memory"), RuntimeError(cpu), RuntimeError(cuda)):
        assert out_of_memory(error)
    for error in (RuntimeError("shapes"), ValueError("out of memory"), OSError(28, "No space left on device")):
        assert not out_of_memory(error)


def test_each_attempt_has_half_the_micro_batch_until_nothing_is_left_to_halve(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(terminal, "stream", None)  # a step of another test may have sent it to its log

    def train(attempt):
        if attempt < enough:
            raise MemoryError
        return [], {"steps": 1}

    enough = 3
    _, facts = train_with_oom_retry(RetryLog(tmp_path, "run", TRAINING), train, "remedy")
    found = [(entry["micro_batch"], entry["accumulation"], entry["ended"]) for entry in facts["tries"]]
    assert found == [(8, 2, RAN_OUT), (4, 4, RAN_OUT), (2, 8, DONE)]
    assert "out of memory with a micro-batch of 8: continues with 4" in capsys.readouterr().err
    enough = 5
    for log, size in ((RetryLog(tmp_path, "b", TRAINING), 1), (RetryLog(tmp_path, "c", TRAINING, last=2), 4)):
        with pytest.raises(UserError, match=f"out of memory with a micro-batch of {size}; remedy"):
            train_with_oom_retry(log, train, "remedy")
