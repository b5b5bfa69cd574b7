"""Two workflows in one folder, workflows that are ended, and steps whose workflow is killed."""

import json
import os
import re
import signal
import time

import pytest

from scripts.common.parent_watchdog import OWNER
from scripts.workflow.folder_lock import LOCK_FILE, FolderInUseError, held, owned
from tests.support.process_tree import RunningWorkflow, is_gone, wait_until_gone

CONFIG = "config/config.yaml"
FACTS = "results/runs/cards/training.json"


@pytest.fixture
def project(finished, tmp_path):
    """A copy of the finished project, whose training is now to take long."""
    copy = finished.copy(tmp_path / "project")
    config = (copy.folder / CONFIG).read_text(encoding="utf-8")
    copy.write(CONFIG, config.replace("max_steps: 2,", "epochs: 20000, checkpoint_steps: 10,"))
    return copy


@pytest.fixture
def running(project):
    """A workflow that trains in that project; it is killed at the end."""
    workflow = RunningWorkflow(project.folder, FACTS)
    workflow.training = workflow.wait_for_step("train_model")
    yield workflow
    if workflow.alive():
        workflow.kill_tree()


def end_soon(project) -> None:
    """Let the training be short again, so that a workflow ends."""
    config = (project.folder / CONFIG).read_text(encoding="utf-8")
    project.write(CONFIG, config.replace("epochs: 20000, checkpoint_steps: 10,", "max_steps: 2,"))


def wait_for_checkpoint(project) -> None:
    """Wait until the training has written something to go on from."""
    end = time.monotonic() + 600
    while not list((project.folder / "results/runs/cards/checkpoints").glob("*/checkpoint-*/manifest.json")):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_second_workflow_is_refused_in_one_line_and_goes_on_when_the_first_is_killed(project, running):
    second = project.snakemake(FACTS, "--quiet", "host", "reason", "rules")
    assert second.returncode == 1
    said = [line for line in second.stdout.splitlines() if "Another snakemake is running in this folder" in line]
    assert len(said) == 1
    assert f"process {running.pid} on " in said[0]
    assert "Traceback" not in second.stdout
    assert "File " not in second.stdout
    assert not is_gone(running.training)
    # What only looks goes on beside it.
    report = ["--report", "report.html", "results/datasets/cards/ledger.html"]
    for words in (["--dry-run"], ["--lint"], ["--summary"], report):
        beside = project.snakemake(*words)
        assert beside.returncode == 0, beside.stdout
    # --unlock takes Snakemake's own lock away, and yet the first is not disturbed.
    assert project.snakemake("--unlock").returncode == 0
    quiet = project.snakemake(FACTS, "--quiet", "all")
    assert quiet.returncode == 1
    assert f"process {running.pid} on " in quiet.stdout, "the logger says nothing, we do"
    running.kill_tree()
    end_soon(project)
    third = project.snakemake(FACTS, "--quiet", "host", "reason", "rules")
    assert third.returncode == 0, third.stdout
    assert "lock of a killed run" not in third.stdout, "--unlock had removed it"


@pytest.mark.parametrize("how", ["SIGTERM", "Ctrl-C"])
def test_a_signal_ends_the_workflow_and_all_below_it_at_a_checkpoint(project, running, how):
    wait_for_checkpoint(project)
    tree = [running.pid, *running.steps()]
    if how == "SIGTERM":
        os.kill(running.pid, signal.SIGTERM)
    else:
        os.killpg(running.pid, signal.SIGINT)  # a terminal tells all that it started
    assert running.finish(300) == 1
    wait_until_gone(tree)
    said = running.said()
    assert re.search(rf"stopped by {how} after step \d+ of \d+", said), said
    assert "Finished jobs are kept" in said
    assert not (project.folder / ".snakemake/locks").exists()
    end_soon(project)
    assert project.snakemake(FACTS, "--quiet", "host", "reason", "rules").returncode == 0


def test_a_step_whose_workflow_was_killed_stops_and_is_not_in_the_way(project, running):
    wait_for_checkpoint(project)
    os.kill(running.pid, signal.SIGKILL)
    running.process.wait()
    end_soon(project)
    again = project.snakemake(FACTS, "--quiet", "host", "reason", "rules")
    assert again.returncode == 0, again.stdout
    assert "Removed the lock of a killed run" in again.stdout
    assert is_gone(running.training)


def test_a_lock_of_another_machine_is_left_alone(project):
    """It may be at work in a folder that both see, whose locks this one does not know of."""
    first = RunningWorkflow(project.folder, FACTS)
    first.wait_for_step("train_model")
    first.kill_tree()
    path = project.folder / ".snakemake" / LOCK_FILE
    owner = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**owner, "host": "node7", "machine": "another"}), encoding="utf-8")
    end_soon(project)
    refused = project.snakemake(FACTS, "--quiet", "host", "reason", "rules")
    assert refused.returncode == 1
    assert "--unlock" in refused.stdout
    assert project.snakemake("--unlock").returncode == 0
    assert project.snakemake(FACTS, "--quiet", "host", "reason", "rules").returncode == 0


def test_the_lock_file_is_held_by_one_and_says_by_whom(tmp_path, monkeypatch):
    monkeypatch.setattr("scripts.workflow.folder_lock.PATIENCE", 0)
    with held(tmp_path / "lock") as may_remove, owned(tmp_path / "lock"):
        assert may_remove
        assert os.environ[OWNER].endswith(str(tmp_path / "lock"))
        with pytest.raises(FolderInUseError, match=rf"process {os.getpid()} on "), held(tmp_path / "lock"):
            pass
    assert OWNER not in os.environ
    with held(tmp_path / "lock") as may_remove:
        assert may_remove
