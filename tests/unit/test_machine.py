"""The limits that profiles/default finds on a machine."""

import os

from scripts.workflow.machine import cgroup_limits, gpu_limit, memory_limit


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
    for name, limit in {
        "user.slice/memory.max": "2000", "user.slice/session/memory.max": "max",
        "memory/job_7/memory.limit_in_bytes": "1000",
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{limit}\n")
    own = tmp_path / "cgroup"
    own.write_text("5:cpu:/job_7\n4:memory:/job_7\n0::/user.slice/session\n")
    assert cgroup_limits(own, tmp_path) == [1000, 2000]
    assert cgroup_limits(tmp_path / "none", tmp_path) == []
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limits, expected in (([], int(physical * 0.9) // 1_000_000), ([10**9, 10**15], 900)):
        monkeypatch.setattr("scripts.workflow.machine.cgroup_limits", lambda limits=limits: limits)
        assert memory_limit() == expected
