"""Ask the model one question with llama-cpp-python: `pip install llama-cpp-python`, then

python example_llama_cpp.py "your question"

The chat template and the tokenizer are the GGUF file's own.
"""

import argparse
from pathlib import Path

from llama_cpp import Llama

MODEL = "model.gguf"
SYSTEM = None
CONTEXT = 2048
SAMPLING = {}
QUESTION = "Hello"


def main() -> None:
    """Ask one question and print the answer."""
    arguments = argparse.ArgumentParser(description="Ask the model one question.")
    arguments.add_argument("question", nargs="?", default=QUESTION)
    arguments.add_argument("--system", default=SYSTEM)
    arguments.add_argument("--model", default=str(Path(__file__).parent / MODEL))
    arguments.add_argument("--max-tokens", type=int, default=256)
    arguments.add_argument("--seed", type=int, default=0)
    chosen = arguments.parse_args()
    messages = [{"role": "system", "content": chosen.system}] if chosen.system else []
    messages.append({"role": "user", "content": chosen.question})
    model = Llama(chosen.model, n_ctx=CONTEXT, seed=chosen.seed, verbose=False)
    try:
        reply = model.create_chat_completion(messages, max_tokens=chosen.max_tokens, **SAMPLING)
        print(reply["choices"][0]["message"]["content"])
    finally:
        model.close()


if __name__ == "__main__":
    main()
