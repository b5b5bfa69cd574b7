"""Retry with half the micro-batch after running out of memory; log all executions of a run.

After a stop or a kill, training continues with the same micro-batch, and the result is bit-identical. After running out
of memory, it continues with half the micro-batch and twice the accumulation, so that the rows of a step stay the same.
"""

import json
from collections.abc import Callable
from pathlib import Path

from scripts.common.cli import log
from scripts.common.errors import UserError
from scripts.common.files import write_jsonl
from scripts.common.terminal import terminal
from scripts.train.arguments import batch_shape, process_count
from scripts.train.memory import has_risen, memory_limit_mb, oom_kills, out_of_memory, peak_memory_mb

DONE = "done"
RAN_OUT = "out of memory"
KILLED = "killed"
KILLED_FOR_MEMORY = "killed when the machine ran out of memory"


class RetryLog:
    """The executions of a run's training, in a file next to its checkpoints; `run` is the run's fingerprint.

    Each line is an execution; one without an end was killed. The attempt number is 1 plus the number of times the
    micro-batch was halved. `last` is the last attempt that can be halved to (default: the one with an odd micro-batch).
    """

    def __init__(self, folder: Path, run: str, training: dict, last: int | None = None):
        self.path, self.run, self.training = folder / "attempts.jsonl", run, training
        self.last = last or next(a for a in range(1, 99) if batch_shape(training, a) == batch_shape(training, a + 1))
        self.all = self.read()

    def read(self) -> list[dict]:
        # Not by `read_jsonl`: the file is removed with the checkpoints, and is not an input of the result.
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
        found = [row for row in map(json.loads, lines) if row["run"] == self.run]
        counts = [*(entry["oom_kills"] for entry in found[1:]), oom_kills()]
        for entry, after in zip(found, counts, strict=False):
            entry.setdefault("ended", KILLED_FOR_MEMORY if has_risen(entry["oom_kills"], after) else KILLED)
        return found

    def attempt(self) -> int:
        """Return the attempt to start with: 1 if no execution ran out of memory."""
        limit = memory_limit_mb()
        too_large = [
            entry["attempt"]
            for entry in self.all
            if entry["ended"] == RAN_OUT or (entry["ended"] == KILLED_FOR_MEMORY and limit <= entry["memory_limit_mb"])
        ]
        return min(max(too_large, default=0) + 1, self.last)

    def begin(self, attempt: int) -> None:
        micro_batch, accumulation = batch_shape(self.training, attempt)
        if self.all:
            before = self.all[-1]
            log.info("the previous training ended: %s", before["ended"])
            if before["attempt"] < attempt:
                terminal.line(
                    f"out of memory with a micro-batch of {before['micro_batch']}: continues with {micro_batch}"
                )
        entry = {
            "run": self.run,
            "attempt": attempt,
            "micro_batch": micro_batch,
            "accumulation": accumulation,
            "memory_limit_mb": memory_limit_mb(),
            "oom_kills": oom_kills(),
        }
        self.all.append(entry)
        write_jsonl(self.path, self.all, part=True)

    def end(self, how: str) -> None:
        """Log how the training ended; the memory use of several processes is not known here."""
        memory = {"memory_mb": peak_memory_mb()} if process_count(self.training) == 1 else {}
        self.all[-1] |= {"ended": how, **memory}
        write_jsonl(self.path, self.all, part=True)

    def facts(self) -> list[dict]:
        keys = ("micro_batch", "accumulation", "ended", "memory_mb")
        return [{key: entry[key] for key in keys if key in entry} for entry in self.all]


def train_with_oom_retry(retries: RetryLog, train: Callable[[int], tuple[list[dict], dict]], remedy: str) -> tuple:
    """Return curve and facts of `train(attempt)`, retrying with the next attempt after running out of memory.

    Raises UserError with the remedy if the micro-batch can't be halved further.
    """
    from accelerate.utils.memory import clear_device_cache

    while True:
        attempt = retries.attempt()
        retries.begin(attempt)
        try:
            curve, facts = train(attempt)
            retries.end(DONE)
            return curve, facts | {"attempts": retries.facts()}
        except BaseException as error:
            if not out_of_memory(error):
                retries.end(str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}")
                raise
            retries.end(RAN_OUT)
            if attempt >= retries.last:
                micro_batch, _ = batch_shape(retries.training, attempt)
                raise UserError(f"out of memory with a micro-batch of {micro_batch}", remedy=remedy) from None
        clear_device_cache(garbage_collection=True)
