"""Everything that is shipped can be planned, and commands that the summary and the Makefile name work as typed."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.score.print_summary import RESULTS, next_commands
from tests.support.project import ROOT, Project, planned_jobs, run_snakemake, without_make

SWEEP = ("    lora: {r: 4", "    sweep: {lora.r: [4, 8, 16]}\n    lora: {r: 4")
HEAVY = "torch transformers trl peft datasets pandas numpy pyarrow matplotlib llama_cpp gguf sentencepiece scipy"
# Notes each import of a heavy module while a file of ours is on the stack, even if it is loaded already (pandas is, by
# a plugin of Snakemake).
WATCHER = """
import builtins, os, sys

plain_import = builtins.__import__

def watching_import(name, *arguments, **options):
    if name.split(".")[0] in os.environ["WATCHED"].split():
        frame = sys._getframe(1)
        while frame and not frame.f_code.co_filename.startswith(os.environ["WATCHED_ROOT"]):
            frame = frame.f_back
        if frame:
            with open(os.environ["WATCHED_LOG"], "a") as log:
                log.write(f"{name} by {frame.f_code.co_filename}\\n")
    return plain_import(name, *arguments, **options)

builtins.__import__ = watching_import
"""
RECIPES = sorted((ROOT / "config/recipes").glob("*.yaml"))
# Trainings, heads, bundles and scored variants of each recipe.
PLANNED = {
    "football": (1, 0, 1, 6), "stories": (1, 0, 1, 6), "titles": (1, 0, 1, 5), "pii": (1, 1, 2, 7),
    "captions": (2, 0, 2, 12), "captions-sweep": (6, 0, 12, 48),
}  # fmt: skip


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the repository without results, with this environment as its .venv."""
    folder = tmp_path_factory.mktemp("commands") / "snaketune"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".*", "results", "__pycache__", "tests"))
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def typed(folder: Path, command: str) -> str:
    """Return what a shell with next to no environment prints; the command has to succeed."""
    words = ["env", "-i", "PATH=/usr/bin:/bin", f"HOME={folder.parent}", "bash", "-c", command]
    done = subprocess.run(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout


# On the embedded model the other recipes run from end to end: tests/system/test_recipes.py.
@pytest.mark.parametrize(("recipe", "embedded"), [*((path.stem, False) for path in RECIPES), ("captions-sweep", True)])
def test_a_recipe_can_be_planned_with_and_without_the_embedded_model(checkout, recipe, embedded):
    files = [f"config/recipes/{recipe}.yaml", *(["config/embedded.yaml"] if embedded else [])]
    done = run_snakemake(checkout, "-n", "--configfile", *files)
    assert done.returncode == 0, done.stdout
    assert len(done.stdout.splitlines()) < 25
    jobs = planned_jobs(done.stdout)
    made = jobs.keys() & {"fetch_hub_model", "build_embedded_model"}
    assert made == {"build_embedded_model" if embedded else "fetch_hub_model"}
    counted = ("train_adapter", "train_head", "build_bundle", "score_answers")
    assert PLANNED[recipe] == tuple(jobs[rule] for rule in counted)
    assert ("GPU memory, estimated" in done.stdout) != embedded


def test_the_demo_plans_every_stage_for_both_datasets_and_parsing_imports_nothing_heavy(checkout, tmp_path):
    log = tmp_path / "imports.log"
    (tmp_path / "sitecustomize.py").write_text(WATCHER, encoding="utf-8")
    workflow = Path(shutil.copytree(checkout, tmp_path / "workflow", symlinks=True))
    common = workflow / "rules/common.smk"
    common.write_text("import sqlite3\n" + common.read_text(encoding="utf-8"), encoding="utf-8")
    watched = {"WATCHED": f"{HEAVY} sqlite3", "WATCHED_ROOT": f"{workflow}{os.sep}", "WATCHED_LOG": str(log)}
    done = run_snakemake(workflow, "-n", environment={"PYTHONPATH": str(tmp_path), **watched})
    assert done.returncode == 0, done.stdout
    assert set(log.read_text(encoding="utf-8").splitlines()) == {f"sqlite3 by {common}"}  # the watcher sees imports
    assert len(done.stdout.splitlines()) < 25
    stages = re.findall(r"^  (\w+) +\w+ \d", done.stdout, re.MULTILINE)
    assert stages == ["dataset", "model", "train", "gguf", "predict", "score", "deploy"]
    jobs = planned_jobs(done.stdout)
    once = ("dequantize_gguf", "train_adapter", "train_head", "check_parity", "write_leaderboard")
    assert [jobs[rule] for rule in once] == [1] * 5
    assert jobs["ingest_records"] == jobs["build_bundle"] == 2


def test_a_sweep_trains_each_combination_and_the_leaderboard_of_a_thousand_runs_gets_them_by_a_pipe(tmp_path):
    """One argument of a program has room for 128 KiB."""
    project = Project.made_in(tmp_path)
    with project.edited("config/config.yaml", lambda text: text.replace(*SWEEP)):
        printed = project.snakemake("-n", "-p").stdout
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", printed, re.MULTILINE))
    assert (jobs["train_adapter"], jobs["ingest_records"], jobs["build_embedded_model"]) == ("3", "1", "1")
    for rule in ("choose_run", "write_leaderboard"):
        command = printed.partition(f"--log results/logs/score/{rule}/")[0].rpartition("printf %s")[2]
        runs, program = command.split(" | python ")
        assert all(f'"cards-r{r}"' in runs and f"cards-r{r}" not in program for r in (4, 8, 16))
    runs = json.dumps({"runs": [], "seeds": [], "sweeps": [], "monitors": [], "padding": "x" * 200_000})
    step = f"{ROOT}/scripts/score/write_leaderboard.py {tmp_path} --csv {tmp_path}/l.csv --page {tmp_path}/l.html"
    (tmp_path / "command").write_text(f"printf %s '{runs}' | {sys.executable} {step} --settings @/dev/stdin")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(["bash", "-eo", "pipefail", tmp_path / "command"], env=environment, check=True)
    assert (tmp_path / "l.csv").exists()


def test_another_working_directory_and_another_results_folder_work(checkout, tmp_path):
    arguments = ("--snakefile", f"{checkout}/Snakefile", "--configfile", f"{checkout}/config/recipes/stories.yaml")
    done = run_snakemake(tmp_path, "-np", *arguments, "--config", 'pathvars={"results": "made"}')
    assert done.returncode == 0, done.stdout
    for path in ("runs/stories/bundle/SHA256SUMS", "logs/deploy/build_bundle/stories.log", "benchmarks/deploy/build_"):
        assert f"made/{path}" in done.stdout


def test_the_commands_of_the_summary_and_a_dry_run_of_the_demo_work_as_typed(checkout):
    copy, run, recipe = [command for command, _ in next_commands(RESULTS, RESULTS / "report.html")][2:]
    typed(checkout, copy)
    planned = typed(checkout, f"{run} -np")
    assert "results/mine/leaderboard.html" in planned
    assert " results/leaderboard.html" not in planned, "it would write the demo's leaderboard anew"
    for command in (recipe, "make demo"):
        assert planned_jobs(typed(checkout, f"{command} ARGS=-n"))["train_adapter"] == 1
    assert "print_summary" not in typed(checkout, "make --dry-run demo ARGS=--dry-run")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("recipe NAME=x", "no recipe 'x'; there are: captions, captions-sweep, football, pii, stories, titles"),
        ("recipe NAME=titles EMBEDDED=true", "EMBEDDED is 'true'; give yes or no"),
        ("recipe NAME=titles GPU=t4", "no settings of recipe 'titles' for GPU=t4; there are: 24gb, 80gb"),
        ("unit", ".venv is a link to an environment that does not match the locks: remove the link"),
    ],
)
def test_what_make_can_not_do_is_one_line_and_an_environment_behind_a_link_is_never_emptied(tmp_path, words, line):
    """`venv --clear` follows links."""
    kept, folder = tmp_path / "somebodys" / "kept", tmp_path / "snaketune"
    kept.parent.mkdir()
    kept.touch()
    shutil.copytree(ROOT / "config", folder / "config")
    shutil.copy(ROOT / "Makefile", folder)
    (folder / ".venv").symlink_to(kept.parent)
    command, environment = ["make", *words.split()], without_make()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[0], done.stdout) == (2, line, "")
    assert list(kept.parent.iterdir()) == [kept]


def test_summary_and_report_of_another_configuration_are_of_its_own_results(checkout):
    (checkout / "config/mine.yaml").write_text("pathvars: {results: results/mine}\n", encoding="utf-8")
    for option, folder in (("", "results/stories/embedded"), (" EMBEDDED=no", "results/stories")):
        commands = typed(checkout, f"make --dry-run recipe NAME=stories{option}")
        assert f"print_summary.py --recipe stories {folder}\n" in commands
    for options, folder in (
        ("--configfile config/mine.yaml", "results/mine"),
        ("--configfile config/embedded.yaml config/mine.yaml", "results/mine/embedded"),
        ("--cores 1", "results"),
    ):
        commands = typed(checkout, f"make --dry-run report ARGS='{options}'")
        assert f"folder={folder};" in commands
        assert f"--report $folder/report.html {options}" in commands
    assert typed(checkout, "make report 2>&1 || true").startswith("results/leaderboard.csv does not exist yet")
