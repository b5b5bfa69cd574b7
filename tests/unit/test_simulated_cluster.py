"""The simulated cluster: a plan is repeated for more runs, and seconds are those of simple plans worked out by hand."""

import pytest

from tests.benchmarks.scale.simulate_cluster import Cluster, Cost, Job, planned, repeated, simulate

DRY_RUN = """\
rule make_base:
    output: base
    jobid: 1

rule train_adapter:
    input: base
    output: runs/a/adapter
    wildcards: run=a
    priority: 1
    resources: tmpdir=/tmp, gpu=1

rule train_adapter:
    input: base
    output: runs/b/adapter
    wildcards: run=b
    priority: 1
    resources: tmpdir=/tmp, gpu=1

localrule choose_run:
    input: runs/a/adapter, runs/b/adapter
    output: choice

rule all:
    input: choice
"""
IDEAL = Cluster(gpus=1, start=0, submit=0, schedule=0, poll=1e-6, bandwidth=1, failures=0)


def test_a_plan_of_two_runs_is_repeated_for_more():
    jobs = planned(DRY_RUN)
    assert [(job.rule, job.run, job.gpus, job.needs) for job in jobs] == [
        ("make_base", None, 0, ()),
        ("train_adapter", "a", 1, (0,)),
        ("train_adapter", "b", 1, (0,)),
        ("choose_run", None, 0, (1, 2)),
    ]
    assert [job.needs for job in repeated(jobs, 3)] == [(), (0,), (0,), (0,), (1, 2, 3)]


def test_gpus_limit_jobs_and_transfers_share_the_file_system():
    jobs = [Job("train", str(number), "", (), gpus=1) for number in range(2)]
    assert simulate(jobs, [Cost(100)] * 2, IDEAL).seconds == pytest.approx(200, abs=0.01)
    two = Cluster(**{**IDEAL.__dict__, "gpus": 2})
    outcome = simulate(jobs, [Cost(100, 10)] * 2, two)
    assert outcome.seconds == pytest.approx(120, abs=0.01)
    assert outcome.gpu["files"] == pytest.approx(40, abs=0.01)


def test_start_submission_polls_and_failures_cost_time():
    chain = [Job("train", "0", "", (), gpus=1), Job("predict", "0", "", (0,), gpus=1)]
    slow = Cluster(gpus=1, start=30, submit=1, schedule=4, poll=15, failures=0)
    # 1 + 4 + 30 + 10 = 45, seen at the next poll (60, as one has just passed), and the same again: 105, seen at 120.
    assert simulate(chain, [Cost(10)] * 2, slow).seconds == pytest.approx(120)
    failing = Cluster(**{**IDEAL.__dict__, "failures": 5})
    outcome = simulate(chain, [Cost(360)] * 2, failing)
    assert outcome.failed > 0
    assert outcome.seconds == pytest.approx(720 + outcome.gpu["lost"], abs=0.01)
