"""Answer prompts with llama.cpp: a GGUF file with its chat template and tokenizer.

python scripts/predict/predict_with_llama.py results/runs/football/gguf/q4_k_m.gguf \
    --test results/datasets/football/test.jsonl --answers q4_k_m.jsonl --likelihood likelihood.jsonl \
    --settings '{"generation": {...}}'

Prompts with images also need the model's mmproj file and the folder of the images: `--mmproj`, `--images`.
"""

import sys
import time
from itertools import islice
from pathlib import Path

import numpy

from scripts.common.cli import progress, step_main
from scripts.common.errors import UserError
from scripts.common.files import sha256_of, write_jsonl
from scripts.gguf import llama
from scripts.predict.answers import AnswerFile, answer_row, likelihood_row
from scripts.predict.arguments import answer_file, predict_parser, prompts_of
from scripts.predict.llama_readers import ImageReader, TextReader
from scripts.predict.prompts import Prompt

RESULT_VERSION = 3  # raise it with a change of the results: see scripts/workflow/code_digest.py
Reader = TextReader | ImageReader


def answer_prompt(model, reader: Reader, messages: list[dict], generation: dict, seed: int) -> dict:
    """Generate one answer; it does not depend on earlier prompts."""
    model.set_seed(seed)
    started = time.monotonic()
    ids = reader.read(model, messages)
    prompt_tokens = model.n_tokens + len(ids)
    answer: list[int] = []
    ended = False
    options = {key: generation[key] for key in ("top_k", "top_p", "min_p")}
    options |= {"temp": generation["temperature"], "repeat_penalty": generation["repetition_penalty"]}  # 0: greedy
    for token in islice(model.generate(ids, reset=False, **options), generation["max_new_tokens"]):
        if ended := llama.ends_generation(model, token):
            break
        answer.append(token)
    seconds = time.monotonic() - started
    text = model.detokenize(answer, prev_tokens=ids).decode("utf-8", errors="replace").strip()
    return {**answer_row(text, prompt_tokens, len(answer), ended), "seconds": round(seconds, 4)}


def answer_prompts(model, reader: Reader, prompts: list[Prompt], file: AnswerFile, generation: dict) -> list[dict]:
    """Generate the missing answers one after the other; return the likelihoods of the test prompts' expected answers.

    Each prompt has its own random seed, and is evaluated once for its answer and its likelihood.
    """
    likelihoods = []
    for number, prompt in enumerate(progress(prompts, file.title, len(prompts))):
        missing = not file.has(prompt)
        if missing:
            seed = generation["seed"] * 1_000_003 + number
            file.add(prompt, answer_prompt(model, reader, prompt.messages, generation, seed))
        if prompt.prompt_set == "test" and prompt.expected:
            likelihoods.append(likelihood(model, reader, prompt, evaluated=missing))
    return likelihoods


def likelihood(model, reader: Reader, prompt: Prompt, evaluated: bool) -> dict:
    """Return the negative log likelihood of a prompt's expected answer (nats, end token included).

    `evaluated`: the model has just answered the prompt, so that the prompt's tokens are in the cache.
    """
    asked = reader.tail(model, prompt.messages)
    told = reader.tail(model, prompt.answered)
    ends = [place for place in range(len(asked), len(told)) if llama.ends_generation(model, told[place])]
    told = told[: ends[-1] + 1] if ends else told
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
            rows = logits[measured.start - first :].astype("float64")
            peak = rows.max(axis=1)
            total = peak + numpy.log(numpy.exp(rows - peak[:, None]).sum(axis=1))
            nll += float((total - rows[numpy.arange(len(rows)), told[measured.start : place]]).sum())
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
        likelihoods = answer_prompts(model, reader, prompts, file, generation)
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
