"""The command line of the prediction steps: its arguments, prompts, and file of answers."""

import argparse
from pathlib import Path

from scripts.common.base_model import device_name
from scripts.common.cli import step_parser
from scripts.common.errors import UserError
from scripts.common.files import check_manifest
from scripts.common.number_format import device_precision
from scripts.predict.answers import AnswerFile
from scripts.predict.prompts import Prompt, all_prompts
from scripts.predict.strategies import Strategies


def predict_parser(description: str, model: str) -> argparse.ArgumentParser:
    """Return the parser with the arguments for the model, which `model` describes, for prompts and for outputs."""
    parser = step_parser(description)
    parser.add_argument("model", type=Path, help=model)
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


def prompts_of(arguments) -> list[Prompt]:
    """Return the prompts of the command line in a fixed order."""
    generation, strategies = arguments.settings["generation"], Strategies(arguments.settings, arguments.train)
    files, limit = dict(arguments.prompt_set), generation.get("test_records")
    return all_prompts(arguments.test, files, generation["system"], strategies, limit)


def answer_file(arguments, prompts: list[Prompt], model: dict, device: str, result_version: int) -> AnswerFile:
    """Return the file of answers, with a fingerprint of everything that determines them, such as the model's facts."""
    circumstances = {
        "settings": arguments.settings,
        "prompts": [prompt.to_row() for prompt in prompts],
        "model": model,
        "threads": arguments.threads,
        "result_version": result_version,
    }
    return AnswerFile(arguments.answers, circumstances, device)


def file_of_manifests(arguments, prompts: list[Prompt], manifests: list[Path], result_version: int) -> AnswerFile:
    """Return the file of answers of a model that transformers loads, after a check of its manifests.

    Raises UserError if the command line names another file than a manifest, and for a changed model.
    """
    if arguments.model.name != "manifest.json":
        raise UserError("is not the manifest.json of a model folder", arguments.model)
    precision = device_precision(arguments.settings["training"]["precision"])
    model = {"manifests": [check_manifest(manifest) for manifest in manifests], "precision": precision}
    return answer_file(arguments, prompts, model, device_name(), result_version)
