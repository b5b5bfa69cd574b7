"""Jobs on one machine: each has its GPUs for itself, whatever happens to the others."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from scripts.common.errors import UserError
from scripts.common.gpu_locks import TAKEN, held, take_devices
from tests.support.locking_job import SHARED
from tests.support.project import ROOT

JOB = ROOT / "tests" / "support" / "locking_job.py"


@pytest.fixture
def machine(tmp_path):
    """The environment of jobs on a machine of its own, with two GPUs."""
    variables = {name: value for name, value in os.environ.items() if name not in ("CUDA_VISIBLE_DEVICES", TAKEN)}
    return {**variables, "SNAKETUNE_DEVICES": "0,1", "SNAKETUNE_GPU_LOCKS": str(tmp_path), "PYTHONPATH": str(ROOT)}


@pytest.fixture
def started():
    """A list of jobs that end with the test."""
    jobs: list[subprocess.Popen] = []
    yield jobs
    for job in jobs:
        job.kill()
        job.wait()


@pytest.fixture(autouse=True)
def let_go():
    """What the test took itself is free again after it."""
    yield
    for lock in held:
        lock.release()
    held.clear()


def start(started: list, machine: dict, count: int = 1, seconds: float = 60) -> subprocess.Popen:
    """Start a job."""
    command = [sys.executable, str(JOB), str(count), str(seconds)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started.append(subprocess.Popen(command, env=machine, **streams))
    return started[-1]


def has(job: subprocess.Popen) -> str:
    """Wait until the job has GPUs, and return its CUDA_VISIBLE_DEVICES."""
    return job.stdout.readline().strip()


def test_each_job_has_another_gpu(machine, started):
    assert {has(start(started, machine)), has(start(started, machine))} == {"0", "1"}


def test_a_killed_job_frees_its_gpu_for_the_one_that_waits(machine, started):
    first, second = start(started, machine), start(started, machine)
    freed = has(first)
    has(second)
    third = start(started, machine)
    time.sleep(1.5)
    assert third.poll() is None
    first.kill()
    assert has(third) == freed


def test_a_job_that_waits_says_for_what(machine, started, tmp_path):
    has(start(started, machine, 2))
    step = [sys.executable, "-m", "scripts.dataset.ingest_records", "--gpus", "1", "--log", str(tmp_path / "log"), "no"]
    step += [word for option in ("records", "quarantine", "counts") for word in (f"--{option}", str(tmp_path / option))]
    waiting = subprocess.Popen(
        [*step, "--images-output", "i"], env=machine, cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    started.append(waiting)
    assert "waits for 1 of GPU 0, 1: other jobs have them" in waiting.stderr.readline()


def test_many_jobs_on_few_gpus_never_share_though_some_are_killed(machine, started):
    """The kernel is the witness: see tests/support/locking_job.py."""
    drawn = random.Random(4)
    machine = {**machine, "SNAKETUNE_DEVICES": "0,1,2,3"}
    waiting = [(drawn.choice([1, 1, 1, 2]), drawn.uniform(0.02, 0.3)) for _ in range(80)]
    running, ended, killed = [], [], 0
    while waiting or running:
        while waiting and len(running) < 12:
            running.append(start(started, machine, *waiting.pop()))
        if killed < 25 and drawn.random() < 0.5:
            drawn.choice(running).kill()
            killed += 1
        time.sleep(0.02)
        ended += [job.returncode for job in running if job.poll() is not None]
        running = [job for job in running if job.returncode is None]
    assert len(ended) == 80
    assert SHARED not in ended
    assert set(ended) <= {0, -signal.SIGKILL}
    assert ended.count(0) >= 55


def test_a_job_takes_only_listed_gpus_and_keeps_their_names(machine, started):
    machine = {**machine, "CUDA_VISIBLE_DEVICES": "GPU-b,MIG-c"}
    assert has(start(started, machine, 2)) == "GPU-b,MIG-c"


def test_a_process_that_a_step_starts_shares_its_gpus_and_waits_for_none(machine, tmp_path):
    step = (
        "from scripts.common.gpu_locks import take_devices; import subprocess, sys; print(*take_devices(2), flush=True)"
    )
    again = "if len(sys.argv) == 1: subprocess.run([sys.executable, __file__, 'worker'], check=True, timeout=60)"
    (tmp_path / "step.py").write_text(f"{step}\n{again}\n")
    done = subprocess.run(
        [sys.executable, tmp_path / "step.py"], env=machine, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["0 1", "0 1"]


def test_a_slurm_job_leaves_no_lock_file_behind(machine, started, tmp_path):
    """A node sees thousands of jobs, and each has names of its own."""
    machine = {**machine, "CUDA_VISIBLE_DEVICES": "0", "SLURM_JOB_ID": "7"}
    longer = start(started, machine)
    assert has(longer) == "0"
    assert len(list(tmp_path.glob("snaketune-gpu-slurm-7-*"))) == 1
    longer.kill()
    longer.wait()
    assert start(started, machine, 1, 0).wait() == 0
    assert not list(tmp_path.glob("snaketune-gpu-slurm-*"))


def test_without_gpus_nothing_changes(machine):
    environment = {**machine, "SNAKETUNE_DEVICES": ""}
    before = dict(environment)
    assert take_devices(1, environment) == []
    assert take_devices(None, environment) == []
    assert environment == before


def test_a_step_that_asks_for_none_sees_none(machine):
    environment = dict(machine)
    assert take_devices(0, environment) == []
    assert environment["CUDA_VISIBLE_DEVICES"] == ""


def test_more_gpus_than_there_are_are_refused(machine):
    with pytest.raises(UserError, match="asks for 3 GPUs, and there are 2: 0, 1"):
        take_devices(3, machine)


def test_a_link_in_the_place_of_a_lock_is_refused_and_not_followed(machine, tmp_path):
    victim = tmp_path / "victim"
    victim.touch()
    (tmp_path / "snaketune-gpu-0.lock").symlink_to(victim)
    with pytest.raises(UserError, match=r"snaketune-gpu-0.lock: can't be opened as a lock"):
        take_devices(1, machine)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to be two users")
def test_the_jobs_of_other_users_are_respected(machine, started):
    with tempfile.TemporaryDirectory() as everybodys:  # pytest's folders are closed to others
        Path(everybodys).chmod(0o1777)
        machine["SNAKETUNE_GPU_LOCKS"] = everybodys
        old_mask = os.umask(0o077)
        try:
            assert has(start(started, machine)) == "0"
        finally:
            os.umask(old_mask)
        nobody = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
        other = subprocess.Popen(
            [*nobody, sys.executable, str(JOB), "1", "60"], env=machine, stdout=subprocess.PIPE, text=True
        )
        started.append(other)
        assert has(other) == "1"
