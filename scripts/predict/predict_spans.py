"""Find the entities of the test split's texts with a merged token classifier.

python scripts/predict/predict_spans.py results/runs/pii/merged/manifest.json --test results/datasets/pii/test.jsonl \
    --answers merged.jsonl --likelihood likelihood.jsonl \
    --settings '{"tokens": {"max_length": 512, "window_overlap": 64}, "training": {"precision": "auto"}, ...}'

`--settings` holds tokens.max_length, tokens.window_overlap, training.precision, generation.batch_size and
generation.load_in_4bit of the run. The text of a prompt is its last user message. An answer has `entities` [start, end,
label, score], and the same as JSON in `answer`, like that of a generative model. The likelihood file is empty, because
a classifier has none.
"""

import sys
import time
from pathlib import Path

from scripts.common.base_model import device_name
from scripts.common.cli import Progress, run_step
from scripts.common.errors import UserError
from scripts.common.files import check_manifest, write_jsonl
from scripts.common.number_format import device_precision
from scripts.common.records import text_of
from scripts.common.threads import use_threads
from scripts.dataset.entities import entities_json
from scripts.predict.answers import AnswerFile
from scripts.predict.arguments import bar_title, predict_parser, prompt_circumstances
from scripts.predict.prompts import Prompt, all_prompts
from scripts.predict.span_model import SpanModel

RESULT_VERSION = 2  # raise it with a change of the results: see scripts/workflow/code_digest.py


def text_of_prompt(prompt: Prompt) -> str:
    """Return the text to find entities in."""
    return text_of(next(message["content"] for message in reversed(prompt.messages) if message["role"] == "user"))


def answer_prompts(model: SpanModel, prompts: list[Prompt], file: AnswerFile, what: str) -> None:
    """Find the missing entities, batch by batch.

    Batches are made from all prompts, so that they don't depend on interruptions. `seconds` of an answer is its share
    of the batch's time.
    """
    texts = [text_of_prompt(prompt) for prompt in prompts]
    tokens = [model.encode(text) for text in texts]
    bar = Progress(what, len(prompts))
    for batch in model.batches(tokens):
        if not all(file.has(prompts[i]) for i in batch):
            started = time.monotonic()
            found = model.entities_of([texts[i] for i in batch], [tokens[i] for i in batch])
            seconds = (time.monotonic() - started) / len(batch)
            for i, entities in zip(batch, found, strict=True):
                if not file.has(prompts[i]):
                    answer = finished_answer(texts[i], entities, len(tokens[i].ids), seconds)
                    file.add(prompts[i], answer)
        bar.advance(len(batch))


def finished_answer(text: str, entities: list[list], tokens: int, seconds: float) -> dict:
    """Return an answer's entities, their JSON, and the counts; `tokens` is the number of tokens of the text."""
    return {
        "answer": entities_json(text, entities),
        "entities": entities,
        "prompt_tokens": tokens,
        "tokens": tokens,
        "stop": "end",
        "seconds": round(seconds, 6),
    }


def step(arguments) -> None:
    """Run the step."""
    use_threads(arguments.threads)
    if arguments.model.name != "manifest.json":
        raise UserError("is not the manifest.json of a model folder", arguments.model)
    settings = arguments.settings
    prompts = all_prompts(arguments.test, dict(arguments.prompt_set), None)
    models = {str(arguments.model): check_manifest(arguments.model)}
    circumstances = prompt_circumstances(arguments, prompts, models, RESULT_VERSION)
    circumstances["precision"] = device_precision(settings["training"]["precision"])
    model = SpanModel(
        arguments.model,
        settings["training"]["precision"],
        settings["tokens"]["max_length"],
        settings["tokens"]["window_overlap"],
        settings["generation"]["batch_size"],
        settings["generation"]["load_in_4bit"],
    )
    file = AnswerFile(arguments.answers, circumstances, device_name())
    answer_prompts(model, prompts, file, bar_title(arguments))
    write_jsonl(arguments.likelihood, [])
    file.finish(prompts)


def parser():
    """Return the step's command line."""
    result = predict_parser(__doc__.splitlines()[0])
    result.add_argument("model", type=Path, help="manifest.json of the merged token classifier")
    return result


def main(argv=None) -> int:
    """Run the command line; return the exit status."""
    return run_step(step, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
