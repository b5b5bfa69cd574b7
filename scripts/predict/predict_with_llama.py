"""Answer prompts with llama.cpp: a GGUF file with its chat template and tokenizer.

python scripts/predict/predict_with_llama.py results/runs/football/gguf/q4_k_m.gguf \
    --test results/datasets/football/test.jsonl --answers q4_k_m.jsonl --likelihood likelihood.jsonl \
    --settings '{"generation": {...}}'

Prompts with images also need the model's mmproj file and the folder of the images: `--mmproj`, `--images`.
"""

import sys
import time
from itertools import takewhile
from pathlib import Path

import numpy

from scripts.common.cli import progress, step_main
from scripts.common.errors import UserError
from scripts.common.files import sha256_of, write_jsonl
from scripts.gguf.llama import can_drop_tokens, ends_generation, eval_logits, llama_device, open_gguf
from scripts.predict.answers import AnswerFile
from scripts.predict.arguments import bar_title, predict_parser, prompt_circumstances, prompts_of
from scripts.predict.llama_readers import ImageReader, TextReader, reader_of
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
    stop = "length"
    options = {key: generation[key] for key in ("top_k", "top_p", "min_p")}
    options |= {"temp": generation["temperature"], "repeat_penalty": generation["repetition_penalty"]}  # 0: greedy
    for token in model.generate(ids, reset=False, **options):
        if ends_generation(model, token):
            stop = "end"
            break
        answer.append(token)
        if len(answer) == generation["max_new_tokens"]:
            break
    seconds = time.monotonic() - started
    text = model.detokenize(answer, prev_tokens=ids).decode("utf-8", errors="replace")
    return {
        "answer": text.strip(),
        "prompt_tokens": prompt_tokens,
        "tokens": len(answer),
        "stop": stop,
        "seconds": round(seconds, 4),
    }


def answer_prompts(
    model, reader: Reader, prompts: list[Prompt], file: AnswerFile, generation: dict, what: str
) -> list[dict]:
    """Generate the missing answers one after the other; return the likelihoods of the test prompts' expected answers.

    Each prompt has its own random seed, and is evaluated once for its answer and its likelihood.
    """
    likelihoods = []
    for number, prompt in enumerate(progress(prompts, what, len(prompts))):
        missing = not file.has(prompt)
        if missing:
            seed = generation["seed"] * 1_000_003 + number
            file.add(prompt, answer_prompt(model, reader, prompt.messages, generation, seed))
        if prompt.prompt_set == "test" and prompt.expected:
            likelihoods.append(likelihood(model, reader, prompt, evaluated=missing))
    return likelihoods


def answered(prompt: Prompt) -> list[dict]:
    """Return a prompt's messages with the expected answer."""
    return [*prompt.messages, {"role": "assistant", "content": prompt.expected}]


def likelihood(model, reader: Reader, prompt: Prompt, evaluated: bool) -> dict:
    """Return the negative log likelihood of a prompt's expected answer (nats, end token included).

    `evaluated`: the model has just answered the prompt, so that the prompt's tokens are in the cache.
    """
    asked = reader.tail(model, prompt.messages)
    told = reader.tail(model, answered(prompt))
    ends = [place for place in range(len(asked), len(told)) if ends_generation(model, told[place])]
    told = told[: ends[-1] + 1] if ends else told
    before = reader.count(model, prompt.messages) - len(asked)  # tokens of the images
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(asked[:-1], told, strict=False)))
    if not can_drop_tokens(model):
        reader.read(model, prompt.messages)
        same = model.n_tokens - before
    elif not evaluated:
        model.eval(reader.read(model, prompt.messages))
    model.n_tokens = before + same
    nll, place = 0.0, same + 1  # of the token that a row of logits predicts
    for logits in eval_logits(model, told[same:-1]):
        first, place = place, place + len(logits)
        measured = range(max(first, len(asked)), place)
        if measured:
            rows = logits[measured.start - first :].astype("float64")
            peak = rows.max(axis=1)
            total = peak + numpy.log(numpy.exp(rows - peak[:, None]).sum(axis=1))
            nll += float((total - rows[numpy.arange(len(rows)), told[measured.start : place]]).sum())
    return {
        "id": prompt.id,
        "nll": round(nll, 6),
        "tokens": len(told) - len(asked),
        "characters": len(prompt.expected),
    }


def context_needed(path: Path, reader: Reader, prompts: list[Prompt], new_tokens: int) -> int:
    """Return the context in tokens for the longest prompt with its answer.

    Raises UserError if it exceeds the model's context.
    """
    with open_gguf(path, context=8, vocab_only=True) as model:
        asked = [reader.count(model, prompt.messages) + new_tokens for prompt in prompts]
        told = [reader.count(model, answered(prompt)) for prompt in prompts if prompt.expected]
        architecture = model.metadata["general.architecture"]
        limit = int(model.metadata.get(f"{architecture}.context_length", 2**31))
    needed = max(asked + told) + 1
    if needed > limit:
        raise UserError(f"prompts and answers need {needed} tokens, the model has {limit}", path)
    return needed


def step(arguments) -> None:
    """Run the step."""
    prompts, reader, threads = prompts_of(arguments), reader_of(arguments), arguments.threads
    generation = arguments.settings["generation"]
    files = {"gguf": arguments.model} | ({"mmproj": arguments.mmproj} if arguments.mmproj else {})
    hashes = {kind: sha256_of(path) for kind, path in files.items()}
    circumstances = prompt_circumstances(arguments, prompts, hashes, RESULT_VERSION)
    file = AnswerFile(arguments.answers, circumstances, llama_device())
    context = context_needed(arguments.model, reader, prompts, generation["max_new_tokens"])
    with open_gguf(arguments.model, context, threads) as model, reader.opened(model, threads):
        likelihoods = answer_prompts(model, reader, prompts, file, generation, bar_title(arguments))
    write_jsonl(arguments.likelihood, likelihoods)
    file.finish(prompts)


def parser():
    """Return the step's command line."""
    result = predict_parser(__doc__.splitlines()[0])
    result.add_argument("model", type=Path, help="GGUF file")
    result.add_argument("--mmproj", type=Path, help="GGUF file of the model's vision tower, for prompts with images")
    result.add_argument("--images", type=Path, help="folder of the prompts' images")
    return result


main = step_main(step, parser)

if __name__ == "__main__":
    sys.exit(main())
