"""Which GPUs a process may use, in what words, which file stands for each, and the limits of profiles/default."""

import os

import pytest

from scripts.common.errors import UserError
from scripts.common.gpu_locks import Device, devices
from scripts.workflow.machine import cgroup_limits, gpu_limit, memory_limit

FIRST, SECOND = "GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f", "GPU-7d9aab1e-0d37-4fd2-b6f9-2f4a1f7c1b10"
PART, OTHER_PART = "MIG-e91edf3b-b297-37c1-a2a7-7601c3238fa2", "MIG-11f9e8a0-9be4-5d41-a6b3-70a53a0f6ad4"
TWO = f"GPU 0: NVIDIA A100-SXM4-40GB (UUID: {FIRST})\nGPU 1: NVIDIA A100-SXM4-40GB (UUID: {SECOND})\n"
PARTS = f"  MIG 3g.20gb     Device  0: (UUID: {PART})\n  MIG 3g.20gb     Device  1: (UUID: {OTHER_PART})\n"
CUT = TWO.replace("GPU 1", PARTS + "GPU 1")


@pytest.fixture
def machine(tmp_path):
    """Return a function: the environment of a process where nvidia-smi lists this, with further variables."""

    def environment(listing: str, status: int = 0, **variables: str) -> dict[str, str]:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{listing}END\nexit {status}\n")
        program.chmod(0o755)
        return {"PATH": f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin", **variables}

    return environment


def keys(environment: dict[str, str]) -> list[str]:
    return [device.key for device in devices(environment)]


def test_without_nvidia_smi_or_an_answer_there_are_no_gpus_but_those_that_are_named(machine, tmp_path):
    assert devices({"PATH": str(tmp_path)}) == []
    assert devices({"PATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": "0,1"}) == [Device("0", "0"), Device("1", "1")]
    assert devices(machine("couldn't communicate with the NVIDIA driver\n", status=9)) == []


@pytest.mark.parametrize(
    ("listing", "variables", "expected"),
    [
        (TWO, {}, [FIRST, SECOND]),
        (CUT, {}, [PART, OTHER_PART, SECOND]),
        (CUT, {"CUDA_VISIBLE_DEVICES": OTHER_PART}, [OTHER_PART]),
        (TWO, {"CUDA_VISIBLE_DEVICES": ""}, []),
        (TWO, {"CUDA_VISIBLE_DEVICES": "-1"}, []),
        (TWO, {"CUDA_VISIBLE_DEVICES": "1,0"}, ["1", "0"]),
        (TWO, {"CUDA_VISIBLE_DEVICES": "0,-1,1"}, ["0"]),
        (TWO, {"SNAKETUNE_DEVICES": "a,b,c"}, ["a", "b", "c"]),
        (TWO, {"SNAKETUNE_DEVICES": ""}, []),
    ],
)
def test_only_listed_gpus_are_there_as_cuda_reads_the_list(machine, listing, variables, expected):
    assert [device.name for device in devices(machine(listing, **variables))] == expected


@pytest.mark.parametrize("visible", ["1", SECOND, SECOND[:12]])
def test_a_gpu_keeps_the_name_that_was_given_and_has_one_key_under_any(machine, visible):
    assert devices(machine(TWO, CUDA_VISIBLE_DEVICES=visible)) == [Device(visible, SECOND)]


def test_under_slurm_a_number_is_another_gpu_in_each_job_and_the_same_in_its_steps(machine):
    """A job that is kept to its devices counts them from 0; the number of one job says nothing of another's."""
    first = machine("", CUDA_VISIBLE_DEVICES="0", SLURM_JOB_ID="7")
    assert keys(first) != keys({**first, "SLURM_JOB_ID": "8"})
    assert keys(first) != keys({**first, "SLURM_STEP_ID": "2"})
    step = machine(TWO, CUDA_VISIBLE_DEVICES="0", SLURM_JOB_ID="7", SLURM_STEP_ID="0")
    assert keys(step) == keys({**step, "SLURM_STEP_ID": "1", "CUDA_VISIBLE_DEVICES": FIRST})
    assert keys(machine(TWO, SLURM_JOB_ID="7")) == [FIRST, SECOND], "without GPUs of its own they are everybody's"


def test_an_nvidia_smi_that_hangs_is_said(machine, monkeypatch, tmp_path):
    monkeypatch.setattr("scripts.common.gpu_locks.SECONDS_FOR_NVIDIA_SMI", 0.2)
    environment = machine("")
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexec sleep 5\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"does not answer.*CUDA_VISIBLE_DEVICES="):
        devices(environment)


def test_as_many_jobs_have_gpus_as_there_are_and_one_where_there_is_none(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for there, limit in (("", 1), ("0", 1), ("0,1,2", 3)):
        monkeypatch.setenv("SNAKETUNE_DEVICES", there)
        assert gpu_limit() == limit
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,2")
    assert gpu_limit() == 2


def test_the_memory_is_nine_tenths_of_the_machines_or_of_the_least_control_group_from_the_process_to_the_root(
    monkeypatch, tmp_path
):
    (tmp_path / "user.slice/session").mkdir(parents=True)
    (tmp_path / "memory/job_7").mkdir(parents=True)
    (tmp_path / "user.slice/memory.max").write_text("2000\n")
    (tmp_path / "user.slice/session/memory.max").write_text("max\n")
    (tmp_path / "memory/job_7/memory.limit_in_bytes").write_text("1000\n")
    own = tmp_path / "cgroup"
    own.write_text("5:cpu:/job_7\n4:memory:/job_7\n0::/user.slice/session\n")
    assert cgroup_limits(own, tmp_path) == [1000, 2000]
    assert cgroup_limits(tmp_path / "none", tmp_path) == []
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limits, expected in (([], int(physical * 0.9) // 1_000_000), ([10**9, 10**15], 900)):
        monkeypatch.setattr("scripts.workflow.machine.cgroup_limits", lambda limits=limits: limits)
        assert memory_limit() == expected
