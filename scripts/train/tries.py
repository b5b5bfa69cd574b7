"""What became of each try at a run, written down as it happens, and the micro-batch with which the next one begins.

A try that was stopped, cancelled or cut off goes on as it was: its result is the same to the last byte. Only one that
ran out of memory is gone on with by a smaller micro-batch and more accumulation, on the same batches.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

from scripts.common.cli import log
from scripts.common.errors import UserError
from scripts.common.terminal import terminal
from scripts.train.arguments import batch_shape
from scripts.train.memory import free_memory, has_risen, memory_limit_mb, oom_kills, out_of_memory, peak_memory_mb

DONE = "done"
RAN_OUT = "out of memory"
KILLED = "killed"
KILLED_FOR_MEMORY = "killed when the machine ran out of memory"


class Tries:
    """The tries at a run, from first to last, kept in a file among its checkpoints; `run` is its fingerprint.

    A line of the file is the beginning or the end of a try; a try without an end was killed. `last` is the attempt
    after which there is nothing left to halve; by default the one with a micro-batch that is no even number.
    """

    def __init__(self, folder: Path, run: str, training: dict, last: int | None = None):
        self.path, self.run, self.training = folder / "tries.jsonl", run, training
        self.last = last or next(a for a in range(1, 99) if self.shape(a) == self.shape(a + 1))
        self.all = self.read()

    def read(self) -> list[dict]:
        """Return the tries so far."""
        found: list[dict] = []
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []:
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:  # nothing, or a line that was cut off with its process
                continue
            if entry.get("run") != self.run:
                continue
            if "ended" not in entry:
                found.append(entry)
            elif found:
                found[-1].update(entry)
        counts = [*(entry["oom_kills"] for entry in found[1:]), oom_kills()]
        for entry, after in zip(found, counts, strict=False):
            entry.setdefault("ended", KILLED_FOR_MEMORY if has_risen(entry["oom_kills"], after) else KILLED)
        return found

    def write(self, entry: dict) -> None:
        """Append a line, as a whole; on a full disk the training has its own say."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab", buffering=0) as file:
                file.write(b"\n" + json.dumps({"run": self.run, **entry}).encode("utf-8"))
                os.fsync(file.fileno())
        except OSError as error:
            log.warning("%s can't be written: %s", self.path, error)

    def attempt(self) -> int:
        """Return how often the micro-batch is halved, and one: 1 as long as nothing ran out of memory."""
        limit = memory_limit_mb()
        too_large = [
            entry["attempt"]
            for entry in self.all
            if entry["ended"] == RAN_OUT or (entry["ended"] == KILLED_FOR_MEMORY and limit <= entry["memory_limit_mb"])
        ]
        return min(max(too_large, default=0) + 1, self.last)

    def shape(self, attempt: int) -> tuple[int, int]:
        """Return a process's micro-batch and accumulation of an attempt."""
        processes = self.training["processes"] * self.training["nodes"]
        return batch_shape(self.training["micro_batch"], self.training["accumulation"], attempt, processes)

    def begin(self, attempt: int) -> None:
        """Write down that a try begins."""
        micro_batch, accumulation = self.shape(attempt)
        if self.all:
            before = self.all[-1]
            log.info("the try before ended so: %s", before["ended"])
            if before["attempt"] < attempt:
                terminal.line(
                    f"out of memory with a micro-batch of {before['micro_batch']}: going on with {micro_batch}"
                )
        entry = {
            "attempt": attempt,
            "micro_batch": micro_batch,
            "accumulation": accumulation,
            "memory_limit_mb": memory_limit_mb(),
            "oom_kills": oom_kills(),
        }
        self.all.append(entry)
        self.write(entry)

    def end(self, how: str) -> None:
        """Write down how the try ended; the memory of several processes is not this one's to know."""
        alone = self.training["processes"] * self.training["nodes"] == 1
        entry = {"ended": how, **({"memory_mb": peak_memory_mb()} if alone else {})}
        self.all[-1].update(entry)
        self.write(entry)

    def facts(self) -> list[dict]:
        """Return the tries for the run's facts."""
        keys = ("micro_batch", "accumulation", "ended", "memory_mb")
        return [{key: entry[key] for key in keys if key in entry} for entry in self.all]


def train_in_tries(tries: Tries, train: Callable[[int], tuple[list[dict], dict]], remedy: str) -> tuple:
    """Return the curve and facts of `train(attempt)`, tried with ever smaller micro-batches as long as memory runs out.

    Raises UserError with the remedy when there is nothing left to halve.
    """
    while True:
        attempt = tries.attempt()
        tries.begin(attempt)
        try:
            curve, facts = train(attempt)
            tries.end(DONE)
            return curve, facts | {"tries": tries.facts()}
        except BaseException as error:
            tries.end(how_it_ended(error))
            if not out_of_memory(error):
                raise
            if attempt >= tries.last:
                micro_batch = tries.shape(attempt)[0]
                raise UserError(f"out of memory with a micro-batch of {micro_batch}", remedy=remedy) from None
        free_memory()


def how_it_ended(error: BaseException) -> str:
    """Return what is written down of a try that ended with an error."""
    if out_of_memory(error):
        return RAN_OUT
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
