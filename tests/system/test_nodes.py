"""One training on two nodes of a real Slurm, begun by the workflow: srun, and a launcher with its process on each."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from scripts.common.files import check_manifest, read_json
from scripts.train.tokenize_conversations import tokenize_dataset
from tests.support.slurm import until
from tests.support.training import make_dataset, run_settings

ROOT = Path(__file__).parents[2]
RUN = "results/runs/cards"


@pytest.fixture(scope="module")
def on_two_nodes(finished, slurm, tmp_path_factory):
    """The finished project, its run trained once more: on two nodes, on shares of the weights."""
    project = finished.copy(tmp_path_factory.mktemp("nodes") / "project")
    config = (project.folder / "config/config.yaml").read_text()
    project.write("config/config.yaml", config.replace("max_steps: 2,", "max_steps: 2, nodes: 2, sharding: fsdp,"))
    # What a cluster that is this machine needs otherwise: files are seen at once, and jobs end within seconds.
    flags = ("--workflow-profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "2")
    done = project.snakemake(
        f"{RUN}/adapter/manifest.json", *flags, "--latency-wait", "5", environment=slurm.environment
    )
    assert done.returncode == 0, done.stdout
    return project


def test_slurm_gives_the_training_two_nodes_with_a_task_on_each(on_two_nodes, slurm):
    # The cluster may have had trainings of other tests before.
    job = [job for job in slurm.jobs() if "train_adapter" in job.get("Comment", "")][-1]
    assert (job["NumNodes"], job["NumTasks"], job["JobState"]) == ("2", "2", "COMPLETED")


def test_two_nodes_learn_what_one_process_learns(on_two_nodes, finished):
    one, two = (read_json(project.folder / RUN / "training.json") for project in (finished, on_two_nodes))
    assert [two[key] for key in ("processes", "sharding", "micro_batch", "accumulation")] == [2, "fsdp", 1, 1]
    # One process has two rows in its micro-batch and two have one each: dropout, which is by micro-batch, differs.
    assert two["best_eval_loss"] == pytest.approx(one["best_eval_loss"], rel=1e-3)
    assert check_manifest(on_two_nodes.folder / RUN / "adapter/manifest.json", hashes=True)


def test_sigterm_to_the_launcher_stops_both_nodes_with_a_checkpoint(tiny_base, slurm, tmp_path):
    settings = run_settings(training={"nodes": 2, "epochs": 500, "checkpoint_steps": 1})
    tokenize_dataset(make_dataset(tmp_path / "dataset"), tiny_base, tmp_path / "tokens", settings["tokens"])
    named = {"base": tiny_base, "checkpoints": tmp_path / "checkpoints", "output": tmp_path / "adapter"}
    named |= {"curve": tmp_path / "curve.jsonl", "facts": tmp_path / "training.json", "log": tmp_path / "log"}
    words = [str(word) for key, value in named.items() for word in (f"--{key}", value)]
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    train = [sys.executable, ROOT / "scripts/train/train_model.py", tmp_path / "tokens", *words]
    train += ["--settings", f"@{tmp_path}/settings.json"]
    script = f"#!/bin/sh\nexport PYTHONPATH={ROOT}\necho $$ >{tmp_path}/pid\nexec {' '.join(map(str, train))}\n"
    (tmp_path / "job.sh").write_text(script)
    room = ("--nodes=2", "--ntasks=2", "--cpus-per-task=2", "--mem=6000", f"--output={tmp_path}/said")
    slurm.run("sbatch", *room, str(tmp_path / "job.sh"))
    until(lambda: list(tmp_path.glob("checkpoints/*/checkpoint-*/manifest.json")), "a checkpoint is there", 900)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)
    until(lambda: slurm.jobs()[-1]["JobState"] == "FAILED", "the job ends")
    assert (tmp_path / "said").read_text().count("stopped by SIGTERM after step") == 1


def test_each_nodes_processes_get_the_gpus_that_slurm_gave_them(slurm, tmp_path):
    program = tmp_path / "launcher.py"
    program.write_text(
        "import sys\n"
        "from argparse import Namespace\n"
        "from pathlib import Path\n"
        "from scripts.common.gpu_locks import take_devices\n"
        "from scripts.train.launch import run_on_nodes\n"
        "from tests.support.training import run_settings\n"
        "take_devices(0)\n"  # as the step does, whose `--gpus` are 0 on several nodes
        'say = \'import os; e = os.environ; print(e["RANK"], e["WORLD_SIZE"], e["CUDA_VISIBLE_DEVICES"])\'\n'
        "settings = run_settings(training={'nodes': 2})\n"
        "arguments = Namespace(settings=settings, threads=2, log=None)\n"
        "sys.exit(run_on_nodes([sys.executable, '-c', say], arguments, Path(sys.argv[1])))\n"
    )
    job = f"#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} {program} {tmp_path}\n"
    (tmp_path / "job.sh").write_text(job)
    room = ("--nodes=2", "--ntasks=2", "--gres=gpu:1", "--cpus-per-task=2", "--mem=2000", f"--output={tmp_path}/said")
    slurm.run("sbatch", "--wait", *room, str(tmp_path / "job.sh"))
    assert sorted((tmp_path / "said").read_text().splitlines()) == ["0 2 0", "1 2 0"]
