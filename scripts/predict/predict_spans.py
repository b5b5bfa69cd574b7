"""Find the entities of the test split's texts with a merged token classifier.

python scripts/predict/predict_spans.py results/runs/pii/merged/manifest.json --test results/datasets/pii/test.jsonl \
    --answers merged.jsonl --likelihood likelihood.jsonl \
    --settings '{"tokens": {"max_length": 512, "window_overlap": 64}, "training": {"precision": "auto"}, ...}'

`--settings` holds tokens.max_length, tokens.window_overlap, training.precision, generation.batch_size and
generation.load_in_4bit of the run. The text of a prompt is its last user message. An answer has `entities` [start, end,
label, score], and the same as JSON in `answer`, like that of a generative model. The first 100 answers have `seconds`,
the time of a call with this text alone. The likelihood file is empty, because a classifier has none.
"""

import sys
import time
from collections.abc import Iterator

from scripts.common.cli import progress, step_main
from scripts.common.files import write_jsonl
from scripts.common.threads import use_threads
from scripts.dataset.entities import entities_json
from scripts.predict.answers import AnswerFile, answer_row
from scripts.predict.arguments import file_of_manifests, predict_parser
from scripts.predict.batches import answer_batches
from scripts.predict.prompts import Prompt, all_prompts, asked_text
from scripts.predict.span_model import SpanModel

RESULT_VERSION = 3  # raise it with a change of the results: see scripts/workflow/code_digest.py
TIMED = 100  # answers with `seconds`; an interval of their 95th percentile needs 72


def answer_prompts(model: SpanModel, prompts: list[Prompt], file: AnswerFile) -> None:
    """Find the missing entities, batch by batch."""
    texts = [asked_text(prompt.messages) for prompt in prompts]
    tokens = [model.encode(text) for text in texts]

    def answer(_, batch: list[int]) -> Iterator[tuple[int, dict]]:
        found = model.entities_of([texts[i] for i in batch], [tokens[i] for i in batch])
        for i, row in zip(batch, found, strict=True):
            yield i, finished_answer(texts[i], row, len(tokens[i].ids))

    answer_batches(file, prompts, model.batches(tokens), answer)


def time_calls(model: SpanModel, prompts: list[Prompt], file: AnswerFile) -> None:
    """Give the first answers `seconds`: those of a call with one text. Batches of one (`batch_size: 1`) have them."""
    untimed = [prompt for prompt in prompts[:TIMED] if "seconds" not in file.row(prompt)]
    for prompt in progress(untimed, f"{file.title}, times", len(untimed)):
        started = time.monotonic()
        model.entities([asked_text(prompt.messages)])
        file.row(prompt)["seconds"] = round(time.monotonic() - started, 6)


def finished_answer(text: str, entities: list[list], tokens: int) -> dict:
    """Return an answer's entities, their JSON, and the counts; `tokens` is the number of tokens of the text."""
    return answer_row(entities_json(text, entities), tokens, tokens, ended=True, entities=entities)


def step(arguments) -> None:
    """Run the step."""
    use_threads(arguments.threads)
    prompts = all_prompts(arguments.test, dict(arguments.prompt_set), None)
    file = file_of_manifests(arguments, prompts, [arguments.model], RESULT_VERSION)
    model = SpanModel(arguments.model, arguments.settings)
    answer_prompts(model, prompts, file)
    time_calls(model, prompts, file)
    write_jsonl(arguments.likelihood, [])
    file.finish(prompts)


def parser():
    """Return the step's command line."""
    return predict_parser(__doc__.splitlines()[0], "manifest.json of the merged token classifier")


main = step_main(step, parser)

if __name__ == "__main__":
    sys.exit(main())
