"""Jobs on one machine: each has its GPUs for itself, whatever happens to the others and however it is started."""

import os
import random
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from scripts.common.errors import UserError
from scripts.common.gpu_locks import TAKEN, take_devices
from tests.support.project import ROOT, run_snakemake

JOB = ROOT / "tests/support/locking_job.py"
STEP = """
import subprocess, sys
from scripts.common.gpu_locks import take_devices
print(*take_devices(2), flush=True)
if len(sys.argv) == 1:
    subprocess.run([sys.executable, __file__, "worker"], check=True, timeout=60)
"""
# A workflow with the default profile: no job may ask for more than there is, and none may share a GPU.
JOBS = """
rule all:
    input: "a", "b", "c", "all_gpus", "large"

ruleorder: large > job

rule job:
    output: "{job}"
    resources: gpu=lambda wildcards: 99 if wildcards.job == "all_gpus" else 1
    shell: "PYTHON JOB {resources.gpu} 1.5 > {output}"

rule large:
    output: "large"
    resources: gpu=1, mem_mb=10**9
    shell: "echo {resources.mem_mb} > {output}"
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """The environment of jobs on a machine of its own, with two GPUs."""
    for name in ("CUDA_VISIBLE_DEVICES", TAKEN):
        monkeypatch.delenv(name, raising=False)
    return {**os.environ, "SNAKETUNE_DEVICES": "0,1", "SNAKETUNE_GPU_LOCKS": str(tmp_path), "PYTHONPATH": str(ROOT)}


@pytest.fixture
def start(machine):
    """Return a function that starts a job, with other words before its command; the job ends with the test."""
    with ExitStack() as stack:

        def start_job(count: int = 1, seconds: float = 60, before: tuple = ()) -> subprocess.Popen:
            command = [*before, sys.executable, JOB, str(count), str(seconds)]
            job = stack.enter_context(subprocess.Popen(command, env=machine, stdout=subprocess.PIPE, text=True))
            stack.callback(job.kill)
            return job

        yield start_job


def has(job: subprocess.Popen) -> str:
    """Wait until the job has GPUs, and return its CUDA_VISIBLE_DEVICES."""
    return job.stdout.readline().strip()


def test_a_job_that_waits_says_for_what(machine, start, tmp_path):
    has(start(2))
    step = [
        sys.executable,
        "-m",
        "scripts.dataset.ingest_records",
        "--name",
        "d",
        "--gpus",
        "1",
        "--log",
        str(tmp_path / "log"),
        "no",
    ]
    step += [word for option in ("records", "quarantine", "counts") for word in (f"--{option}", str(tmp_path / option))]
    with subprocess.Popen(step, env=machine, cwd=ROOT, stderr=subprocess.PIPE, text=True) as waiting:
        line = waiting.stderr.readline()
        waiting.kill()
    assert "waits for 1 of the GPUs 0, 1, which other jobs use" in line


def test_many_jobs_on_few_gpus_never_share_though_some_are_killed(machine, start):
    """The kernel is the witness: see tests/support/locking_job.py. A job that waits needs the GPUs of those killed."""
    drawn = random.Random(4)
    machine["SNAKETUNE_DEVICES"] = "0,1,2,3"
    waiting = [(drawn.choice([1, 1, 1, 2]), drawn.uniform(0.02, 0.3)) for _ in range(80)]
    running, ended, killed = [], [], 0
    while waiting or running:
        while waiting and len(running) < 12:
            running.append(start(*waiting.pop()))
        if killed < 25 and drawn.random() < 0.5:
            drawn.choice(running).kill()
            killed += 1
        time.sleep(0.02)
        ended += [job.returncode for job in running if job.poll() is not None]
        running = [job for job in running if job.returncode is None]
    assert len(ended) == 80
    assert set(ended) <= {0, -signal.SIGKILL}  # none has SHARED
    assert ended.count(0) >= 55


def test_a_process_that_a_step_starts_shares_its_gpus_and_waits_for_none(machine, tmp_path):
    (tmp_path / "step.py").write_text(STEP)
    assert subprocess.check_output([sys.executable, tmp_path / "step.py"], env=machine).split() == [b"0", b"1"] * 2


def test_a_slurm_job_takes_only_listed_gpus_keeps_their_names_and_leaves_no_lock_file(machine, start, tmp_path):
    """A node sees thousands of jobs, and each has names of its own."""
    machine |= {"CUDA_VISIBLE_DEVICES": "GPU-b,MIG-c", "SLURM_JOB_ID": "7"}
    longer = start(2)
    assert has(longer) == "GPU-b,MIG-c"
    assert len(list(tmp_path.glob("snaketune-gpu-slurm-7-*"))) == 2
    longer.kill()
    longer.wait()
    assert start(2, 0).wait() == 0
    assert not list(tmp_path.glob("snaketune-gpu-slurm-*"))


def test_a_step_sees_as_many_gpus_as_it_asks_for_and_no_more_than_there_are(machine):
    without = machine | {"SNAKETUNE_DEVICES": ""}
    before = dict(without)
    assert take_devices(1, without) == take_devices(None, without) == []
    assert without == before
    assert take_devices(0, machine) == []
    assert machine.pop("CUDA_VISIBLE_DEVICES") == ""
    with pytest.raises(UserError, match="needs 3 GPUs, but there are only 2: 0, 1"):
        take_devices(3, machine)


def test_a_link_in_the_place_of_a_lock_is_refused_and_not_followed(machine, tmp_path):
    (tmp_path / "snaketune-gpu-0.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(UserError, match=r"snaketune-gpu-0.lock: can't be opened as a lock"):
        take_devices(1, machine)
    assert not (tmp_path / "victim").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to be two users")
def test_the_jobs_of_other_users_are_respected(machine, start):
    with tempfile.TemporaryDirectory() as everybodys:  # pytest's folders are closed to others
        Path(everybodys).chmod(0o1777)
        machine["SNAKETUNE_GPU_LOCKS"] = everybodys
        old_mask = os.umask(0o077)
        try:
            assert has(start()) == "0"
        finally:
            os.umask(old_mask)
        nobody = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
        assert has(start(before=nobody)) == "1"


def test_jobs_have_gpus_of_their_own_and_more_memory_or_gpus_than_there_are_are_cut_down(machine, tmp_path):
    """Jobs find out if they share a GPU (tests/support/locking_job.py), and fail then."""
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    (tmp_path / "Snakefile").write_text(JOBS.replace("PYTHON", sys.executable).replace("JOB", str(JOB)))
    done = run_snakemake(tmp_path, "--cores", "3", environment=machine)
    assert done.returncode == 0, done.stdout
    had = {job: (tmp_path / job).read_text().strip() for job in ("a", "b", "c", "all_gpus")}
    assert set(had.values()) == {"0", "1", "0,1"}
    assert had["all_gpus"] == "0,1"
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1_000_000
    assert 0 < int((tmp_path / "large").read_text()) <= physical * 0.9


@pytest.mark.parametrize("option", [["-s", f"{ROOT}/Snakefile"], [f"--snakefile={ROOT}/Snakefile"]])
def test_a_snakemake_that_is_not_of_the_venv_reads_the_profile_from_any_folder(tmp_path, option):
    code = (
        f"import sys; sys.path.append({sysconfig.get_paths()['purelib']!r}); from snakemake.cli import parse_args;"
        "print(parse_args(sys.argv[1:])[1].resources)"
    )
    # No path files (-S) and not this folder on the path (-P), as elsewhere; it has a package of that name, another's.
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "__init__.py").touch()
    env_vars = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-S", "-P", "-c", code, *option]
    done = subprocess.run(command, cwd=tmp_path, env=env_vars, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "mem_mb" in done.stdout
