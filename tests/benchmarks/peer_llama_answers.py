"""Answer prompts with llama-cpp-python, one `create_completion` after the other, as its README shows.

python -m tests.benchmarks.peer_llama_answers MODEL.gguf test.jsonl answers.jsonl --tokens 64 --threads 1

`--keep` leaves the last prompt in the cache, as llama-cpp-python does by itself: it evaluates what differs only.
Without it the cache is emptied before each prompt. `--likelihood` adds the log likelihood of the expected answers,
computed with numpy from `scores`.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy
from jinja2 import Template
from llama_cpp import Llama


def main(argv=None) -> int:
    """Write a line {"answer", "ids", "tokens", "nll"} for each prompt."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("test", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--likelihood", action="store_true")
    arguments = parser.parse_args(argv)
    model = Llama(
        arguments.model,
        n_ctx=arguments.context,
        n_threads=arguments.threads,
        n_threads_batch=arguments.threads,
        logits_all=arguments.likelihood,
        verbose=False,
    )
    template = Template(model.metadata["tokenizer.chat_template"])
    with open(arguments.test, encoding="utf-8") as test, open(arguments.output, "w", encoding="utf-8") as output:
        for line in test:
            *asked, expected = json.loads(line)["messages"]
            text = template.render(messages=asked, add_generation_prompt=True)
            prompt = model.tokenize(text.encode(), add_bos=False, special=True)
            if not arguments.keep:
                model.reset()
            done = model.create_completion(prompt, max_tokens=arguments.tokens, temperature=0)
            row = {"answer": done["choices"][0]["text"].strip(), "tokens": done["usage"]["completion_tokens"]}
            row["ids"] = model.input_ids[: model.n_tokens].tolist()  # of prompt and answer
            row["prompt"] = len(prompt)
            if arguments.likelihood:
                answer = [*model.tokenize(expected["content"].encode(), add_bos=False), model.token_eos()]
                if arguments.keep:
                    model.n_tokens = len(prompt)
                    model.eval(answer)
                else:
                    model.reset()
                    model.eval(prompt + answer)
                logits = model.scores[len(prompt) - 1 : len(prompt) + len(answer) - 1].astype(numpy.float64)
                logs = logits - numpy.log(numpy.exp(logits).sum(axis=1, keepdims=True))
                row["nll"] = -float(logs[numpy.arange(len(answer)), answer].sum())
            output.write(json.dumps(row) + "\n")
    model.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
