"""A comparison takes its sides in turn, divides the medians, and is shown on the page."""

import json
import sys
from contextlib import nullcontext

import pytest

from tests.benchmarks import bench_demo, page, trivial_workflow
from tests.benchmarks import compare as harness
from tests.benchmarks.bench_training import check_learned_the_same
from tests.benchmarks.compare import Goal


def test_sides_take_turns_and_the_ratio_is_of_the_medians_against_the_best_of_the_others(monkeypatch, tmp_path):
    monkeypatch.setattr(harness, "MEASURED", tmp_path)
    turns = []
    seconds = {"ours": iter([3.0, 1.0, 2.0]), "slow": iter([9.0, 9.0, 9.0]), "best": iter([4.0, 4.0, 1.0])}

    def side(name):
        return lambda: turns.append(name) or {"s": next(seconds[name]), "MiB": 5.0}

    (record,) = harness.compare(Goal("row", "a row", "s", "<= 0.5"), {name: side(name) for name in seconds})
    assert turns == ["ours", "slow", "best"] * 3
    assert (record["ratio"], record["met"]) == (0.5, True)
    line = page.table([record])[2]
    assert line == (
        "| a row | ours: 2 (1 to 3) s, 5 (5 to 5) MiB | slow: 9 (9 to 9) s, 5 (5 to 5) MiB"
        "<br>best: 4 (1 to 4) s, 5 (5 to 5) MiB | 0.5 | <= 0.5 | yes |"
    )
    sides = {"ours": lambda: {"s": 1, "MiB": 3}, "one": lambda: {"s": 1.5, "MiB": 1}, "two": lambda: {"s": 0.5}}
    goals = [
        Goal("row", "a row", "s", ">= 1", against=["one"]),
        Goal("memory", "a limit", "MiB", "<= 1", limit=4),
        Goal("two", "another", "s", "<= 1", True, against=["one", "two"]),
    ]
    found = harness.compare(goals, sides, rounds=1)
    assert [(each["met"], each["ratio"]) for each in found] == [(False, 0.6667), (True, 0.75), (True, 0.6667)]
    assert list(found[0]["sides"]) == ["ours", "one"]
    assert found[1]["sides"] == {"ours": [{"MiB": 3, "s": 1}], "one": [{"MiB": 1, "s": 1.5}], "limit": [{"MiB": 4}]}
    assert len(list(tmp_path.iterdir())) == 3  # of the row the newer record on this processor


def test_nothing_is_kept_of_sides_whose_results_differ(monkeypatch, tmp_path):
    monkeypatch.setattr(harness, "MEASURED", tmp_path)
    with pytest.raises(ZeroDivisionError):
        harness.compare(Goal("row", "a row", "s", "<= 1"), {"ours": lambda: {"s": 1.0}}, check=lambda found: 1 / 0)
    assert not list(tmp_path.iterdir())


def test_a_cpu_that_is_limited_to_older_instructions_has_rows_of_its_own(monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert harness.limits_of_instructions() == "; limited by ONEDNN_MAX_CPU_ISA=AVX2"


def test_memory_is_that_of_a_command_and_its_children_and_a_failure_ends_the_benchmark():
    block = "block = bytearray(60 << 20); block[::4096] = b'x' * len(block[::4096]); import time; time.sleep(0.4)"
    both = f"import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', {block!r}]); {block}; child.wait()"
    ran = harness.run([sys.executable, "-c", both])
    assert 120 < ran.mib < 180
    with pytest.raises(SystemExit, match="no such thing"):
        harness.run([sys.executable, "-c", "raise SystemExit('no such thing')"])


def test_the_trivial_rules_have_the_files_of_a_plan_with_a_rule_for_all_runs_and_one_for_each_job_of_a_run():
    job = "rule score:\n    input: a.jsonl, runs/{run}/b\n    output: runs/{run}/c\n"
    job += "    resources: tmpdir=/tmp, mem_mb=1000\n"
    runs = ("cards-r4-seed0", "cards-r8-seed12")
    plan = "".join(job.replace("{run}", run) for run in runs) + "rule all:\n"
    plan += f"    input: board, {', '.join(f'runs/{run}/c' for run in runs)}\n"
    first, second = trivial_workflow.trivial_rules(plan).split("\n\n")
    assert 'input: "board", expand("runs/{run}/c", run=RUNS)' in first
    for line in ('input: "a.jsonl", "runs/{run}/b"', 'output: "runs/{run}/c"', "resources: mem_mb=1000"):
        assert line in second
    assert trivial_workflow.outputs_of(plan) == [f"runs/{run}/c" for run in runs]


@pytest.mark.parametrize(
    ("first", "last", "message"),
    [
        (10.46, 9.86, None),
        (10.46, 9.89, None),  # other rows in the last steps
        (10.46, 10.1, "our last loss is 9.850, that of TRL, plain 10.100"),
        (10.46, 9.7, "our last loss is 9.850, that of TRL, plain 9.700"),
        (9.95, 9.85, "the loss of TRL, plain falls by 0.100 only"),
    ],
)
def test_trainings_are_compared_only_if_all_sides_learn_the_same(first, last, message):
    found = {"ours": [{"first loss": 10.47, "loss": 9.85}], "TRL, plain": [{"first loss": first, "loss": last}]}
    with pytest.raises(SystemExit, match=message) if message else nullcontext():
        check_learned_the_same("training", found)


def test_the_work_of_steps_is_the_longer_of_cpu_seconds_shared_by_cores_and_the_longest_chain(tmp_path):
    plan, lines = "", []
    # Name, what it reads, and seconds and CPU seconds without 2 s of imports each.
    for name, files, seconds, cpu in (("a", "raw", 3, 3), ("b", "a", 9, 10), ("c", "a", 4, 8), ("d", "b, c", 1, 3)):
        log = f"results/logs/stage/{name}.log"
        plan += f"rule {name}:\n    input: {files}\n    output: {name}\n    log: {log}\n    jobid: 1\n\n"
        lines.append({"log": log, "s": seconds + 2, "imports": 2, "CPU s": cpu + 2, "CPU imports": 2})
    clock = tmp_path / "clock.jsonl"
    clock.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    steps = bench_demo.steps_of(clock, bench_demo.needs_of(plan + "rule all:\n    input: d\n    jobid: 0\n"))
    assert [step.name for step in bench_demo.longest_chain(steps)] == ["d", "b", "a"]
    assert bench_demo.work_of(steps, 2) == {"s": 13, "s of CPU / cores": 12, "s of the longest chain": 13}
    assert bench_demo.work_of(steps, 1)["s"] == 24
