"""The DAG of everything that is shipped can be built, faults of a configuration stop it, and parsing is cheap."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from scripts.model.chat_templates import BUILT_IN_TEMPLATES
from tests.support.project import ROOT, Project, planned_jobs, run_snakemake

RECIPES = sorted(path.stem for path in (ROOT / "config/recipes").glob("*.yaml"))
FETCHED = {"fetch_hub_model"}
MADE = {"build_embedded_model"}
HEAVY = "torch transformers trl peft datasets pandas numpy pyarrow matplotlib llama_cpp gguf sentencepiece scipy"
# Notes each import of a heavy module while a file of ours is on the stack, even if it is loaded already (pandas is, by
# a plugin of Snakemake).
WATCHER = """
import builtins, os, sys

HEAVY = set(os.environ["WATCHED"].split())
plain_import = builtins.__import__

def watching_import(name, *arguments, **options):
    if name.split(".")[0] in HEAVY:
        frame = sys._getframe(1)
        while frame:
            if frame.f_code.co_filename.startswith(os.environ["WATCHED_ROOT"]):
                with open(os.environ["WATCHED_LOG"], "a") as log:
                    log.write(f"{name} by {frame.f_code.co_filename}\\n")
                break
            frame = frame.f_back
    return plain_import(name, *arguments, **options)

