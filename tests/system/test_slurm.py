"""The workflow on a real Slurm: two nodes on this machine, started by tests/support/slurm.py."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.process_tree import steps_below
from tests.support.project import CONFIG, Project, raw_records
from tests.support.slurm import until
from tests.support.slurm_workflow import finish, replace, workflow

LOCAL = {"fetch_converter", "plot_curve"}
TOGETHER = {
    "splits_split_records_write_dataset_ledger": {"split_records", "write_dataset_ledger"},
    "scores_score_answers": {"score_answers"},  # a job for each variant
    "verdicts_decide_verdict_write_run_report": {"decide_verdict", "write_run_report"},
}
ADAPTER = "results/runs/cards/adapter/adapter_model.safetensors"


def test_the_cluster_runs_a_job_on_two_nodes_each_with_its_gpu(slurm):
    shown = slurm.run("srun", "-N2", "--gres=gpu:1", "bash", "-c", "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES")
    assert sorted(shown.split("\n")) == ["", "n1 0", "n2 0"]


def test_a_cluster_that_could_not_tell_how_jobs_ended_is_refused(slurm, tmp_path):
    project, settings = Project.made_in(tmp_path), slurm.folder / "slurm.conf"
    before = settings.read_text()
    try:
        settings.write_text(before.replace("MinJobAge=600", "MinJobAge=60"))
        slurm.run("scontrol", "reconfigure")
        with workflow(project, slurm, "-n") as run:
            assert run.wait(timeout=300) != 0
    finally:
        settings.write_text(before)
        slurm.run("scontrol", "reconfigure")
    assert "Slurm forgets a job 60 s after its end" in (project.folder / "slurm.log").read_text()


@pytest.mark.parametrize("option", ["--workflow-profile", "--profile"])
def test_no_limit_of_this_machine_holds_for_the_cluster(slurm, tmp_path, option):
    project = Project.made_in(tmp_path)
    code = (
        "from snakemake.cli import parse_args; import sys; _, a = parse_args(sys.argv[1:]);"
        "print(a.executor, a.cores, a.resources, a.retries, a.jobs)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, option, "profiles/slurm"],
        cwd=project.folder,
        env=slurm.env_vars(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["slurm", "None", "{}", "2", "200"]


@pytest.fixture(scope="module")
def whole(slurm, tmp_path_factory):
    """A project with every stage, done by Slurm; training wants a GPU, tokenizing has too little memory at first."""
    project = Project.made_in(tmp_path_factory.mktemp("whole"))
    replace(project, "rules/train.smk", "mem_mb=megabytes(4000)", "mem_mb=megabytes(150)", after="rule tokenize_conv")
    replace(project, "rules/train.smk", "gpu=gpus_of_training", "gpu=1", after="rule train_adapter")
    return project, finish(project, slurm)


def test_every_job_is_done_by_slurm_but_downloads_and_drawings(whole, finished):
    _, jobs = whole
    rules = set(finished.planned("--forceall")) - LOCAL
    assert set().union(*(TOGETHER.get(name, {name}) for name in jobs)) == rules
    assert [len(jobs[name]) for name in TOGETHER] == [1, 4, 1]


def test_jobs_ask_for_what_their_rules_say(whole):
    _, jobs = whole
    merging = jobs["merge_adapter"][0]
    assert (merging["MinMemoryNode"], merging["TimeLimit"]) == ("4000M", "01:00:00")
    assert jobs["train_adapter"][0]["CPUs/Task"] == "2"


def test_a_rule_that_wants_a_gpu_gets_one_and_the_others_get_none(whole):
    _, jobs = whole
    with_gpu = {name for name, some in jobs.items() for job in some if "gpu:1" in job.get("JOB_GRES", "")}
    assert with_gpu == {"train_adapter"}


def test_a_job_that_outgrows_its_memory_is_tried_again_with_more(whole):
    _, jobs = whole
    first, *_, last = jobs["tokenize_conversations"]
    assert (first["MinMemoryNode"], first["JobState"] != "COMPLETED") == ("150M", True)
    assert (int(last["MinMemoryNode"].rstrip("M")) >= 300, last["JobState"]) == (True, "COMPLETED")


def test_the_cluster_makes_what_a_workstation_makes(whole, finished):
    project, _ = whole
    for path in (ADAPTER, "results/runs/cards/gguf/bf16.gguf"):
        assert (project.folder / path).read_bytes() == (finished.folder / path).read_bytes(), path
    answers = [(p.folder / "results/runs/cards/answers/bf16.jsonl").read_text() for p in (project, finished)]
    assert len({re.sub(r'"seconds": [0-9.e-]+', "", text) for text in answers}) == 1


def test_the_runs_of_a_sweep_go_as_arrays(slurm, finished, tmp_path):
    project = finished.copy(tmp_path / "sweep")
    replace(project, "config/config.yaml", "lora: {r: 4, alpha: 8}", "lora: {alpha: 8}\n    sweep: {lora.r: [2, 8]}")
    replace(project, "profiles/slurm/profile.yaml", "arrays: false", "arrays: true")
    for rule in ("tokenize_conversations", "train_adapter"):
        jobs = finish(project, slurm, "--until", rule)[rule]
        assert {job["ArrayTaskId"] for job in jobs} == {"1", "2"}
        assert len({job["ArrayJobId"] for job in jobs}) == 1
    trained = project.folder.glob("results/runs/cards-*/adapter/manifest.json")
    assert {path.parts[-3] for path in trained} == {"cards-r2", "cards-r8"}


@pytest.fixture(scope="module")
def undisturbed(finished, tmp_path_factory):
    """A project with a training of 24 steps of half a second or so, done on this machine up to the adapter."""
    project = finished.copy(tmp_path_factory.mktemp("undisturbed") / "project")
    records = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in raw_records(600))
    project.write("data/cards.jsonl", records)
    longer = "epochs: 1000, max_steps: 24, micro_batch: 2, accumulation: 30, checkpoint_steps: 1, eval_steps: 12"
    project.write("config/config.yaml", CONFIG.replace("max_steps: 2, micro_batch: 2, accumulation: 1", longer))
    for goal in ("tokenize_conversations", "train_adapter"):
        done = project.snakemake("--until", goal)
        assert done.returncode == 0, done.stdout
        if goal == "tokenize_conversations":
            before = project.copy(project.folder.with_name("before"))
    return project, before


class Training:
    """The only training of a workflow, as Slurm, its folder and its processes show it."""

    def __init__(self, project, slurm):
        self.project, self.slurm = project, slurm
        self.others = {job["JobId"] for job in slurm.jobs()}

    def job(self):
        """Return what Slurm says of its newest job."""
        jobs = [job for job in self.slurm.jobs() if job["JobId"] not in self.others]
        return max(jobs, key=lambda job: int(job["JobId"]), default={})

    def step(self):
        """Return the step of the last whole checkpoint."""
        whole = self.project.folder.glob("results/runs/cards/checkpoints/*/checkpoint-*/manifest.json")
        return max(
            (int(path.parent.name.split("-")[1]) for path in whole if "before" not in path.parent.name), default=0
        )

    def run_to(self, step):
        """Wait until it runs and has come to a step."""
        until(lambda: self.job().get("JobState") == "RUNNING" and self.step() >= step, f"step {step}", 900)

    def process(self):
        """Return the process id of its step."""
        (pid,) = {step for manager in self.slurm.steps(self.job()["NodeList"]) for step in steps_below(manager)}
        return pid


def has_pending(pid, number):
    """Say whether a stopped process will receive a signal once it goes on."""
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(re.search(r"^ShdPnd:\s*(\w+)$", status, re.MULTILINE)[1], 16) >> (number - 1) & 1)


@pytest.fixture(scope="module")
def disturbed(slurm, undisturbed, tmp_path_factory):
    """The same training on the cluster: its node dies, its job is cancelled, its time is up; then it may finish."""
    _, before = undisturbed
    project = before.copy(tmp_path_factory.mktemp("disturbed") / "project")
    replace(project, "profiles/slurm/profile.yaml", "warning: 300", "warning: 15")
    training, seen = Training(project, slurm), {}
    with workflow(project, slurm, "results/runs/cards/adapter/manifest.json") as run:
        training.run_to(2)
        seen["node"] = training.job()
        slurm.kill_node(seen["node"]["NodeList"])
        seen["steps"] = [training.step()]
        until(lambda: training.job()["Restarts"] == "1", "the job of a dead node is put back", 600)
        training.run_to(training.step() + 2)
        seen["after the node's death"] = training.job()
        slurm.start_node(seen["node"]["NodeList"])
        slurm.run("scancel", training.job()["JobId"])
        until(lambda: training.job()["JobId"] != seen["node"]["JobId"], "a cancelled job is submitted again", 600)
        seen["steps"].append(training.step())
        training.run_to(training.step() + 1)
        seen["after scancel"] = training.job()
        pid = training.process()
        os.kill(pid, signal.SIGSTOP)  # a minute's training without its computing
        seen["steps"].append(training.step())
        slurm.run("scontrol", "update", f"JobId={training.job()['JobId']}", "TimeLimit=1")
        until(lambda: has_pending(pid, signal.SIGURG), "training is warned", 300)
        os.kill(pid, signal.SIGCONT)
        until(lambda: training.job()["Restarts"] == "1", "a job whose time is up is put back", 600)
        slurm.run("scontrol", "update", f"JobId={training.job()['JobId']}", "TimeLimit=60")
        assert run.wait(timeout=900) == 0, (project.folder / "slurm.log").read_text()[-5000:]
        seen["end"] = training.job()
    return project, seen


def test_a_node_that_dies_loses_nothing(disturbed):
    _, seen = disturbed
    before, after = seen["node"], seen["after the node's death"]
    assert (after["JobId"], after["Restarts"]) == (before["JobId"], "1")
    assert after["NodeList"] != before["NodeList"]


def test_a_cancelled_job_is_submitted_again(disturbed):
    _, seen = disturbed
    assert seen["after scancel"]["JobId"] != seen["node"]["JobId"]


def test_a_training_whose_time_is_up_goes_back_into_the_queue_as_the_same_job(disturbed):
    _, seen = disturbed
    assert seen["end"]["JobId"] == seen["after scancel"]["JobId"]
    assert (seen["end"]["Restarts"], seen["end"]["JobState"]) == ("1", "COMPLETED")


def test_each_try_goes_on_where_the_one_before_it_ended(disturbed):
    """What the nodes' steps say arrives at the workflow's terminal, for the nodes are this machine."""
    project, seen = disturbed
    said = (project.folder / "slurm.log").read_text()
    steps = [int(step) for step in re.findall(r"continues from step (\d+) of 24", said)]
    death, cancel, limit = seen["steps"]
    assert steps[:2] == [death, cancel]
    assert limit <= steps[2] <= limit + 1  # the warning comes in a step, and the step is done first
    assert len(steps) == 3


def test_a_disturbed_training_ends_with_the_same_bytes(disturbed, undisturbed):
    project, before = disturbed[0], undisturbed[0]
    assert (project.folder / ADAPTER).read_bytes() == (before.folder / ADAPTER).read_bytes()
