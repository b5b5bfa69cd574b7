"""Common code of the training steps: a lock per run, and reuse of the result of a finished run."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from scripts.common.cli import log, step_parser
from scripts.common.errors import UserError
from scripts.common.files import (
    MANIFEST,
    check_manifest,
    read_json,
    remove_leftovers,
    sha256_of,
    take_lock,
    write_json,
    write_jsonl,
    write_manifest,
)
from scripts.common.threads import use_threads
from scripts.train.oom_retry import RetryLog, train_with_oom_retry
from scripts.train.stop import StopOnTerm
from scripts.train.training_run import TrainingRun

FINISHED = ".finished.json"
PATIENCE = 90  # seconds: longer than a training takes to stop after its workflow was killed


@contextmanager
def only_training_in(folder: Path) -> Iterator[None]:
    """Hold the run's lock while the block runs; raises UserError if another process holds it.

    A training that outlived a killed workflow stops by itself, so this one waits. On a file system without locks,
    training continues without one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".training.lock", "w", encoding="utf-8") as file:
        try:
            take_lock(file, PATIENCE)
        except BlockingIOError:
            raise UserError(
                "another process is training this run", folder, remedy="wait for it, or stop that process"
            ) from None
        except OSError as error:
            log.warning(
                "%s has no locks (%s): another process that trains this run would not be noticed", folder, error
            )
        yield


def finished_run(record: Path, run: str, output: Path) -> dict | None:
    """Return the result of a finished run with this fingerprint, if its weights exist unaltered.

    Snakemake runs a step again if its input was rewritten, even with the same bytes; training is too expensive for
    that.
    """
    if not record.is_file():
        return None
    finished = read_json(record)
    if finished.get("run") != run:  # an earlier version of snaketune wrote no such key
        return None
    files = finished["manifest"].pop("files")
    whole = all((output / name).is_file() and sha256_of(output / name) == f["sha256"] for name, f in files.items())
    return finished if whole else None


def train_once(
    arguments, kind: type[TrainingRun], version: int, train: Callable[[TrainingRun], tuple], remedy: str, last=None
) -> None:
    """Write the outputs of `train(run)`, or of an equal run that has finished; remove the checkpoints.

    `kind` is the class of the run, `version` the step's RESULT_VERSION; `remedy` and `last` apply to a lack of memory
    (scripts/train/oom_retry.py).
    """
    StopOnTerm()
    with only_training_in(arguments.checkpoints.parent):
        use_threads(arguments.threads)
        run = kind.of(arguments, version).finished_fingerprint()
        record = arguments.checkpoints.with_name(FINISHED)
        finished = finished_run(record, run, arguments.output)
        if finished:
            log.info("this run has already finished: its weights are reused")
            remove_leftovers(record)  # of a kill after the record was complete, which nothing writes again
            write_manifest(arguments.output, **finished["manifest"])
        else:
            retry_log = RetryLog(arguments.checkpoints, run, arguments.settings["training"], last)
            attempt_of = partial(kind.of, arguments, version)
            curve, facts = train_with_oom_retry(retry_log, lambda attempt: train(attempt_of(attempt)), remedy)
            manifest = check_manifest(arguments.output / MANIFEST)
            finished = {"run": run, "curve": curve, "facts": facts, "manifest": manifest}
            write_json(record, finished)
        write_jsonl(arguments.curve, finished["curve"])
        write_json(arguments.facts, finished["facts"])
        shutil.rmtree(arguments.checkpoints, ignore_errors=True)


def training_parser(description: str):
    """Return the command line of a training step."""
    result = step_parser(description)
    result.add_argument(
        "tokens", type=Path, help="folder with train.arrow, validation.arrow and, for spans, labels.json"
    )
    result.add_argument("--base", type=Path, required=True, help="manifest.json of the base model")
    result.add_argument("--checkpoints", type=Path, required=True, help="folder for checkpoints and hidden states")
    result.add_argument("--output", type=Path, required=True, help="folder for the adapter, the head, or the model")
    result.add_argument("--curve", type=Path, required=True, help="JSONL file for the training curve")
    result.add_argument("--facts", type=Path, required=True, help="JSON file for the facts of the training")
    result.add_argument("--threads", type=int, default=2, help="CPU threads; the number may affect rounding")
    return result
