"""Which GPUs a process may use, in what words, which file stands for each, and the limits of profiles/default."""

import os

import pytest

from scripts.common.errors import UserError
from scripts.common.gpu_locks import Device, devices
from scripts.workflow.machine import cgroup_limits, gpu_limit, memory_limit
from tests.support.data import load

TABLE = load("devices.yaml")
FIRST, SECOND, WHOLE = TABLE["first"], TABLE["second"], TABLE["listings"]["whole"]


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


@pytest.mark.parametrize(("listing", "variables", "names"), TABLE["names"])
def test_only_listed_gpus_are_there_as_cuda_reads_the_list(machine, listing, variables, names):
    assert [device.name for device in devices(machine(TABLE["listings"][listing], **variables))] == names


@pytest.mark.parametrize("visible", ["1", SECOND, SECOND[:12]])
def test_a_gpu_keeps_the_name_that_was_given_and_has_one_key_under_any(machine, visible):
    assert devices(machine(WHOLE, CUDA_VISIBLE_DEVICES=visible)) == [Device(visible, SECOND)]


def test_under_slurm_a_number_is_another_gpu_in_each_job_and_the_same_in_its_steps(machine):
    """A job that is kept to its devices counts them from 0; the number of one job says nothing of another's."""
    first = machine("", CUDA_VISIBLE_DEVICES="0", SLURM_JOB_ID="7")
    assert keys(first) != keys({**first, "SLURM_JOB_ID": "8"})
    assert keys(first) != keys({**first, "SLURM_STEP_ID": "2"})
    step = machine(WHOLE, CUDA_VISIBLE_DEVICES="0", SLURM_JOB_ID="7", SLURM_STEP_ID="0")
    assert keys(step) == keys({**step, "SLURM_STEP_ID": "1", "CUDA_VISIBLE_DEVICES": FIRST})
    assert keys(machine(WHOLE, SLURM_JOB_ID="7")) == [FIRST, SECOND], "without GPUs of its own they are everybody's"


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
