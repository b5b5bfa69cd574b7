"""Which GPUs a process may use, in what words, and which file stands for each."""

import os

import pytest

from scripts.common.devices import Device, devices
from scripts.common.errors import UserError

FIRST, SECOND = "GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f", "GPU-7d9aab1e-0d37-4fd2-b6f9-2f4a1f7c1b10"
PART, OTHER_PART = "MIG-e91edf3b-b297-37c1-a2a7-7601c3238fa2", "MIG-11f9e8a0-9be4-5d41-a6b3-70a53a0f6ad4"
TWO = f"GPU 0: NVIDIA A100-SXM4-40GB (UUID: {FIRST})\nGPU 1: NVIDIA A100-SXM4-40GB (UUID: {SECOND})\n"
CUT = (
    f"GPU 0: NVIDIA A100-SXM4-40GB (UUID: {FIRST})\n"
    f"  MIG 3g.20gb     Device  0: (UUID: {PART})\n"
    f"  MIG 3g.20gb     Device  1: (UUID: {OTHER_PART})\n"
    f"GPU 1: NVIDIA A100-SXM4-40GB (UUID: {SECOND})\n"
)


@pytest.fixture
def machine(tmp_path):
    """Return a function: the environment of a process where nvidia-smi lists this, with further variables."""

    def environment(listing: str, status: int = 0, **variables: str) -> dict[str, str]:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{listing}END\nexit {status}\n")
        program.chmod(0o755)
        return {"PATH": f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin", **variables}

    return environment


def names(environment: dict[str, str]) -> list[str]:
    return [device.name for device in devices(environment)]


def keys(environment: dict[str, str]) -> list[str]:
    return [device.key for device in devices(environment)]


def test_without_nvidia_smi_there_are_no_gpus(tmp_path):
    assert devices({"PATH": str(tmp_path)}) == []


def test_a_driver_that_does_not_answer_is_no_gpu(machine):
    assert devices(machine("couldn't communicate with the NVIDIA driver\n", status=9)) == []


def test_all_gpus_of_the_machine_are_named_by_uuid(machine):
    assert devices(machine(TWO)) == [Device(FIRST, FIRST), Device(SECOND, SECOND)]


def test_a_gpu_that_is_cut_into_parts_is_its_parts(machine):
    assert names(machine(CUT)) == [PART, OTHER_PART, SECOND]


@pytest.mark.parametrize("visible", ["1", SECOND, SECOND[:12]])
def test_a_gpu_keeps_the_name_that_was_given_and_has_one_key_under_any(machine, visible):
    assert devices(machine(TWO, CUDA_VISIBLE_DEVICES=visible)) == [Device(visible, SECOND)]


def test_a_part_is_named_as_it_was_given(machine):
    assert devices(machine(CUT, CUDA_VISIBLE_DEVICES=OTHER_PART)) == [Device(OTHER_PART, OTHER_PART)]


@pytest.mark.parametrize(("visible", "left"), [("", []), ("-1", []), ("1,0", ["1", "0"]), ("0,-1,1", ["0"])])
def test_only_listed_gpus_are_there_as_cuda_reads_the_list(machine, visible, left):
    assert names(machine(TWO, CUDA_VISIBLE_DEVICES=visible)) == left


def test_gpus_that_nvidia_smi_does_not_know_are_taken_at_their_name(tmp_path):
    assert devices({"PATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": "0,1"}) == [Device("0", "0"), Device("1", "1")]


def test_the_machine_can_be_described_instead(machine):
    assert names(machine(TWO, SNAKETUNE_DEVICES="a,b,c")) == ["a", "b", "c"]
    assert names(machine(TWO, SNAKETUNE_DEVICES="")) == []


def test_under_slurm_a_number_is_another_gpu_in_each_job(machine):
    """A job that is kept to its devices counts them from 0; the number of one job says nothing of another's."""
    first = machine("", CUDA_VISIBLE_DEVICES="0", SLURM_JOB_ID="7")
    assert keys(first) != keys({**first, "SLURM_JOB_ID": "8"})
    assert keys(first) != keys({**first, "SLURM_STEP_ID": "2"})
    assert names(first) == ["0"]


def test_within_one_slurm_job_a_gpu_is_the_same_in_every_step(machine):
    environment = machine(TWO, CUDA_VISIBLE_DEVICES="0", SLURM_JOB_ID="7", SLURM_STEP_ID="0")
    assert keys(environment) == keys({**environment, "SLURM_STEP_ID": "1", "CUDA_VISIBLE_DEVICES": FIRST})


def test_in_a_slurm_job_that_was_given_no_gpus_they_are_everybodys(machine):
    assert keys(machine(TWO, SLURM_JOB_ID="7")) == [FIRST, SECOND]


def test_an_nvidia_smi_that_hangs_is_said(machine, monkeypatch):
    monkeypatch.setattr("scripts.common.devices.SECONDS_FOR_NVIDIA_SMI", 0.2)
    environment = machine("")
    path = environment["PATH"].split(os.pathsep)[0]
    with open(os.path.join(path, "nvidia-smi"), "w", encoding="utf-8") as program:
        program.write("#!/bin/sh\nexec sleep 5\n")
    with pytest.raises(UserError, match=r"does not answer.*CUDA_VISIBLE_DEVICES="):
        devices(environment)
