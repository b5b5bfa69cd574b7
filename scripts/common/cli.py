"""The command line of every step: common arguments, log, progress, and one-line errors."""

import argparse
import json
import logging
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from scripts.common.checksums import name_inputs
from scripts.common.errors import UserError, full_disk
from scripts.common.garbage import collect_rarely
from scripts.common.gpu_locks import take_devices
from scripts.common.parent_watchdog import end_with_workflow
from scripts.common.terminal import Progress, log, progress, terminal

__all__ = ["Progress", "log", "progress", "run_step", "settings_argument", "step_main", "step_parser"]


def step_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the common arguments: `--settings` (JSON, or @file), `--gpus` and `--log`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--settings", type=settings_argument, default="{}", help="the step's settings: JSON, or @file")
    parser.add_argument("--gpus", type=int, help="GPUs that the step has for itself; 0: it sees none (default: all)")
    parser.add_argument("--log", type=Path, help="file for everything the step says; the terminal gets progress only")
    return parser


class Settings(dict):
    """An object of a step's settings; a key that it lacks is a UserError."""

    def __missing__(self, key: str):
        remedy = "`snakemake -n -p` prints the whole command, and docs/reference/configuration.md the defaults"
        raise UserError(f"--settings lacks '{key}'", remedy=remedy)


def settings_argument(text: str) -> Settings:
    """Parse settings given as JSON or as @file."""
    try:
        given = Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text
        return json.loads(given, object_hook=Settings)
    except (OSError, json.JSONDecodeError) as error:
        raise argparse.ArgumentTypeError(f"is not valid JSON: {error}") from None


def run_step(step: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser, argv=None) -> int:
    """Run a step; return its exit status.

    A UserError or a full disk gives status 1 and one line on the terminal and in the log. Any other exception gives
    status 2 and a traceback in the log. The GPUs of `--gpus` are locked before the step starts. With `--log`, all
    output of the process and its libraries goes to that file, and the terminal shows only progress and errors.
    """
    collect_rarely()
    arguments = parser.parse_args(argv)
    name_inputs(vars(arguments).values())
    terminal.redirect(arguments.log, go_on=getattr(arguments, "exchange", None) is not None)
    line = "%(asctime)s %(levelname)s %(message)s"
    logging.basicConfig(level=logging.INFO, format=line, stream=sys.stderr, force=True)
    end_with_workflow()
    try:
        take_devices(arguments.gpus)
        step(arguments)
    except KeyboardInterrupt:
        log.error("stopped by Ctrl-C; run the same command again to continue")
        return 128 + signal.SIGINT
    except Exception as error:
        fault = full_disk(error, vars(arguments)) or error
        if isinstance(fault, UserError):
            log.error("%s", fault)
            terminal.error(str(fault), parser.prog)
            return 1
        log.exception("this is an error in the step, not in the input")
        terminal.error(f"{type(error).__name__}: {error}", parser.prog)
        return 2
    finally:
        name_inputs(())
        with suppress(OSError):  # the disk of the log is full
            sys.stdout.flush()
            sys.stderr.flush()
    return 0


def step_main(
    step: Callable[[argparse.Namespace], None], parser: Callable[[], argparse.ArgumentParser]
) -> Callable[..., int]:
    """Return the `main(argv=None)` of a step's program: it runs the step and returns the exit status."""
    return lambda argv=None: run_step(step, parser(), argv)
