"""Constraints of wildcards match their names exactly, and what Snakemake repeats for each job is done once."""

import gc
import inspect
import random
import re
from collections import Counter

import snakemake.common
import snakemake.rules
from snakemake.jobs import Job

from scripts.workflow.one_of import one_of
from scripts.workflow.plan_speed import speed_up_plans


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


def test_a_plan_inspects_a_function_once_and_formats_the_command_of_a_job_once(monkeypatch):
    """It fails when another Snakemake has other names for what is replaced."""
    calls, thresholds = Counter(), gc.get_threshold()
    for module in (snakemake.common, snakemake.rules):
        original = inspect.unwrap(module.get_function_params)
        monkeypatch.setattr(module, "get_function_params", original)
    command = property(lambda job: f"command {calls.update(['command'])}")
    monkeypatch.setattr(Job, "shellcmd", command)
    signature = inspect.signature
    monkeypatch.setattr(inspect, "signature", lambda function: calls.update(["signature"]) or signature(function))
    try:
        speed_up_plans(dry_run=True)
    finally:
        gc.set_threshold(*thresholds)

    def mb(wildcards, attempt):
        return attempt

    values = {"attempt": 1, "input": []}
    assert [*snakemake.rules.get_function_params(mb)] == ["wildcards", "attempt"]
    assert snakemake.rules.get_input_function_aux_params(mb, values) == {"attempt": 1}
    job = object.__new__(Job)
    assert job.shellcmd == job.shellcmd == "command None"
    assert calls == {"signature": 1, "command": 1}
