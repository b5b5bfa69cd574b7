"""profiles/slurm on a real Slurm that keeps accounts, with accounts, partitions and kinds of GPUs to choose from."""

import re
import shutil
import time
from contextlib import ExitStack

import pytest

from tests.support.project import Project
from tests.support.slurm_accounting import AccountedSlurm
from tests.support.slurm_workflow import PROFILE, jobs_by_rule, replace, workflow

# Rules of the workflow's names, as the profile knows them, with steps of a second.
SNAKEFILE = """
import os
os.environ.update(SNAKETUNE_FOLDER=os.getcwd())

rule all:
    input: "tokens", "adapter", "merged", "head", "answers"

rule tokenize_conversations:
    output: "tokens"
    shell: "touch {output}"

rule train_adapter:
    output: "adapter"
    resources: gpu=1
    shell: "touch {output}"

rule predict_with_llama:
    output: "answers"
    resources: gpu=1
    shell: "touch {output}"

# Fails at its first attempt.
rule merge_adapter:
    output: "merged"
    resources: tries=lambda wildcards, attempt: attempt
    shell: "[ {resources.tries} -gt 1 ] && touch {output}"

# At its first start Slurm warns it of its time limit.
rule train_head:
    output: "head"
    resources: gpu=0
    shell: "python train_head.py {output}"
"""
WARNED = """
import os, signal, sys, time

signal.signal(signal.SIGURG, lambda *_: sys.exit(20))
if not os.path.exists("warned"):
    open("warned", "w").close()
    os.system("scancel --batch --signal=USR1 $SLURM_JOB_ID")
    time.sleep(60)
open(sys.argv[1], "w").close()
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A Slurm with accounts; see AccountedSlurm."""
    cluster = AccountedSlurm(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


class Small:
    """A project whose steps take a second, with the profile, or a copy of it in which some variables are set."""

    def __init__(self, folder, **variables):
        self.project = Project.made_in(folder)
        self.project.write("Snakefile", SNAKEFILE)
        self.project.write("train_head.py", WARNED)
        self.profile, self.jobs = PROFILE, {}
        if variables:
            self.profile = "profiles/mine"
            shutil.move(folder / PROFILE, folder / self.profile)
            settings = f"{self.profile}/profile.yaml"
            replace(self.project, settings, f"{PROFILE}/job.sh", f"{self.profile}/job.sh", "precommand:")
            for name, value in variables.items():
                replace(self.project, settings, f'\n  {name}: ""', f"\n  {name}: {value}")

    def log(self):
        return (self.project.folder / "slurm.log").read_text()


@pytest.fixture(scope="module")
def done(slurm, tmp_path_factory):
    """Three projects, done at the same time with different variables in the profile; one that hangs fails here."""
    projects = {
        "plain": Small(tmp_path_factory.mktemp("plain")),
        "slow": Small(tmp_path_factory.mktemp("slow"), partition="slow"),
        "new": Small(
            tmp_path_factory.mktemp("new"),
            account="research",
            qos="urgent",
            gpu_partition="accelerated",
            gpu_model="new",
        ),
    }
    goals = {"slow": ("tokens", "adapter")}
    with ExitStack() as stack:
        runs = {
            name: stack.enter_context(workflow(small.project, slurm, *goals.get(name, ()), profile=small.profile))
            for name, small in projects.items()
        }
        deadline = time.monotonic() + 600
        for name, run in runs.items():
            assert run.wait(timeout=max(1, deadline - time.monotonic())) == 0, projects[name].log()[-5000:]
    for small in projects.values():
        small.jobs = jobs_by_rule(job for job in slurm.jobs() if job["WorkDir"] == str(small.project.folder))
    return projects


def test_accounts_say_how_jobs_ended(done):
    assert "Detailed failure reason unavailable" not in done["plain"].log()
    assert [line for line in done["plain"].log().splitlines() if "SLURM status is: 'FAILED'. Reason" in line]


def test_a_job_that_failed_is_submitted_again(done):
    first, second = done["plain"].jobs["merge_adapter"]
    assert (first["JobState"], second["JobState"]) == ("FAILED", "COMPLETED")
    assert first["JobId"] != second["JobId"]


@pytest.mark.parametrize("name", ["plain", "new"])
def test_a_training_whose_time_is_up_goes_back_into_the_queue_as_the_same_job(done, name):
    first, second = done[name].jobs["train_head"]
    assert (first["JobState"], second["JobState"]) == ("REQUEUED", "COMPLETED")
    assert first["JobId"] == second["JobId"]


def test_what_the_profile_leaves_empty_the_cluster_decides(done):
    assert asked(done["plain"], "Account", "QOS", "Partition") == {("teaching", "normal", "main")}


def test_every_job_goes_by_the_account_and_the_qos_of_the_profile(done):
    assert asked(done["new"], "Account", "QOS") == {("research", "urgent")}


def test_every_job_goes_to_the_partition_of_the_profile(done):
    assert asked(done["slow"], "Partition") == {("slow",)}


def test_steps_that_want_a_gpu_go_to_its_partition_and_the_others_to_the_default_one(done):
    partitions = {rule: {job["Partition"] for job in jobs} for rule, jobs in done["new"].jobs.items()}
    assert partitions == {
        "tokenize_conversations": {"main"},
        "merge_adapter": {"main"},
        "train_adapter": {"accelerated"},
        "predict_with_llama": {"accelerated"},
        # No GPU for it, but the rule is one of those that may have one.
        "train_head": {"accelerated"},
    }


def test_a_step_that_wants_a_gpu_gets_the_kind_of_the_profile(done):
    kinds = {rule: set(re.findall(r"gres/gpu[^,]*", jobs[-1]["TRES"])) for rule, jobs in done["new"].jobs.items()}
    assert {rule: kind for rule, kind in kinds.items() if kind} == {
        "train_adapter": {"gres/gpu:new=1"},
        "predict_with_llama": {"gres/gpu:new=1"},
    }


def asked(small, *columns):
    """Return what stands in these columns of all jobs of a project."""
    return {tuple(job[column] for column in columns) for jobs in small.jobs.values() for job in jobs}
