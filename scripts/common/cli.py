"""What every step shares on the command line: arguments, log, progress, and errors as one clear line."""

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from scripts.common.errors import UserError

Item = TypeVar("Item")
TERMINAL = "snaketune.terminal"
log = logging.getLogger("snaketune")


def step_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the arguments of every step: `--settings` (JSON, or @file) and `--log`."""
    parser = argparse.ArgumentParser(description=description, fromfile_prefix_chars=None)
    parser.add_argument("--settings", type=settings_argument, default={}, help="the step's settings: JSON, or @file")
    parser.add_argument("--log", type=Path, help="file for everything the step says; the terminal gets progress only")
    return parser


def settings_argument(text: str) -> dict:
    """Read settings given as JSON or as @file with JSON."""
    try:
        return json.loads(Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text)
    except (OSError, json.JSONDecodeError) as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from None


def run_step(step: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser, argv=None) -> int:
    """Run a step; return its exit status.

    A UserError becomes one line on the terminal (and in the log) and status 1; any other exception leaves its traceback
    in the log and status 2. With `--log`, all that the process
    and its libraries print goes to that file, and the terminal shows progress and errors only.
    """
    arguments = parser.parse_args(argv)
    terminal = redirect_output(arguments.log)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr, force=True
    )
    logging.getLogger(TERMINAL).addHandler(logging.StreamHandler(terminal))
    try:
        step(arguments)
    except UserError as error:
        log.error("%s", error)
        if terminal is not sys.stderr:
            print(f"{parser.prog}: {error}", file=terminal, flush=True)
        return 1
    except Exception as error:
        log.exception("this is a fault of the step, not of the input")
        if terminal is not sys.stderr:
            print(f"{parser.prog}: {type(error).__name__}: {error}; see {arguments.log}", file=terminal, flush=True)
        return 2
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def redirect_output(log_file: Path | None):
    """Send stdout and stderr, native code's as well, to the log file; return a stream to the terminal."""
    if log_file is None:
        return sys.stderr
    terminal = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8")
    log_file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    return terminal


class Progress:
    """A bar of a long piece of work, as a line on the terminal every few seconds and in the log."""

    def __init__(self, what: str, total: int, seconds_between: float = 5.0):
        self.what, self.total, self.between = what, max(total, 1), seconds_between
        self.done, self.started = 0, time.monotonic()
        self.shown = self.started

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count work as done, and show the bar when it is time."""
        self.done += steps
        now = time.monotonic()
        if now - self.shown >= self.between:
            self.shown = now
            self.show(note)

    def show(self, note: str = "") -> None:
        """Show the bar now."""
        elapsed = time.monotonic() - self.started
        share = min(self.done / self.total, 1)
        left = elapsed / share - elapsed if share else 0
        filled = round(share * 20)
        bar = "█" * filled + "░" * (20 - filled)
        line = f"{self.what} {bar} {self.done}/{self.total} {elapsed:.0f} s, {left:.0f} s left {note}".rstrip()
        logging.getLogger(TERMINAL).info(line)


def progress(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """Yield the items, showing a bar meanwhile."""
    bar = Progress(what, total)
    for item in items:
        yield item
        bar.advance()