builtins.__import__ = watching_import
"""


@pytest.fixture
def workflow(tmp_path):
    """A copy of the repository without results."""
    folder = tmp_path / "workflow"
    ignore = shutil.ignore_patterns(".*", "results", "__pycache__", "tests")
    shutil.copytree(ROOT, folder, ignore=ignore)
    return folder


# Trainings, heads, bundles and scored variants of each recipe.
PLANNED = {
    "football": (1, 0, 1, 6),
    "stories": (1, 0, 1, 6),
    "titles": (1, 0, 1, 5),
    "pii": (1, 1, 2, 7),
    "captions": (2, 0, 2, 12),
    "captions-sweep": (6, 0, 12, 48),
}


# On the embedded model the other recipes run from end to end: tests/system/test_recipes.py.
@pytest.mark.parametrize(("recipe", "embedded"), [*((recipe, False) for recipe in RECIPES), ("captions-sweep", True)])
def test_a_recipe_can_be_planned_with_and_without_the_embedded_model(workflow, recipe, embedded):
    files = [f"config/recipes/{recipe}.yaml", *(["config/embedded.yaml"] if embedded else [])]
    done = run_snakemake(workflow, "-n", "--configfile", *files)
    assert done.returncode == 0, done.stdout
    assert len(done.stdout.splitlines()) < 25
    jobs = planned_jobs(done.stdout)
    assert (jobs.keys() & (FETCHED | MADE)) == (MADE if embedded else FETCHED)
    counted = ("train_adapter", "train_head", "build_bundle", "score_answers")
    assert tuple(jobs[rule] for rule in counted) == PLANNED[recipe]
    assert ("GPU memory, estimated" in done.stdout) != embedded


def test_the_demo_plans_every_stage_for_both_datasets(workflow):
    done = run_snakemake(workflow, "-n")
    assert done.returncode == 0, done.stdout
    assert len(done.stdout.splitlines()) < 25
    stages = re.findall(r"^  (\w+) +\w+ \d", done.stdout, re.MULTILINE)
    assert stages == ["dataset", "model", "train", "gguf", "predict", "score", "deploy"]
    jobs = planned_jobs(done.stdout)
    assert jobs["ingest_records"] == 2
    once = ("dequantize_gguf", "train_adapter", "train_head", "check_parity", "write_leaderboard")
    assert [jobs[rule] for rule in once] == [1] * 5
    assert jobs["build_bundle"] == 2


def test_a_sweep_trains_each_combination_and_shares_the_rest(tmp_path):
    project = Project.made_in(tmp_path)
    with project.edited(
        "config/config.yaml", lambda t: t.replace("    lora: {r: 4", "    sweep: {lora.r: [4, 8, 16]}\n    lora: {r: 4")
    ):
        jobs = project.planned()
    assert jobs["train_adapter"] == 3
    assert jobs["ingest_records"] == jobs["build_embedded_model"] == 1


def test_the_leaderboard_of_a_thousand_runs_gets_them_by_a_pipe(tmp_path):
    """One argument of a program has room for 128 KiB."""
    project = Project.made_in(tmp_path)
    with project.edited(
        "config/config.yaml", lambda t: t.replace("    lora: {r: 4", "    sweep: {lora.r: [4, 8, 16]}\n    lora: {r: 4")
    ):
        printed = project.snakemake("-n", "-p", "results/leaderboard.csv").stdout
    command = printed[printed.index("printf %s") :].partition("--log results/logs/score/write_leaderboard/")[0]
    runs, program = command.split(" | python ")
    assert all(f'"cards-r{r}"' in runs and f"cards-r{r}" not in program for r in (4, 8, 16))
    runs = json.dumps({"runs": [], "padding": "x" * 200_000})
    step = f"{ROOT}/scripts/score/write_leaderboard.py {tmp_path} --csv {tmp_path}/l.csv --page {tmp_path}/l.html"
    (tmp_path / "command").write_text(f"printf %s '{runs}' | {sys.executable} {step} --settings @/dev/stdin")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(["bash", "-eo", "pipefail", tmp_path / "command"], env=environment, check=True)
    assert (tmp_path / "l.csv").read_text(encoding="utf-8").startswith("dataset,rank,run,")


def test_another_working_directory_and_another_results_folder_work(workflow, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    config = workflow / "config/recipes/stories.yaml"
    arguments = ("--snakefile", str(workflow / "Snakefile"), "--configfile", str(config))
    done = run_snakemake(tmp_path / "elsewhere", "-np", *arguments, "--config", 'pathvars={"results": "made"}')
    assert done.returncode == 0, done.stdout
    assert "made/runs/stories/bundle/SHA256SUMS" in done.stdout
    assert "made/logs/deploy/build_bundle/stories.log" in done.stdout
    assert "made/benchmarks/deploy/build_bundle/stories.tsv" in done.stdout


def test_faults_of_the_configuration_are_listed_before_anything_is_planned(tmp_path):
    project = Project.made_in(tmp_path)

    def broken(text):
        text = text.replace("lora: {r: 4", "lora: {rank: 4").replace("seed: 1}", "seed: 1, train: 0.7}")
        return text.replace("data/cards.jsonl", "data/card.jsonl").replace(
            "small:", "small:\n    chat_template: mistrl"
        )

    with project.edited("config/config.yaml", broken):
        done = project.snakemake("-n")
    assert done.returncode == 1
    assert "Traceback" not in done.stdout
    known = ", ".join(sorted(BUILT_IN_TEMPLATES))
    named = [line.removeprefix("config/config.yaml:") for line in done.stdout.splitlines() if "config.yaml:" in line]
    assert named == [
        "9: datasets.cards.splits.train: stands twice, first in line 9",
        "18: runs.cards.lora.rank: unknown key, did you mean 'r'?",
        "9: datasets.cards.splits: the shares add up to 1.1, not to 1: train + validation + test must be 1",
        "4: datasets.cards.files: 'data/card.jsonl' does not exist, did you mean 'data/cards.jsonl'?",
        f"12: models.small.chat_template: 'mistrl' is neither built in ({known}) nor a file, did you mean 'mistral'?",
    ]
    assert len(done.stdout.splitlines()) <= 1 + len(named)


def test_parsing_the_snakefile_imports_nothing_heavy(workflow, tmp_path):
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch/sitecustomize.py").write_text(WATCHER, encoding="utf-8")
    log = tmp_path / "imports.log"
    environment = {
        "PYTHONPATH": str(tmp_path / "watch"),
        "WATCHED": HEAVY,
        "WATCHED_ROOT": str(workflow) + os.sep,
        "WATCHED_LOG": str(log),
    }
    done = run_snakemake(workflow, "-n", environment=environment)
    assert done.returncode == 0, done.stdout
    assert not log.exists(), log.read_text(encoding="utf-8")

    # the watcher does see such an import
    common = workflow / "rules/common.smk"
    common.write_text("import sqlite3\n" + common.read_text(encoding="utf-8"), encoding="utf-8")
    run_snakemake(workflow, "-n", environment=environment | {"WATCHED": f"{HEAVY} sqlite3"})
    assert "sqlite3 by" in log.read_text(encoding="utf-8")
    assert str(common) in log.read_text(encoding="utf-8")
