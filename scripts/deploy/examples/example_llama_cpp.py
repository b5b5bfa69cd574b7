"""Ask the model one question with llama-cpp-python: `pip install llama-cpp-python`, then

python example_llama_cpp.py "your question"

The chat template and the tokenizer come from the GGUF file.
"""

import argparse
from pathlib import Path

from jinja2.sandbox import ImmutableSandboxedEnvironment
from llama_cpp import Llama

MODEL = "model.gguf"
SYSTEM = None
WORDING = None
EXAMPLES = []
CONTEXT = 2048
SAMPLING = {}
QUESTION = "Hello"
LABEL = None


def messages_of(question: str, system: str | None, label: str | None) -> list[dict]:
    """Return the conversation for the model to continue."""
    if WORDING:
        question = ImmutableSandboxedEnvironment().from_string(WORDING).render(prompt=question, label=label).strip()
    start = [{"role": "system", "content": system}] if system else []
    return [*start, *EXAMPLES, {"role": "user", "content": question}]


def main() -> None:
    """Ask one question and print the answer."""
    arguments = argparse.ArgumentParser(description="Ask the model one question.")
    arguments.add_argument("question", nargs="?", default=QUESTION)
    arguments.add_argument("--system", default=SYSTEM)
    arguments.add_argument("--label", default=LABEL)
    arguments.add_argument("--model", default=str(Path(__file__).parent / MODEL))
    arguments.add_argument("--max-tokens", type=int, default=256)
    arguments.add_argument("--seed", type=int, default=0)
    chosen = arguments.parse_args()
    messages = messages_of(chosen.question, chosen.system, chosen.label)
    model = Llama(chosen.model, n_ctx=CONTEXT, seed=chosen.seed, verbose=False)
    try:
        reply = model.create_chat_completion(messages, max_tokens=chosen.max_tokens, **SAMPLING)
        print(reply["choices"][0]["message"]["content"])
    finally:
        model.close()


if __name__ == "__main__":
    main()
