"""Show progress and errors of a step on the terminal.

With the workflow's logger plugin, a step writes messages to the file that SNAKETUNE_TERMINAL names, and the plugin
shows them. Otherwise a step prints lines to stderr. With a log file, all other output of the process goes there.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from scripts.common.plain_text import visible

Item = TypeVar("Item")
CHANNEL = "SNAKETUNE_TERMINAL"
log = logging.getLogger("snaketune")


class Terminal:
    """The terminal of this process: the logger's panel, or a stream."""

    def __init__(self):
        self.stream, self.channel, self.log = None, None, None

    def redirect(self, log_file: Path | None, go_on: bool = False) -> None:
        """Send stdout and stderr, including that of native code, to a log file, and keep access to the terminal.

        The file is emptied first, unless `go_on` is set because several processes write to it.
        """
        if log_file is None:
            return
        self.channel, self.log = os.environ.get(CHANNEL), str(log_file)
        self.stream = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8")
        log_file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | (0 if go_on else os.O_TRUNC), 0o644)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.close(descriptor)

    @property
    def apart_from_log(self) -> bool:
        """Whether the log goes to a file instead of the terminal."""
        return self.stream is not None

    def error(self, text: str, program: str) -> None:
        """Show an error if the log goes to a file; otherwise the log has already shown it."""
        if self.apart_from_log and not self.send(log=self.log, error=visible(text, keep="\n\t")):
            self.line(f"{program}: {text}")

    def line(self, text: str) -> None:
        """Show a line, with control characters escaped."""
        text = visible(text, keep="\n\t")
        if not self.send(line=text):
            print(text, file=self.stream or sys.stderr, flush=True)

    def send(self, **message) -> bool:
        """Send a message to the logger plugin of a workflow on this machine; return whether that succeeded."""
        if not self.channel or not os.path.exists(self.channel):
            return False
        try:
            with open(self.channel, "ab", buffering=0) as file:
                file.write(json.dumps(message).encode("utf-8") + b"\n")
        except OSError:  # a full disk must not end a step that only shows progress
            return False
        return True


terminal = Terminal()


def warn(text: str) -> None:
    """Show a warning on the terminal and in the log."""
    log.warning("%s", text)
    if terminal.apart_from_log:
        terminal.line(text)


class Progress:
    """A progress bar: in the logger's panel, or as a line every few seconds.

    `done` is the work of an earlier run; it does not count in the estimate of the time left.
    """

    def __init__(self, what: str, total: int, done: int = 0):
        self.what, self.total = what, max(total, 1)
        self.done, self.found, self.started = done, done, time.monotonic()
        self.shown = self.logged = self.started

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count `steps` as done, and show the bar at most twice per second."""
        self.done += steps
        now = time.monotonic()
        if now - self.shown < 0.5 and self.done < self.total:
            return
        self.shown = now
        text = f"{self.what} {note}".rstrip()
        in_panel = terminal.send(log=terminal.log, done=self.done, total=self.total, note=text)
        if now - self.logged >= 5:
            self.logged = now
            log.info(self.bar(note))
            if not in_panel and terminal.apart_from_log:
                terminal.line(self.bar(note))

    def bar(self, note: str) -> str:
        """Return the bar as a line."""
        elapsed = time.monotonic() - self.started
        share = min(self.done / self.total, 1)
        here = self.done - self.found
        left = elapsed / here * (self.total - self.done) if here > 0 else 0
        filled = round(share * 20)
        blocks = "█" * filled + "░" * (20 - filled)
        return f"{self.what} {blocks} {self.done}/{self.total} {elapsed:.0f} s, {left:.0f} s left {note}".rstrip()


def progress(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """Yield the items and show a progress bar."""
    bar = Progress(what, total)
    for item in items:
        yield item
        bar.advance()
