"""The logger plugin of this workflow: shows progress, failures and the plan of a dry run.

A terminal shows progress bars for all jobs and for each running job. A file or a pipe gets one line per finished job,
and now and then one for a job that has been running for a while, with the progress of its step. A failed job is named
at once; the output ends with one message per cause. A dry run lists the jobs by stage and rule. `-p`, `--verbose` or
`--debug-dag` also show Snakemake's own lines.

Steps append their progress to the file that SNAKETUNE_TERMINAL names, one JSON object per line
(scripts/common/terminal.py); a thread reads it. Written for the log events of Snakemake 9.27.
"""

import json
import logging
import os
import re
import tempfile
import threading
import time
from pathlib import Path

from rich.console import Console
from snakemake.logging import DefaultFilter, DefaultFormatter, get_event
from snakemake.settings.enums import Quietness
from snakemake_interface_logger_plugins.base import LogHandlerBase

from snakemake_logger_plugin_snaketune.bars import Bars
from snakemake_logger_plugin_snaketune.failures import Failure, failure_lines
from snakemake_logger_plugin_snaketune.plan import TARGETS, PlannedJob, plan_lines

CHANNEL = "SNAKETUNE_TERMINAL"
SECONDS_BETWEEN_READS = 0.25
LONG = 30  # seconds after which output to a file names a running job, and again with each new report
# Messages without an event that users don't need; they are in Snakemake's complete log.
CHATTER = re.compile(
    r"Assuming unrestricted shared filesystem|Building DAG of jobs|Using shell|Group jobs: inactive|"
    r"Conda environments: ignored|Singularity containers: ignored|Select jobs to execute|Execute \d+ jobs|"
    r"Removing output files of failed job|Trying to restart job|Shutting down, this might|Complete log|Elapsed time|"
    r"Exiting because a job execution failed|This was a dry-run|Reasons:|Some jobs were triggered by|"
    r"Rules with provenance|\d+ jobs have (missing|outdated) provenance|Config file .* is extended|None$"
)
HEAD_OF_ERROR = re.compile(r"(InputFunctionException[^\n]*:\nError:\n\s*)?WorkflowError[^\n]*:\n\s*")
FRAME_OF_ERROR = re.compile(r'(\nWildcards:\s+(\w+=[^\n]*\s+)*Traceback:)?\n  File "[^"\n]*", line [^\n]*')


class Job:
    """A running job: its name, its log, and when it started."""

    def __init__(self, record: logging.LogRecord):
        self.rule, self.started = record.rule_name, time.monotonic()
        self.report, self.shown, self.next = "", None, self.started + LONG  # of the step; the last shown; when to show
        self.began = int(time.time())  # file systems may store whole seconds only
        self.name = " ".join([self.rule, *map(str, record.wildcards.values())])
        self.log = str(record.log[0]) if record.log else ""


