"""Configuration files that are missing or no YAML are one line with file and line, before Snakemake reads them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from snakemake.common.configfile import load_configfile

from scripts.config.files import check_config_files, fault_of
from tests.support.data import load
from tests.support.project import ROOT, run_snakemake

BROKEN = "runs:\n  a: {method: lora\n  b: 1\n"
FAULT = "config/mine.yaml:3: is not valid YAML: expected ',' or '}', but got ':', in the part that begins in line 2"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """The working directory, with one good and two broken configuration files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SNAKEMAKE_PROFILE", raising=False)
    Path("config").mkdir()
    Path("config/good.yaml").write_text("datasets: {}\n")
    Path("config/mine.yaml").write_text(BROKEN)
    Path("config/latin.yaml").write_bytes("a: 1\nb: été\n".encode("latin-1"))
    return tmp_path


def said(*words: str) -> str | None:
    """Return the line with which the check ends Snakemake, None where it says nothing."""
    try:
        check_config_files(list(words))
    except SystemExit as end:
        return str(end)
    return None


@pytest.mark.parametrize(("words", "line"), load("config_faults.yaml")["options"])
def test_a_broken_file_is_named_with_its_line_and_a_missing_one_with_what_to_do(words, line):
    assert said(*words.split()) == (line and line.replace("FAULT", FAULT))


def test_the_file_of_the_snakefile_is_looked_at_only_where_it_is_read():
    assert said("-n") is None
    Path("config/mine.yaml").rename("config/config.yaml")
    assert said("-n") == FAULT.replace("mine", "config")
    for words in ("--config datasets={}", "-C datasets={}", "-d other", "--directory=other", "--profile p"):
        assert said("-n", *words.split()) is None
    assert said("--configfile", "config/good.yaml") is None


@pytest.mark.parametrize(
    "text",
    [
        BROKEN, "a:\n\tb: 1\n", "a: b: c\n", "a: 1\n---\nb: 2\n", "a: *x\n", "a: {{x}}\n", "a: !x 1\n", "- a\n", "",
        '{"a":\t1}', '{\n\t"a": "\\t"\n}', '{"a": 1, }', "\ufeffa: 1\n", "a: &b {c: 1}\nd: *b\n", "a: \u00e9\u2028b\n",
        "__use_yte__: true\na: 1\n", "a: 1 # \x85\n", "? a\n: b\n", '{"a": "\\ud800"}', "a: \U0001f600\n",
    ],
)  # fmt: skip
def test_no_file_is_refused_that_snakemake_takes_and_none_is_taken_that_is_no_yaml(text):
    path = Path("config/text.yaml")
    path.write_text(text, encoding="utf-8", newline="")
    try:
        load_configfile(path)
        taken = True
    except Exception:
        taken = False
    assert (fault_of(path) is None) == taken


@pytest.mark.parametrize("profile", ["default", "slurm"])
def test_snakemake_and_commands_that_read_it_themselves_end_with_this_line(folder, profile, scontrol):
    words = ["-n", "-s", str(ROOT / "Snakefile"), "--workflow-profile", str(ROOT / "profiles" / profile)]
    done = run_snakemake(folder, *words, "--configfile", "config/mine.yaml", environment=scontrol)
    *before, last = done.stdout.splitlines()
    assert (done.returncode, last, len(before) <= 1) == (1, FAULT, True)
    command = [sys.executable, "-m", "scripts.workflow.results_folder", "config/mine.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{FAULT}\n")
