"""Constraints of wildcards match their names exactly, and what Snakemake repeats for each job is done once."""

import gc
import inspect
import random
import re
from collections import Counter

import pytest
import snakemake
import snakemake.common
import snakemake.rules
from snakemake.jobs import Job

from scripts.workflow.one_of import one_of
from scripts.workflow.plan_speed import WRITTEN_FOR, speed_up_plans


def test_a_constraint_matches_its_names_and_nothing_else_inside_a_path():
    draw = random.Random(1)
    for _ in range(300):
        names, others = ({"".join(draw.choices("ab.-", k=draw.randint(1, 6))) for _ in range(20)} for _ in range(2))
        path = re.compile(f"runs/(?P<run>{one_of(names)})-b/report")
        for name in names | others:
            found = path.fullmatch(f"runs/{name}-b/report")
            assert (found and found["run"]) == (name if name in names else None)
    assert not re.fullmatch(one_of([]), "")


def test_the_constraint_of_a_sweep_of_a_thousand_runs_is_short():
    names = [f"captions-r{r}-seed{seed}" for r in (4, 8) for seed in range(500)]
    assert len(one_of(names)) < len("|".join(names)) / 4


@pytest.fixture
def own_functions(monkeypatch):
    """Snakemake's own functions, before and after a test that replaces them."""
    thresholds = gc.get_threshold()
    for module in (snakemake.common, snakemake.rules):
        monkeypatch.setattr(module, "get_function_params", inspect.unwrap(module.get_function_params))
    monkeypatch.setattr(Job, "shellcmd", Job.shellcmd)
    yield
    gc.set_threshold(*thresholds)


def test_a_plan_inspects_a_function_once_and_formats_the_command_of_a_job_once(monkeypatch, own_functions):
    """It fails when another Snakemake is installed or has other names for what is replaced."""
    assert snakemake.__version__.startswith(WRITTEN_FOR)
    calls = Counter()
    monkeypatch.setattr(Job, "shellcmd", property(lambda job: f"command {calls.update(['command'])}"))
    signature = inspect.signature
    monkeypatch.setattr(inspect, "signature", lambda function: calls.update(["signature"]) or signature(function))
    speed_up_plans(dry_run=True)

    def mb(wildcards, attempt):
        return attempt

    values = {"attempt": 1, "input": []}
    assert [*snakemake.rules.get_function_params(mb)] == ["wildcards", "attempt"]
    assert snakemake.rules.get_input_function_aux_params(mb, values) == {"attempt": 1}
    job = object.__new__(Job)
    assert job.shellcmd == job.shellcmd == "command None"
    assert calls == {"signature": 1, "command": 1}


def test_another_snakemake_keeps_its_own_functions(monkeypatch, own_functions):
    monkeypatch.setattr(snakemake, "__version__", "9.28.0")
    parts = snakemake.common.get_function_params, snakemake.rules.get_function_params, Job.shellcmd
    speed_up_plans(dry_run=True)
    assert parts == (snakemake.common.get_function_params, snakemake.rules.get_function_params, Job.shellcmd)


def test_a_callable_without_a_hash_is_inspected_each_time(own_functions):
    class Unhashable(dict):
        def __call__(self, wildcards):
            return wildcards

    speed_up_plans(dry_run=False)
    assert [*snakemake.rules.get_function_params(Unhashable())] == ["wildcards"]
