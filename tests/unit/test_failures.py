"""What the logger plugin says of failed jobs, from logs that steps wrote; whole runs are in test_output.py."""

import os
import subprocess
import sys

from snakemake_logger_plugin_snaketune.failures import Failure, failure_lines

from tests.support.project import ROOT


def logged(folder, name) -> str:
    """Run a step; return its log."""
    log = str(folder / f"{name}.log")
    command = [sys.executable, "-m", "tests.support.failing_step", "--log", log]
    subprocess.run(command, cwd=ROOT, stderr=subprocess.DEVNULL, check=False)
    return log


def test_of_a_group_of_jobs_only_those_with_an_error_are_named(tmp_path):
    """Snakemake calls all jobs of a group failed: those that succeeded, and those that never began."""
    good, bad = logged(tmp_path, "good"), logged(tmp_path, "bad")
    group = [Failure("good", good, True), Failure("bad", bad, True), Failure("later", str(tmp_path / "later"), True)]
    head, *rest = failure_lines(group, {}, 5, stopped=False)[1:]
    assert head.startswith("1 of 5 jobs failed. ")
    assert rest == ["", f"bad ({bad}):", "data.jsonl:3: is bad"]
    killed = failure_lines([group[0], group[2]], {}, 5, stopped=False)
    assert killed[1].startswith("2 of 5 jobs failed. "), "a group that was killed is not passed over"


def test_a_stopped_run_names_no_job_that_was_merely_stopped(tmp_path):
    _, line = failure_lines([Failure("good", logged(tmp_path, "good"))], {}, 5, stopped=True)
    assert line.startswith("Stopped. Finished jobs are kept")


def test_the_error_of_an_earlier_run_is_not_that_of_a_job_which_began_no_log(tmp_path):
    bad = logged(tmp_path, "bad")
    later = os.path.getmtime(bad) + 10
    [*_, message] = failure_lines([Failure("bad", bad, started=later)], {}, 1, stopped=False)
    assert message == "the job ended before it began its log"
