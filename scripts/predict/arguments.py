"""The common command line of the prediction steps."""

import argparse
from pathlib import Path

from scripts.common.cli import step_parser
from scripts.predict.prompts import Prompt, all_prompts
from scripts.predict.strategies import Strategies


def predict_parser(description: str) -> argparse.ArgumentParser:
    """Return the parser with the arguments for prompts and outputs."""
    parser = step_parser(description)
    parser.add_argument("--test", type=Path, required=True, help="test.jsonl of the dataset")
    parser.add_argument(
        "--prompt-set", type=named_file, action="append", default=[], metavar="NAME=FILE", help="a further prompt set"
    )
    parser.add_argument("--train", type=Path, help="train.jsonl of the dataset, for strategies that show examples")
    parser.add_argument("--answers", type=Path, required=True, help="JSONL file for the answers")
    parser.add_argument("--likelihood", type=Path, required=True, help="JSONL file for the likelihoods")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; the number may affect rounding")
    return parser


def named_file(text: str) -> tuple[str, Path]:
    """Parse NAME=FILE."""
    name, separator, path = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError("is not NAME=FILE")
    return name, Path(path)


def bar_title(arguments) -> str:
    """Return the title of the progress bar: run and variant, from the answers' path."""
    return f"predict {arguments.answers.absolute().parents[1].name} {arguments.answers.stem}"


def prompts_of(arguments) -> list[Prompt]:
    """Return the prompts of the command line in a fixed order."""
    generation, strategies = arguments.settings["generation"], Strategies(arguments.settings, arguments.train)
    files, limit = dict(arguments.prompt_set), generation.get("test_records")
    return all_prompts(arguments.test, files, generation["system"], strategies, limit)


def prompt_circumstances(arguments, prompts: list[Prompt], model: dict, result_version: int) -> dict:
    """Return everything that determines the answers, for the fingerprint of the partial file."""
    return {
        "settings": arguments.settings,
        "prompts": [prompt.to_row() for prompt in prompts],
        "model": model,
        "threads": arguments.threads,
        "result_version": result_version,
    }
