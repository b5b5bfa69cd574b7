"""Snakemake's rich logger with the steps' own bars inside its panel: `snakemake --logger snaketune`.

Steps that find SNAKETUNE_TERMINAL in their environment append what is meant for the terminal to that file, one JSON
object a line (scripts/common/terminal.py), instead of writing over the panel. A thread reads them.
"""

import json
import os
import tempfile
import threading
from pathlib import Path

from snakemake_logger_plugin_rich import LogHandler as RichHandler

CHANNEL = "SNAKETUNE_TERMINAL"
SECONDS_BETWEEN_READS = 0.25


class LogHandler(RichHandler):
    """The rich logger, and a bar for each piece of work that a running step reports."""

    def __post_init__(self) -> None:
        """Open the channel and start to read it."""
        super().__post_init__()
        descriptor, name = tempfile.mkstemp(prefix="snaketune-terminal-")
        os.close(descriptor)
        self.channel, self.position = Path(name), 0
        self.bars: dict[tuple[int, str], int] = {}
        self.stopped = threading.Event()
        os.environ[CHANNEL] = name
        self.reader = threading.Thread(target=self.read_until_stopped, daemon=True)
        self.reader.start()

    def read_until_stopped(self) -> None:
        """Show what steps report, again and again."""
        while not self.stopped.wait(SECONDS_BETWEEN_READS):
            self.read()

    def read(self) -> None:
        """Show the whole lines that came since the last time, and remove the bars of processes that ended."""
        with open(self.channel, "rb") as file:
            file.seek(self.position)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self.position += len(whole)
        for line in whole.splitlines():
            self.show(json.loads(line))
        for pid, what in list(self.bars):
            if not Path(f"/proc/{pid}").exists():
                self.remove(pid, what)

    def show(self, message: dict) -> None:
        """Print a line above the panel, or move a bar in it."""
        if "line" in message:
            self.console.print(message["line"], markup=False, highlight=False, soft_wrap=True)
            return
        key = message["pid"], message["what"]
        if message["done"] >= message["total"]:
            self.remove(*key)
            return
        if key not in self.bars:
            self.bars[key] = self.progress.add_task("", total=message["total"], active=" ")
        text = f"[not bold]  {message['what']} {message['done']}/{message['total']} {message['note']}".rstrip()
        self.progress.update(self.bars[key], completed=message["done"], description=text)

    def remove(self, pid: int, what: str) -> None:
        """Take a bar away."""
        task = self.bars.pop((pid, what), None)
        if task is not None:
            self.progress.remove_task(task)

    def close(self) -> None:
        """Read what is left, and remove the channel."""
        if not self.stopped.is_set():
            self.stopped.set()
            self.reader.join()
            self.read()
            os.environ.pop(CHANNEL, None)
            self.channel.unlink()
        super().close()
