"""The limits that profiles/default finds on a machine."""

import os

from scripts.common.machine import cgroup_limits, gpu_limit, memory_limit


def test_as_many_jobs_have_gpus_as_there_are_and_one_where_there_is_none(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for there, limit in (("", 1), ("0", 1), ("0,1,2", 3)):
        monkeypatch.setenv("SNAKETUNE_DEVICES", there)
        assert gpu_limit() == limit
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,2")
    assert gpu_limit() == 2


def test_the_memory_is_nine_tenths_of_the_machines_or_of_its_control_group(monkeypatch):
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    monkeypatch.setattr("scripts.common.machine.cgroup_limits", list)
    assert memory_limit() == int(physical * 0.9) // 1_000_000
    monkeypatch.setattr("scripts.common.machine.cgroup_limits", lambda: [10**9, 10**15])
    assert memory_limit() == 900


def test_limits_of_control_groups_are_found_from_the_process_to_the_root(tmp_path):
    group = tmp_path / "user.slice" / "session"
    group.mkdir(parents=True)
    (tmp_path / "user.slice" / "memory.max").write_text("2000\n")
    (group / "memory.max").write_text("max\n")
    old = tmp_path / "memory" / "job_7"
    old.mkdir(parents=True)
    (old / "memory.limit_in_bytes").write_text("1000\n")
    own = tmp_path / "cgroup"
    own.write_text("5:cpu:/job_7\n4:memory:/job_7\n0::/user.slice/session\n")
    assert cgroup_limits(own, tmp_path) == [1000, 2000]
    assert cgroup_limits(tmp_path / "none", tmp_path) == []
