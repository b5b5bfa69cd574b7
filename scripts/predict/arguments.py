"""The command line that both ways of predicting share."""

import argparse
from pathlib import Path

from scripts.common.cli import step_parser
from scripts.predict.prompts import Prompt, all_prompts
from scripts.predict.strategies import Strategies


def predict_parser(description: str) -> argparse.ArgumentParser:
    """Return the parser with what is asked and where the answers go."""
    parser = step_parser(description)
    parser.add_argument("--test", type=Path, required=True, help="test.jsonl of the dataset")
    parser.add_argument(
        "--prompt-set", type=named_file, action="append", default=[], metavar="NAME=FILE", help="a further prompt set"
    )
    parser.add_argument("--train", type=Path, help="train.jsonl of the dataset, for strategies that show examples")
    parser.add_argument("--answers", type=Path, required=True, help="JSONL file for the answers")
    parser.add_argument("--likelihood", type=Path, required=True, help="JSONL file for the likelihoods")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; another number may give other rounding")
    return parser


def named_file(text: str) -> tuple[str, Path]:
    """Read NAME=FILE."""
    name, separator, path = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError("is not NAME=FILE")
    return name, Path(path)


def bar_title(arguments) -> str:
    """Return what the bar says: run and variant, which the answers' path holds."""
    return f"predict {arguments.answers.absolute().parents[1].name} {arguments.answers.stem}"


def prompts_of(arguments) -> list[Prompt]:
    """Return the prompts that the command line names, in a fixed order."""
    generation, strategies = arguments.settings["generation"], Strategies(arguments.settings, arguments.train)
    files, limit = dict(arguments.prompt_set), generation.get("test_records")
    return all_prompts(arguments.test, files, generation["system"], strategies, limit)


def prompt_circumstances(arguments, prompts: list[Prompt], model: dict, result_version: int) -> dict:
    """Return everything that decides the answers, for the fingerprint of what was answered so far."""
    return {
        "settings": arguments.settings,
        "prompts": [prompt.to_row() for prompt in prompts],
        "model": model,
        "threads": arguments.threads,
        "result_version": result_version,
    }
