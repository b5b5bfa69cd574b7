"""A step that succeeds, or fails where its log's name has `bad`: python -m tests.support.failing_step --log LOG."""

import sys

from scripts.common.cli import log, run_step, step_parser
from scripts.common.errors import UserError


def step(arguments) -> None:
    log.info("reads")
    if "bad" in str(arguments.log):
        raise UserError("is bad", "data.jsonl", 3)


sys.exit(run_step(step, step_parser("A step.")))
