"""The failure summary at the end of a run: the errors that steps reported, or else the ends of their logs."""

import re
from pathlib import Path
from typing import NamedTuple

# The format of scripts/common/cli.py: time, level, text.
LOGGED = re.compile(r"^\d{4}-\d\d-\d\d [\d:,]+ (?P<level>[A-Z]+) ", re.MULTILINE)
FAULT_OF_STEP = "this is an error in the step"
KEPT = "Finished jobs are kept: run the same command again to continue, a training from its checkpoint."


class Failure(NamedTuple):
    """A failed job. If it is `grouped`, another job of its group may have failed instead."""

    name: str
    log: str | None
    grouped: bool = False
    started: float = 0.0  # seconds since the epoch; a log that was last written before is from another run


def failure_lines(failures: list[Failure], reported: dict[str, str], total: int, stopped: bool) -> list[str]:
    """Return the lines that end a failed or stopped run: one block per cause, the message last.

    `reported` has the errors that steps reported, by log. Steps on other machines can't report theirs.
    """
    errors = {failure: reported.get(failure.log) or logged_error(failure) for failure in failures}
    certain = [failure for failure in failures if errors[failure]]
    unclear = [f for f in failures if not errors[f] and not stopped and not (f.grouped and certain)]
    causes: dict[str, list[Failure]] = {}
    for failure in certain + unclear:
        causes.setdefault(errors[failure] or how_it_ended(failure), []).append(failure)
    count = sum(map(len, causes.values()))
    lines = ["", f"Stopped. {KEPT}" if stopped else f"{count} of {total} jobs failed. {KEPT}"]
    for message, failed in causes.items():
        lines += ["", *(f"{failure.name} ({failure.log}):" for failure in failed), message]
    return lines


def log_of(failure: Failure) -> str | None:
    """Return the text of a failed job's log, None if it did not start one."""
    path = Path(failure.log) if failure.log else None
    if path is None or not path.is_file() or path.stat().st_mtime < failure.started:
        return None
    return path.read_text(encoding="utf-8", errors="replace").rstrip()


def logged_error(failure: Failure) -> str | None:
    """Return the error at the end of a step's log, None if there is none."""
    text = log_of(failure)
    if not text:
        return None
    lines = list(LOGGED.finditer(text))
    if not lines or lines[-1]["level"] != "ERROR":
        return None
    message = text[lines[-1].end() :]
    return message.splitlines()[-1] if message.startswith(FAULT_OF_STEP) else message


def how_it_ended(failure: Failure) -> str:
    """Return a message for a job that failed without an error in its log."""
    text = log_of(failure)
    if text is None:
        return "the job ended before it began its log"
    if not text:
        return "the job ended before it logged anything: it was killed, or could not start"
    return "the job ended without an error in its log: it was killed, perhaps because memory ran out"
