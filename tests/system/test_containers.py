"""The whole workflow in its container images: built here from Debian and the locks, run by Snakemake, compared."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from scripts.common.files import read_json, read_jsonl, sha256_of
from scripts.workflow.container_images import IMAGES, content_digest
from scripts.workflow.container_settings import bound_arguments, passed_variables
from tests.support.images import ENVIRONMENTS, build_images, use_images
from tests.support.process_tree import RunningWorkflow
from tests.support.project import ROOT, Project
from tests.support.slurm import Slurm, until
from tests.support.slurm_workflow import PROFILE, finish, replace
from tests.support.slurm_workflow import workflow as submitted

DATASET, RUN = "results/datasets/cards", "results/runs/cards"
VARIANTS = ("base", "adapter", "merged", "bf16")
POISON = "raise SystemExit('poisoned: ' + __file__)\n"
MARK = "import sys; open({marker!r}, 'a').write(' '.join(sys.argv) + chr(10))\n"


def project_in(folder: Path) -> Project:
    """Make the small project in a folder, with the images of this checkout."""
    project = Project.made_in(folder)
    use_images(folder)
    return project


def plant_poison(home: Path, marker: Path) -> dict[str, str]:
    """Plant modules and start-up files of another Python in a home folder; return the environment that leads there."""
    user_site = home / ".local/lib/python3.11/site-packages"
    elsewhere = home / "modules"
    for folder in (user_site, elsewhere):
        folder.mkdir(parents=True)
        (folder / "sitecustomize.py").write_text(MARK.format(marker=str(marker)))
        (folder / "usercustomize.py").write_text(MARK.format(marker=str(marker)))
        # None of these is imported by Snakemake itself, which runs in the poisoned environment.
        for name in ("torch", "transformers", "llama_cpp", "datasets", "safetensors", "sacrebleu"):
            (folder / f"{name}.py").write_text(POISON)
    (home / "startup.py").write_text(POISON)
    (home / "startup.sh").write_text("echo poisoned by BASH_ENV >&2; exit 3\n")
    return {
        "HOME": str(home),
        "PYTHONPATH": f"{elsewhere}{os.pathsep}{ROOT}",
        "PYTHONSTARTUP": str(home / "startup.py"),
        "PYTHONUSERBASE": str(home / ".local"),
    }


def poisoned_steps(marker: Path) -> list[str]:
    """Return the steps that ran a start-up file of the host."""
    return [line for line in marker.read_text().splitlines() if "scripts/" in line] if marker.exists() else []


@pytest.fixture(scope="session")
def contained(images, tmp_path_factory) -> Project:
    """The small project, made in containers while the host's Python is poisoned all around."""
    folder = tmp_path_factory.mktemp("contained")
    (folder / "project").mkdir()
    project = project_in(folder / "project")
    marker = folder / "marker"
    poison = plant_poison(folder / "home", marker)
    # What Snakemake makes the home folder of a container.
    plant_poison(folder / "project", marker)
    poison |= {"BASH_ENV": f"{folder}/home/nothing.sh", "LD_LIBRARY_PATH": f"{folder}/nowhere", "CONDA_PREFIX": "/none"}
    done = project.snakemake("--sdm", "apptainer", "--quiet", "host", "reason", "rules", environment=poison)
    assert done.returncode == 0, done.stdout
    assert not poisoned_steps(marker)
    return project


def digests(project: Project, *folders: str, suffix: str = "") -> dict[str, str]:
    """Return the SHA-256 of the files below folders of a project."""
    files = [file for folder in folders for file in project.files(folder) if file.name.endswith(suffix)]
    assert files
    return {str(file.relative_to(project.folder)): sha256_of(file) for file in files}


def test_records_tokens_weights_and_gguf_are_the_same_bytes_as_without_containers(contained, finished):
    for folder, suffix in [
        ("results/datasets", ".jsonl"),
        ("results/models", ".safetensors"),
        (f"{RUN}/tokens", ".arrow"),
        (f"{RUN}/adapter", ".safetensors"),
        (f"{RUN}/merged", ".safetensors"),
        (f"{RUN}/gguf", ".gguf"),
        ("results/tools", ".py"),
    ]:
        assert digests(contained, folder, suffix=suffix) == digests(finished, folder, suffix=suffix), folder


