"""What a run, a failure and a dry run print: Snakemake runs a small workflow."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.project import ROOT, run_snakemake

# Steps that share this project's command line: of each, what it does is its name.
STEP = """
import os, signal, sys, time
sys.path.insert(0, ROOT)
from scripts.common.cli import Progress, run_step, step_parser
from scripts.common.errors import UserError

def step(arguments):
    what = arguments.what
    bar = Progress("counting", 2000)
    for _ in range(2000 if what == "counts" else 0):
        bar.advance()
    time.sleep(2 if what == "counts" else 0)  # bars are drawn a few times a second
    if what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "full":  # of a disk: the log can't be written either
        os.close(1), os.close(2)
    if what in ("bad", "worse", "full") or (what == "once" and not os.path.exists("tried")):
        if what == "once":
            open("tried", "w").close()
        raise UserError("has no 'question'", "data.jsonl", 3, "it has prompt")
    if what == "wrong":
        raise KeyError("a")
    open(arguments.made, "w").close()

parser = step_parser("A step.")
parser.add_argument("what")
parser.add_argument("made")
sys.exit(run_step(step, parser))
"""
SNAKEFILE = """
rule all:
    input: expand("made/{what}", what=config["steps"].split())

rule do_step:
    output: "made/{what}"
    log: "logs/tests/do_step/{what}.log"
    shell: "PYTHON step.py {wildcards.what} {output} --log {log}"
"""


@pytest.fixture
def workflow(tmp_path):
    """A folder with a workflow of such steps."""
    (tmp_path / "step.py").write_text(STEP.replace("ROOT", repr(str(ROOT))), encoding="utf-8")
    (tmp_path / "Snakefile").write_text(SNAKEFILE.replace("PYTHON", sys.executable), encoding="utf-8")
    return tmp_path


def run(folder: Path, steps: str, *options: str, status: int = 0) -> list[str]:
    """Run steps, and return the lines that Snakemake printed."""
    done = run_snakemake(folder, "--logger", "snaketune", "--keep-going", *options, "--config", f"steps={steps}")
    assert done.returncode == status, done.stdout
    return done.stdout.splitlines()


def test_a_file_gets_a_line_for_each_finished_job_and_a_dry_run_says_what_is_to_do_and_why(workflow):
    lines = run(workflow, "a b")
    assert [re.sub(r"\w+, \d+ s$", "", line) for line in lines] == ["[1/2] do_step ", "[2/2] do_step "]
    assert run(workflow, "a b") == ["Nothing to be done (all requested files are present and up to date)."]
    code = workflow / "Snakefile"
    code.write_text(code.read_text().replace("step.py ", "step.py --gpus 0 "), encoding="utf-8")
    reason = "  do_step: Code has changed since last execution"
    assert run(workflow, "a b", "-n") == ["2 jobs would run:", "  tests    do_step 2", "Because:", reason]
    in_full = "\n".join(run(workflow, "a b", "-n", "-p"))
    assert "rule do_step:" in in_full
    assert "step.py --gpus 0 a made/a" in in_full


def test_what_failed_comes_last_and_alone_once_for_each_cause(workflow):
    """A job that succeeded when it was tried again is none of them; `full` could not write its log."""
    lines = run(workflow, "a once bad worse full wrong killed", "--retries", "1", status=1)
    assert [line for line in lines if line.startswith("[")][-1].startswith("[2/7] ")
    assert lines.count("do_step once is retried") == 1
    [start] = [i for i, line in enumerate(lines) if line.startswith("5 of 7 jobs failed. Finished jobs are kept")]
    blocks = [block.split("\n") for block in "\n".join(lines[start + 2 :]).split("\n\n")]
    causes = {message: {re.sub(r"do_step (\w+) \(.*", r"\1", name) for name in names} for *names, message in blocks}
    assert causes.pop("data.jsonl:3: has no 'question'; it has prompt") == {"bad", "worse", "full"}
    assert causes.pop("KeyError: 'a'") == {"wrong"}
    [(message, names)] = causes.items()
    assert "it was killed" in message
    assert names == {"killed"}
    assert "do_step bad (logs/tests/do_step/bad.log):" in lines


def test_an_error_of_the_workflow_is_its_message_alone(workflow):
    with open(workflow / "Snakefile", "a", encoding="utf-8") as file:
        file.write("\n\nfrom snakemake.exceptions import WorkflowError\nraise WorkflowError('one line')\n")
    assert run(workflow, "a", status=1) == ["one line"]


def test_quiet_leaves_out_progress_and_printshellcmds_adds_commands_but_what_failed_is_last(workflow):
    fault = "data.jsonl:3: has no 'question'; it has prompt"
    before, *_, last = run(workflow, "a bad", "--quiet", "all", status=1)
    assert (before, last) == ("do_step bad failed", fault)
    *before, last = run(workflow, "bad", "--printshellcmds", status=1)
    assert "rule do_step:" in "\n".join(before)
    assert "step.py bad made/bad --log logs/tests/do_step/bad.log" in "\n".join(before)
    assert last == fault


def test_a_file_gets_the_progress_of_a_job_that_takes_long(workflow):
    soon = "import snakemake_logger_plugin_snaketune as plugin; plugin.LONG = 1; from snakemake.cli import main; main()"
    command = [sys.executable, "-c", soon, "--cores", "1", "--logger", "snaketune", "--config", "steps=counts"]
    lines = subprocess.run(command, cwd=workflow, capture_output=True, text=True).stderr.splitlines()
    assert re.fullmatch(r" +do_step counts is running: 2000/2000 counting", lines[0])
    assert len(lines) == 2


def test_a_terminal_gets_bars_of_jobs_and_steps_and_no_lines_of_finished_jobs(workflow, monkeypatch):
    monkeypatch.chdir(workflow)
    for name, value in {"TERM": "xterm", "COLUMNS": "120", "LINES": "40"}.items():
        monkeypatch.setenv(name, value)
    parts = []

    def read(terminal: int) -> bytes:
        parts.append(os.read(terminal, 65536))
        return parts[-1]

    command = [str(Path(sys.executable).parent / "snakemake"), "--cores", "1", "--logger", "snaketune", "--keep-going"]
    pty.spawn([*command, "--config", "steps=a counts bad"], read)
    sent = b"".join(parts).decode("utf-8")
    for text in ("jobs ", "do_step counts", "2000/2000", "\x1b[?25h"):
        assert text in sent
    assert not re.search(r"^\[\d/3\]", sent, re.MULTILINE)
    assert sent.splitlines()[-1] == "data.jsonl:3: has no 'question'; it has prompt"
