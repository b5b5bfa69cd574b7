"""One of several processes that train a run: it meets the others, trains, and leaves what came of it in a folder."""

import os
import sys
from collections.abc import Callable

from scripts.common.cli import log
from scripts.common.errors import UserError
from scripts.common.files import write_json
from scripts.common.threads import use_threads
from scripts.train.launch import RESULT, note_failure
from scripts.train.memory import out_of_memory
from scripts.train.world import is_first, joined, process_number


def work(arguments, train_model: Callable) -> None:
    """Train together with the others; the first process leaves the result, and one that fails says why.

    A process that failed ends at once: leaving in good order would wait for the others, who wait for it.
    """
    use_threads(arguments.threads)
    try:
        with joined():
            curve, facts = train_model(
                arguments.tokens,
                arguments.base,
                arguments.checkpoints,
                arguments.output,
                arguments.settings,
                arguments.threads,
                arguments.attempt,
                images=arguments.images,
            )
            if is_first():
                write_json(arguments.exchange / RESULT, {"curve": curve, "facts": facts})
    except Exception as error:
        say_why(error, arguments)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


def say_why(error: Exception, arguments) -> None:
    """Leave word of an error for the process that started this one."""
    number = process_number()
    if isinstance(error, UserError):
        log.error("process %d: %s", number, error)
        note_failure(arguments.exchange, number, "user", str(error))
        return
    log.error("process %d failed", number, exc_info=error)
    kind = "memory" if out_of_memory(error) else "fault"
    note_failure(arguments.exchange, number, kind, f"process {number}: {type(error).__name__}: {error}")