class OnTheCluster:
    """The first steps of the small project in the containers of Slurm's jobs, the user's Python poisoned all around.

    The submitting machine has a folder for temporary files that the nodes don't have.
    """

    SEEN = 'echo "$CUDA_VISIBLE_DEVICES" "$SLURM_JOB_ID" >seen;'
    ELSEWHERE = (
        '[ "$SNAKETUNE_JOB" ] || { mkdir -p "$TMPDIR-of-node"; rm -rf "$TMPDIR"; export TMPDIR="$TMPDIR-of-node"; }'
    )

    def __init__(self, folder: Path, slurm: Slurm):
        for name in ("project", "temporary"):
            (folder / name).mkdir()
        self.project, self.marker = project_in(folder / "project"), folder / "marker"
        poison = plant_poison(folder / "home", self.marker)
        plant_poison(folder / "project", self.marker)
        replace(self.project, "rules/dataset.smk", "python {params", f"{self.SEEN} python {{params")
        replace(self.project, PROFILE + "/job.sh", "\nif [", f"\n{self.ELSEWHERE}\nif [")
        self.jobs = finish(
            self.project,
            slurm,
            f"{DATASET}/ledger.json",
            *("--sdm", "apptainer", "--set-resources", "ingest_records:gpu=1"),
            environment={**poison, "TMPDIR": str(folder / "temporary")},
        )


@pytest.fixture(scope="module")
def on_the_cluster(images, slurm, tmp_path_factory) -> OnTheCluster:
    """The first steps of the small project, in containers on a cluster."""
    return OnTheCluster(tmp_path_factory.mktemp("cluster"), slurm)


def test_the_jobs_of_a_cluster_run_in_the_image_of_their_step(on_the_cluster, images):
    logs = [file.read_text() for file in on_the_cluster.project.files(".snakemake/slurm_logs")]
    activated = [line for log in logs for line in log.splitlines() if line.startswith("Activating singularity image")]
    assert [line.rpartition("/")[2] for line in activated] == [images["dataset"].name] * 3
    assert sum(map(len, on_the_cluster.jobs.values())) == 2


def test_a_poisoned_python_of_the_user_is_seen_by_a_clusters_jobs_and_not_by_their_steps(on_the_cluster):
    assert "--target-jobs ingest_records" in on_the_cluster.marker.read_text(), (
        "the poison reached no job: this test tests nothing"
    )
    assert not poisoned_steps(on_the_cluster.marker)


def test_a_container_sees_the_gpu_that_slurm_gave_its_job(on_the_cluster):
    (job,) = on_the_cluster.jobs["ingest_records"]
    assert (on_the_cluster.project.folder / "seen").read_text().split() == ["0", job["JobId"]]


def test_a_dataset_is_the_same_on_a_cluster_in_containers(on_the_cluster, finished):
    assert digests(on_the_cluster.project, DATASET, suffix=".jsonl") == digests(finished, DATASET, suffix=".jsonl")


