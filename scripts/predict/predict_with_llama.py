"""Answer prompts with llama.cpp: a GGUF file, its own chat template, its own tokenizer.

python scripts/predict/predict_with_llama.py results/runs/football/gguf/q4_k_m.gguf \
    --test results/datasets/football/test.jsonl --answers q4_k_m.jsonl --likelihood likelihood.jsonl \
    --settings '{"generation": {...}}'
"""

import sys
import time
from pathlib import Path

from scripts.common.cli import Progress, run_step
from scripts.common.errors import UserError
from scripts.common.files import sha256_of, write_jsonl
from scripts.common.llama import chat_text, ends_generation, open_gguf, token_ids
from scripts.predict.answers import AnswerFile
from scripts.predict.arguments import bar_title, predict_parser, prompt_circumstances, prompts_of
from scripts.predict.prompts import Prompt


def sampling_options(generation: dict) -> dict:
    """Return the options of `Llama.generate`; temperature 0 is greedy."""
    return {
        "temp": generation["temperature"],
        "top_k": generation["top_k"],
        "top_p": generation["top_p"],
        "min_p": generation["min_p"],
        "repeat_penalty": generation["repetition_penalty"],
    }


def answer_prompt(model, ids: list[int], generation: dict, seed: int) -> dict:
    """Generate one answer from an empty cache, so that it does not depend on the prompts before it."""
    model.reset()
    model.set_seed(seed)
    started = time.monotonic()
    answer: list[int] = []
    stop = "length"
    for token in model.generate(ids, **sampling_options(generation)):
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
        "prompt_tokens": len(ids),
        "tokens": len(answer),
        "stop": stop,
        "seconds": round(seconds, 4),
    }


def answer_prompts(model, prompts: list[Prompt], file: AnswerFile, generation: dict, what: str) -> None:
    """Generate the answers that the file lacks, one after the other; each prompt has its own stream of samples."""
    bar = Progress(what, len(prompts))
    for number, prompt in enumerate(prompts):
        if not file.has(prompt):
            ids = token_ids(model, chat_text(model, prompt.messages))
            file.add(prompt, answer_prompt(model, ids, generation, generation["seed"] * 1_000_003 + number))
        bar.advance()


def expected_ids(model, prompt: Prompt) -> tuple[list[int], int]:
    """Return llama.cpp's token ids of prompt and expected answer, up to the end token, and where the answer begins."""
    messages = [*prompt.messages, {"role": "assistant", "content": prompt.expected}]
    ids = token_ids(model, chat_text(model, messages, add_generation_prompt=False))
    start = len(token_ids(model, chat_text(model, prompt.messages)))
    ends = [place for place in range(start, len(ids)) if ends_generation(model, ids[place])]
    return ids[: ends[-1] + 1] if ends else ids, start


def measure_likelihood(model, prompts: list[Prompt]) -> list[dict]:
    """Return, for each prompt with an expected answer, its negative log likelihood (nats, end token included)."""
    import numpy

    results = []
    for prompt in prompts:
        if not prompt.expected:
            continue
        ids, start = expected_ids(model, prompt)
        model.reset()
        model.eval(ids)
        logits = numpy.asarray(model.scores[start - 1 : len(ids) - 1], dtype=numpy.float64)
        peak = logits.max(axis=1)
        total = peak + numpy.log(numpy.exp(logits - peak[:, None]).sum(axis=1))
        chosen = logits[numpy.arange(len(logits)), ids[start:]]
        results.append(
            {
                "id": prompt.id,
                "nll": round(float((total - chosen).sum()), 6),
                "tokens": len(ids) - start,
                "characters": len(prompt.expected),
            }
        )
    return results


def context_needed(path: Path, prompts: list[Prompt], new_tokens: int) -> int:
    """Return the context that the longest prompt with its answer needs, in tokens.

    Raises UserError when the model was not made for so long a context.
    """
    with open_gguf(path, context=8, vocab_only=True) as model:
        asked = [len(token_ids(model, chat_text(model, prompt.messages))) + new_tokens for prompt in prompts]
        told = [len(expected_ids(model, prompt)[0]) for prompt in prompts if prompt.expected]
        architecture = model.metadata["general.architecture"]
        limit = int(model.metadata.get(f"{architecture}.context_length", 2**31))
    needed = max(asked + told) + 1
    if needed > limit:
        raise UserError(f"prompts and answers need {needed} tokens, the model has {limit}", path)
    return needed


def step(arguments) -> None:
    """Run the step."""
    prompts = prompts_of(arguments)
    generation = arguments.settings["generation"]
    circumstances = prompt_circumstances(arguments, prompts, {"gguf": sha256_of(arguments.model)}, Path(__file__))
    file = AnswerFile(arguments.answers, circumstances)
    context = context_needed(arguments.model, prompts, generation["max_new_tokens"])
    with open_gguf(arguments.model, context, arguments.threads) as model:
        answer_prompts(model, prompts, file, generation, bar_title(arguments))
    with open_gguf(arguments.model, context, arguments.threads, logits_all=True) as model:
        tests = [prompt for prompt in prompts if prompt.prompt_set == "test"]
        write_jsonl(arguments.likelihood, measure_likelihood(model, tests))
    file.finish(prompts)


def parser():
    """Return the step's command line."""
    result = predict_parser(__doc__.splitlines()[0])
    result.add_argument("model", type=Path, help="GGUF file")
    return result


def main(argv=None) -> int:
    """Run the command line; return the exit status."""
    return run_step(step, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
