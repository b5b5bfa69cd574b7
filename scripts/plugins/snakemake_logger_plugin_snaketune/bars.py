"""Progress bars on a terminal: one for all jobs, and one for each running job, updated by the reports of its step."""

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


class Bars:
    """The bars of a run. Plugin and step both identify a job by its log."""

    def __init__(self, console: Console):
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self.all, self.tasks = None, {}

    def start(self, total: int) -> None:
        """Show the bar for all jobs."""
        if self.all is None:
            self.all = self.progress.add_task("jobs", total=total, note=f"0/{total}")
            self.progress.start()

    def add(self, log: str, name: str) -> None:
        """Show a bar for a job that starts."""
        self.remove(log)
        self.tasks[log] = self.progress.add_task(name, total=None, note="")

    def update(self, log: str, done: int, total: int, note: str) -> None:
        """Update the bar of a job with its step's report."""
        if log in self.tasks:
            self.progress.update(self.tasks[log], completed=done, total=total, note=f"{done}/{total} {note}")

    def finish(self, log: str, done: int) -> None:
        """Remove the bar of a finished job, and all bars after the last job."""
        self.remove(log)
        total = self.progress.tasks[0].total
        self.progress.update(self.all, completed=done, note=f"{done}/{total}")
        if self.progress.finished:
            self.stop()

    def remove(self, log: str) -> None:
        """Remove the bar of a job."""
        if log in self.tasks:
            self.progress.remove_task(self.tasks.pop(log))

    def stop(self) -> None:
        """Remove all bars."""
        self.progress.stop()