def test_a_poisoned_python_of_the_user_changes_nothing_without_containers(finished, tmp_path):
    (tmp_path / "project").mkdir()
    project = Project.made_in(tmp_path / "project")
    poison = plant_poison(tmp_path / "home", tmp_path / "marker")
    target = f"{RUN}/tokens/train.arrow"
    done = project.snakemake(target, "--quiet", "host", "reason", "rules", environment=poison)
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "marker").exists(), "the poison reached not even Snakemake: this test tests nothing"
    assert not poisoned_steps(tmp_path / "marker")
    assert digests(project, target.rpartition("/")[0], suffix=".arrow") == digests(
        finished, target.rpartition("/")[0], suffix=".arrow"
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_answers_and_scores_are_those_without_containers(contained, finished, variant):
    def answers(project):
        rows = read_jsonl(project.folder / RUN / "answers" / f"{variant}.jsonl")
        return [{key: value for key, value in row.items() if "seconds" not in key} for row in rows]

    def scores(project):
        found = read_json(project.folder / RUN / "scores" / f"{variant}.json")
        return json.loads(json.dumps(found), object_hook=lambda d: {k: v for k, v in d.items() if "seconds" not in k})

    assert answers(contained) == answers(finished)
    assert scores(contained) == scores(finished)


class LongTraining:
    """A copy of the project whose training takes long, and writes no checkpoint but the one at a signal."""

    def __init__(self, project: Project, folder: Path):
        self.project = project.copy(folder / "project")
        longer = "epochs: 20000, eval_steps: 100000, logging_steps: 5,"
        replace(self.project, "config/config.yaml", "max_steps: 2,", longer)
        self.facts, self.log = (
            f"{RUN}/training.json",
            self.project.folder / "results/logs/train/train_adapter/cards.log",
        )
        self.log.unlink()

    def wait(self) -> None:
        """Wait until it has made steps."""
        until(lambda: self.log.exists() and "'loss'" in self.log.read_text(encoding="utf-8"), "it has made steps", 900)

    def assert_stopped(self, why: str) -> None:
        """Assert that it says why it stopped, and after which step, and that the checkpoint of that step is there."""
        step = re.search(rf"stopped by {why} after step (\d+) of", self.log.read_text(encoding="utf-8"))
        assert step, self.log.read_text(encoding="utf-8")[-3000:]
        assert list((self.project.folder / RUN / "checkpoints").glob(f"*/checkpoint-{step[1]}/manifest.json"))


def test_sigterm_to_snakemake_lets_a_training_in_a_container_write_its_checkpoint(contained, tmp_path):
    training = LongTraining(contained, tmp_path)
    workflow = RunningWorkflow(training.project.folder, training.facts, "--sdm", "apptainer")
    try:
        training.wait()
        os.kill(workflow.pid, signal.SIGTERM)
        assert workflow.finish(300) == 1
    finally:
        if workflow.alive():
            workflow.kill_tree()
    training.assert_stopped("SIGTERM")


def test_the_warning_of_a_time_limit_lets_a_training_in_a_container_write_its_checkpoint(contained, slurm, tmp_path):
    training = LongTraining(contained, tmp_path)
    with submitted(training.project, slurm, training.facts, "--sdm", "apptainer"):
        training.wait()
        job = slurm.jobs()[-1]["JobId"]
        slurm.run("scancel", "--batch", "--signal=USR1", job)
        until(lambda: slurm.jobs()[-1]["Restarts"] == "1", "the job goes back into the queue", 600)
        slurm.run("scancel", job)
    training.assert_stopped("the warning of a time limit")


def test_nothing_is_left_to_do_afterwards(contained):
    assert not contained.planned("--sdm", "apptainer")


def test_of_the_hosts_environment_a_container_has_what_is_named_and_nothing_else(images, tmp_path):
    poison = {**plant_poison(tmp_path, tmp_path / "marker"), "LD_LIBRARY_PATH": "/nowhere", "CONDA_PREFIX": "/none"}
    host = {**os.environ, **poison, "OMP_NUM_THREADS": "3", "HF_TOKEN": "hf_planted", "A_SECRET": "planted"}
    host |= passed_variables(host, "apptainer")
    command = f"apptainer exec --home {tmp_path} {bound_arguments([])} {images['dataset']} env -0"
    done = subprocess.run(["bash", "-c", command], env=host, cwd=tmp_path, capture_output=True, text=True, check=True)
    found = dict(line.split("=", 1) for line in done.stdout.split("\0") if line)
    assert found["OMP_NUM_THREADS"] == "3"
    assert found["HF_TOKEN"] == "hf_planted"
    assert not {name for name in found if name.startswith(("PYTHON", "CONDA"))} - {"PYTHONNOUSERSITE"}
    assert "planted" not in [value for name, value in found.items() if name != "HF_TOKEN"]
    assert "/nowhere" not in found["LD_LIBRARY_PATH"]


def test_data_outside_the_working_directory_is_seen_through_links(images, tmp_path):
    # Apptainer shows /tmp by itself, so the data lies elsewhere.
    with tempfile.TemporaryDirectory(dir=Path.home()) as outside:
        project = project_in(tmp_path)
        cards = project.folder / "data/cards.jsonl"
        shutil.move(cards, Path(outside) / "store.jsonl")
        (Path(outside) / "seen").mkdir()
        (Path(outside) / "seen" / "cards.jsonl").symlink_to(Path(outside) / "store.jsonl")
        cards.symlink_to(Path(outside) / "seen" / "cards.jsonl")
        done = project.snakemake("results/datasets/cards/ingested.parquet", "--sdm", "apptainer")
        assert done.returncode == 0, done.stdout


def test_images_that_are_not_there_are_one_clear_line(tmp_path):
    project = project_in(tmp_path)
    (tmp_path / IMAGES).unlink()
    done = project.snakemake("-n", "--sdm", "apptainer")
    assert done.returncode == 1
    assert "no container image of dataset, gguf, score, train" in done.stdout
    assert 'make containers ENVS="dataset gguf score train" TORCH=cpu' in done.stdout
    assert "Traceback" not in done.stdout


def test_what_is_built_is_not_built_again(images):
    lines = build_images().splitlines()
    assert lines == [f"{image.name}: unchanged" for image in images.values()]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_an_image_says_what_it_is_and_has_no_compiler_and_no_pip(images, environment):
    inspect = ["apptainer", "inspect", "--json", str(images[environment])]
    labels = json.loads(subprocess.run(inspect, capture_output=True, text=True, check=True).stdout)
    labels = labels["data"]["attributes"]["labels"]
    lock = f"{environment}.cpu.lock" if environment in ("train", "gguf") else f"{environment}.lock"
    assert labels["snaketune.lock.sha256"] == content_digest(ROOT / "envs" / lock)
    assert labels["snaketune.variant"] == ("cpu" if environment in ("train", "gguf") else "any")
    assert labels["org.opencontainers.image.version"]
    look = "command -v gcc g++ cmake make pip; ls -d /build /root/.cache /mnt/*; python -c 'import pip'"
    command = ["apptainer", "exec", "--cleanenv", "--no-home", str(images[environment]), "bash", "-c", look]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == ""
    assert "No module named 'pip'" in done.stderr