class LogHandler(LogHandlerBase):
    """Shows progress, failures and plans."""

    writes_to_stream = has_filter = has_formatter = True
    writes_to_file = needs_rulegraph = False

    def __post_init__(self) -> None:
        """Make the file for the steps' progress and start to read it."""
        settings, quiet = self.common_settings, set(self.common_settings.quiet or ())
        plain = {"markup": False, "highlight": False, "emoji": False, "soft_wrap": True}
        self.console = Console(stderr=not settings.stdout, no_color=settings.nocolor or None, **plain)
        self.print = self.console.print  # above the bars if there are any
        self.full = settings.printshellcmds or settings.verbose or settings.debug_dag
        shown = (settings.debug_dag, settings.verbose, settings.dryrun, settings.printshellcmds)
        self.own_filter = DefaultFilter(quiet, *shown)
        self.own_formatter = DefaultFormatter(quiet, settings.show_failed_logs)
        self.errors_only = Quietness.ALL in quiet and not settings.dryrun
        self.shows_progress = not (settings.dryrun or self.full or quiet & {Quietness.ALL, Quietness.PROGRESS})
        self.jobs: dict[int, Job] = {}
        self.failed: dict[int, Failure] = {}
        self.errors: dict[str, str] = {}
        self.other_errors: list[str] = []  # while jobs run, such as a missing output of a finished job
        self.planned: list[PlannedJob] = []
        self.counts: dict[str, int] = {}
        self.done, self.stopped = 0, False
        self.bars = Bars(self.console) if self.console.is_terminal and self.shows_progress else None
        descriptor, name = tempfile.mkstemp(prefix="snaketune-terminal-")
        os.close(descriptor)
        self.channel, self.position = Path(name), 0
        os.environ[CHANNEL] = name
        self.closed = threading.Event()
        self.reader = threading.Thread(target=self.read_until_closed, daemon=True)
        self.reader.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record with the method that is named after its event."""
        try:
            if self.full and self.own_filter.filter(record):
                self.print(self.own_formatter.format(record))
            show = getattr(self, f"on_{get_event(record) or 'message'}", None)
            if show:
                show(record)
        except Exception:
            self.handleError(record)

    @property
    def total(self) -> int:
        """The number of jobs without the target rules."""
        return self.counts.get("total", 0) - sum(self.counts.get(rule, 0) for rule in TARGETS)

    def on_message(self, record: logging.LogRecord) -> None:
        """Show a message without an event, except for CHATTER."""
        text = record.getMessage()
        self.stopped |= text.startswith("Terminating processes on user request")
        quiet = self.errors_only and record.levelno < logging.ERROR
        if not self.full and not quiet and not CHATTER.match(text):
            self.print(text, style={logging.WARNING: "yellow", logging.ERROR: "red"}.get(record.levelno))

    def on_error(self, record: logging.LogRecord) -> None:
        """Show an error, except those of a job's command, which are shown last, from the job's log."""
        text = record.getMessage()
        if self.full or "CalledProcessError" in text or "At least one job did not complete" in text:
            return
        if HEAD_OF_ERROR.match(text):
            text = FRAME_OF_ERROR.sub("", HEAD_OF_ERROR.sub("", text))
        self.counts = {} if self.common_settings.dryrun else self.counts  # no plan after an error in planning
        if self.done or self.jobs:
            self.other_errors.append(text)
        self.print(text, style="red")

    def on_run_info(self, record: logging.LogRecord) -> None:
        """Store the number of jobs of each rule."""
        self.counts = dict(record.stats)
        if self.bars:
            self.bars.start(self.total)

    def on_job_info(self, record: logging.LogRecord) -> None:
        """Register a job that starts, or that a dry run plans."""
        job = Job(record)
        if self.common_settings.dryrun:
            self.planned.append(PlannedJob(job.rule, job.log, record.reason))
            return
        if record.jobid in self.failed:
            del self.failed[record.jobid]
            self.print(f"{job.name} is retried")
        self.errors.pop(job.log, None)
        self.jobs[record.jobid] = job
        if self.bars and job.rule not in TARGETS:
            self.bars.add(job.log, job.name)

    def on_job_finished(self, record: logging.LogRecord) -> None:
        """Count a finished job."""
        job = self.jobs.pop(record.job_id, None)
        self.failed.pop(record.job_id, None)  # it was reported as failed because of another job of its group
        if job is None or job.rule in TARGETS:
            return
        self.done += 1
        if self.bars:
            self.bars.finish(job.log, self.done)
        elif self.shows_progress:
            seconds = time.monotonic() - job.started
            self.print(f"[{self.done:>{len(str(self.total))}}/{self.total}] {job.name}, {seconds:.0f} s")

    def on_job_error(self, record: logging.LogRecord) -> None:
        """Name a failed job at once, and store it for the summary."""
        job = self.jobs.pop(record.jobid, None)
        log, name = str(record.log[0]) if record.log else None, job.name if job else record.rule_name
        self.failed[record.jobid] = Failure(name, log, record.indent, job.began if job else 0)
        if self.bars and job:
            self.bars.remove(job.log)
        if not self.full and not self.stopped:
            reason = f": {record.rule_msg}" if record.rule_msg else ""  # from a cluster, such as the job's state
            self.print(f"{name} failed{reason}", style="red")

    def read_until_closed(self) -> None:
        """Show the steps' reports, and in output to a file name jobs that have been running for LONG seconds."""
        while not self.closed.wait(SECONDS_BETWEEN_READS):
            with self.lock:
                self.read()
                for job in self.jobs.values() if self.shows_progress and not self.bars else ():
                    if job.report != job.shown and time.monotonic() > job.next:
                        report = f": {job.report}" if job.report else ""
                        self.print(f"{'':{2 * len(str(self.total)) + 3}} {job.name} is running{report}")
                        job.shown, job.next = job.report, time.monotonic() + LONG

    def read(self) -> None:
        """Show the complete lines that were added since the last call."""
        if not self.channel.exists():
            return
        with open(self.channel, "rb") as file:
            file.seek(self.position)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self.position += len(whole)
        for line in whole.splitlines():
            try:
                message = json.loads(line)
            except json.JSONDecodeError:  # truncated on a full disk
                continue
            if "line" in message:
                self.print(message["line"])
            elif "error" in message:
                self.errors[message["log"]] = message["error"]
            elif self.bars:
                self.bars.update(**message)
            else:
                for job in self.jobs.values():
                    if job.log == message["log"]:
                        job.report = f"{message['done']}/{message['total']} {message['note']}".rstrip()

    def close(self) -> None:
        """Remove bars and progress file, and print the plan of a dry run, or the failures."""
        if not self.closed.is_set():
            self.closed.set()
            self.reader.join()
            self.read()
            os.environ.pop(CHANNEL, None)
            self.channel.unlink(missing_ok=True)
            if self.bars:
                self.bars.stop()
            if self.common_settings.dryrun and self.counts and not self.full:
                self.print("\n".join(plan_lines(self.counts, self.planned)))
            elif self.failed or self.stopped:
                self.print("\n".join(failure_lines([*self.failed.values()], self.errors, self.total, self.stopped)))
            elif self.other_errors:
                self.print("\n".join(["", *self.other_errors]), style="red")
        super().close()
