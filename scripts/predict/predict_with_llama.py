"""Answer prompts with llama.cpp: a GGUF file with its chat template and tokenizer.

python scripts/predict/predict_with_llama.py results/runs/football/gguf/q4_k_m.gguf \
    --test results/datasets/football/test.jsonl --answers q4_k_m.jsonl --likelihood likelihood.jsonl \
    --settings '{"generation": {...}}'

The first 10 answers have `seconds`, the time of a call for this prompt alone. The others are generated in batches.
Prompts with images also need the model's mmproj file and the folder of the images: `--mmproj`, `--images`.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import chain, islice
from pathlib import Path

from scripts.common.cli import progress, step_main
from scripts.common.errors import UserError
from scripts.common.files import sha256_of, write_jsonl
from scripts.gguf import llama
from scripts.gguf.llama_sequences import sequences_for
from scripts.predict.answers import AnswerFile, answer_row, likelihood_row
from scripts.predict.arguments import answer_file, predict_parser, prompts_of
from scripts.predict.llama_batches import (
    Row,
    answer_seed,
    answered_ids,
    answered_in_batches,
    negative_log_likelihood,
    sampling_options,
)
from scripts.predict.llama_readers import ImageReader, TextReader
from scripts.predict.prompts import Prompt

RESULT_VERSION = 4  # raise it with a change of the results: see scripts/workflow/code_digest.py
TIMED = 10  # answers with `seconds`, where the others are generated in batches
Reader = TextReader | ImageReader


def answer_prompt(model, reader: Reader, messages: list[dict], generation: dict, seed: int) -> dict:
    """Generate one answer; it does not depend on earlier prompts."""
    model.set_seed(seed)
    started = time.monotonic()
    ids = reader.read(model, messages)
    prompt_tokens = model.n_tokens + len(ids)
    answer: list[int] = []
    ended = False
    tokens = model.generate(ids, reset=False, **sampling_options(generation))
    for token in islice(tokens, generation["max_new_tokens"]):
        if ended := llama.ends_generation(model, token):
            break
        answer.append(token)
    seconds = time.monotonic() - started
    text = model.detokenize(answer, prev_tokens=ids).decode("utf-8", errors="replace").strip()
    return {**answer_row(text, prompt_tokens, len(answer), ended), "seconds": round(seconds, 4)}


def answer_prompts(model, reader: Reader, prompts: list[Prompt], file: AnswerFile, settings: dict, threads: int):
    """Generate the missing answers; return the likelihoods of the test prompts' expected answers.

    The first `TIMED` are asked one after the other and have `seconds`, the others in batches. All are asked one after
    the other if `generation.batch_size` is 1, with images, where tokens can't be removed from the model's cache, and
    where batches would be of one prompt. Each prompt has its own random seed, and is evaluated once for its answer and
    its likelihood.
    """
    generation = settings["generation"]
    in_batches = generation["batch_size"] > 1 and isinstance(reader, TextReader) and llama.can_drop_tokens(model)
    size = sequences_for(model, model.n_ctx(), len(prompts) - TIMED) if in_batches else 0
    alone = TIMED if size > 1 else len(prompts)
    singles = answered_alone(model, reader, prompts[:alone], file, generation)
    batches = answered_in_batches(model, prompts, alone, file, generation, size, threads)
    likelihoods = []
    with closing(batches):  # its context before the model, also after an error
        for prompt, answer, likelihood in progress(chain(singles, batches), file.title, len(prompts)):
            if answer and not file.has(prompt):
                file.add(prompt, answer)
            if likelihood:
                likelihoods.append(likelihood)
    return likelihoods


def answered_alone(model, reader: Reader, prompts: list[Prompt], file: AnswerFile, generation: dict) -> Iterator[Row]:
    """Yield (prompt, answer, likelihood) of prompts that are asked one after the other.

    The answer is None if the file has it, the likelihood if it is not wanted. Before the first answer its prompt is
    evaluated once more: what prompts share, and what llama.cpp sets up at its first call, is in nobody's seconds.
    """
    is_warm = False
    for number, prompt in enumerate(prompts):
        answer = None
        if not file.has(prompt):
            if not is_warm:
                model.eval(reader.read(model, prompt.messages))
                is_warm = True
            answer = answer_prompt(model, reader, prompt.messages, generation, answer_seed(generation, number))
        measured = likelihood(model, reader, prompt, answer is not None) if prompt.has_likelihood else None
        yield prompt, answer, measured


def likelihood(model, reader: Reader, prompt: Prompt, evaluated: bool) -> dict:
    """Return the negative log likelihood of a prompt's expected answer (nats, end token included).

    `evaluated`: the model has just answered the prompt, so that the prompt's tokens are in the cache.
    """
    asked = reader.tail(model, prompt.messages)
    told = answered_ids(model, reader.tail(model, prompt.answered), len(asked))
    before = reader.count(model, prompt.messages) - len(asked)  # tokens of the images
    same = llama.first_difference(asked[:-1], told)
    if not llama.can_drop_tokens(model):
        reader.read(model, prompt.messages)
        same = model.n_tokens - before
    elif not evaluated:
        model.eval(reader.read(model, prompt.messages))
    model.n_tokens = before + same
    nll, place = 0.0, same + 1  # of the token that a row of logits predicts
    for logits in llama.eval_logits(model, told[same:-1]):
        first, place = place, place + len(logits)
        measured = range(max(first, len(asked)), place)
        if measured:
            nll += negative_log_likelihood(logits[measured.start - first :], told[measured.start : place])
    return likelihood_row(prompt, nll, len(told) - len(asked))


def context_needed(path: Path, reader: Reader, prompts: list[Prompt], new_tokens: int) -> int:
    """Return the context in tokens for the longest prompt with its answer; UserError if it exceeds the model's."""
    with llama.open_gguf(path, context=8, vocab_only=True) as model:
        asked = [reader.count(model, prompt.messages) + new_tokens for prompt in prompts]
        told = [reader.count(model, prompt.answered) for prompt in prompts if prompt.expected]
        architecture = model.metadata["general.architecture"]
        limit = int(model.metadata.get(f"{architecture}.context_length", 2**31))
    needed = max(asked + told) + 1
    if needed > limit:
        raise UserError(f"prompts and answers need {needed} tokens, the model has {limit}", path)
    return needed


def step(arguments) -> None:
    """Run the step."""
    prompts, settings, threads = prompts_of(arguments), arguments.settings, arguments.threads
    hashes, reader, generation = {"gguf": sha256_of(arguments.model)}, TextReader(), settings["generation"]
    if arguments.mmproj:
        hashes["mmproj"] = sha256_of(arguments.mmproj)
        reader = ImageReader(arguments.mmproj, arguments.images, settings["vision"]["longest_edge"])
    file = answer_file(arguments, prompts, hashes, llama.llama_device(), RESULT_VERSION)
    context = context_needed(arguments.model, reader, prompts, generation["max_new_tokens"])
    with llama.open_gguf(arguments.model, context, threads) as model, reader.opened(model, threads):
        likelihoods = answer_prompts(model, reader, prompts, file, settings, threads)
    write_jsonl(arguments.likelihood, likelihoods)
    file.finish(prompts)


def parser():
    """Return the step's command line."""
    result = predict_parser(__doc__.splitlines()[0], "GGUF file")
    result.add_argument("--mmproj", type=Path, help="GGUF file of the model's vision tower, for prompts with images")
    result.add_argument("--images", type=Path, help="folder of the prompts' images")
    return result


main = step_main(step, parser)

if __name__ == "__main__":
    sys.exit(main())
