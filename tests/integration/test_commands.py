"""The commands that the summary and the Makefile name work as typed, in a fresh shell."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.score.print_summary import RESULTS, next_commands
from tests.support.project import ROOT, planned_jobs, without_make


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


def test_the_commands_of_the_summary_work_as_typed(checkout):
    copy, run, recipe = [command for command, _ in next_commands(RESULTS, RESULTS / "report.html")][1:]
    typed(checkout, copy)
    planned = typed(checkout, f"{run} -np")
    assert "results/mine/leaderboard.html" in planned
    assert " results/leaderboard.html" not in planned, "it would write the demo's leaderboard anew"
    assert planned_jobs(typed(checkout, f"{recipe} ARGS=-n"))["train_adapter"] == 1


@pytest.mark.parametrize("option", ["-n", "--dry-run"])
def test_a_dry_run_of_the_demo_ends_well_on_a_fresh_clone(checkout, option):
    planned = planned_jobs(typed(checkout, f"make demo ARGS={option}"))
    assert planned["train_adapter"] == planned["train_head"] == 1


def test_a_recipe_on_the_small_model_has_results_logs_and_benchmarks_of_its_own(checkout):
    files = "config/embedded.yaml config/recipes/stories.yaml"  # in either order
    printed = typed(checkout, f"source .venv/bin/activate && snakemake -np --configfile {files}")
    made = "runs/stories/bundle/SHA256SUMS"
    for path in ("logs/deploy/build_bundle/stories.log", "benchmarks/deploy/build_bundle/stories.tsv", made):
        assert f"results/stories/embedded/{path}" in printed
        assert f" results/stories/{path}" not in printed
    commands = typed(checkout, "make --dry-run recipe NAME=stories")
    assert "print_summary.py --recipe stories results/stories/embedded\n" in commands
    commands = typed(checkout, "make --dry-run recipe NAME=stories EMBEDDED=no")
    assert "print_summary.py --recipe stories results/stories\n" in commands


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ("NAME=footbal",),
            "no recipe 'footbal'; there are: captions, captions-sweep, football, pii, stories, titles",
        ),
        (("NAME=titles", "EMBEDDED=true"), "EMBEDDED is 'true'; give yes or no"),
        (("NAME=titles", "GPU=t4"), "no settings of recipe 'titles' for GPU=t4; there are: 24gb, 80gb"),
    ],
)
def test_a_recipe_that_is_not_there_is_one_line_and_installs_nothing(tmp_path, words, line):
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copytree(ROOT / "config", tmp_path / "config")
    command, environment = ["make", "recipe", *words], without_make()
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == line
    assert done.stdout == ""
    assert not (tmp_path / ".venv").exists()


def test_a_report_of_no_results_is_one_line(checkout):
    assert typed(checkout, "make report 2>&1 || true").startswith("results/leaderboard.csv is not there yet")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (None, "config/other.yaml: no such file"),
        ("runs: ]\n", "config/other.yaml:1: not valid YAML: expected the node content, but found ']'"),
    ],
)
def test_a_report_of_a_configuration_that_cannot_be_read_is_one_line(checkout, text, line):
    if text is not None:
        (checkout / "config/other.yaml").write_text(text, encoding="utf-8")
    said = typed(checkout, "make report ARGS='--configfile config/other.yaml' 2>&1 || true").splitlines()
    assert said[0] == line
    assert len(said) == 2
    assert said[1].startswith("make: ***")


def test_the_report_of_another_configuration_stands_beside_its_results(checkout):
    (checkout / "config/mine.yaml").write_text("pathvars: {results: results/mine}\n", encoding="utf-8")
    for options, folder in (
        ("--configfile config/mine.yaml", "results/mine"),
        ("--configfile config/embedded.yaml config/mine.yaml", "results/mine/embedded"),
        ("--cores 1", "results"),
    ):
        commands = typed(checkout, f"make --dry-run report ARGS='{options}'")
        assert f"folder={folder};" in commands
        assert f"--report $folder/report.html {options}" in commands


def test_an_environment_behind_a_link_is_never_emptied(tmp_path):
    """`venv --clear` follows links."""
    (tmp_path / "somebodys").mkdir()
    kept = tmp_path / "somebodys" / "kept"
    kept.touch()
    folder = tmp_path / "snaketune"
    folder.mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    (folder / ".venv").symlink_to(kept.parent)
    command, environment = ["make", "unit"], without_make()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert ".venv is a link" in done.stderr
    assert kept.is_file()
