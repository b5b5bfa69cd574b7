"""Ask the model of a bundle through the server that the bundle's serve.sh starts.

Needs Python 3.9 or newer and no package: copy it into an application, with the example of your recipe. SERVER is the
server's address, and LLAMA_API_KEY its key if it has one.
"""

import json
import os
import unicodedata
import urllib.error
import urllib.request
from pathlib import Path

SERVER = os.environ.get("SERVER", "http://127.0.0.1:8080")
KEY = os.environ.get("LLAMA_API_KEY", "none")


def recorded(bundle):
    """Return the sections of the configuration, such as `run`, with which a bundle was made.

    It is read each time, because a delivery moves `current` to another bundle while the application runs. Raises
    RuntimeError if there is no bundle.
    """
    try:
        return json.loads(Path(bundle, "provenance.json").read_text(encoding="utf-8"))["config"]["sections"]
    except OSError as error:
        raise RuntimeError(f"{bundle} is not a bundle ({error.strerror}): set BUNDLE") from error


def ask(bundle, content, server=SERVER, seconds=60):
    """Return the model's answer to a user's message (a text, or parts of OpenAI's API), asked as its test split was.

    The system message and the longest answer are those in the bundle's record; serve.sh sets sampling and context.
    Raises RuntimeError if there is no answer after `seconds`.
    """
    run = recorded(bundle)["run"]
    strategy = run["strategies"].get(run["strategy"]) or {}
    if strategy.get("user") or strategy.get("shots"):
        raise RuntimeError(f"{bundle}: its prompt strategy changes the question; ask as its example_llama_cpp.py does")
    system = strategy.get("system") if run["deploy"]["system"] is None else run["deploy"]["system"]
    content = unicodedata.normalize("NFC", content).strip() if isinstance(content, str) else content
    messages = [{"role": "system", "content": system}] if system else []
    body = {"messages": [*messages, {"role": "user", "content": content}]}
    body["max_tokens"] = run["generation"]["max_new_tokens"]
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
    request = urllib.request.Request(f"{server}/v1/chat/completions", json.dumps(body).encode(), headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=seconds) as reply:  # noqa: S310
            return json.load(reply)["choices"][0]["message"]["content"].strip()
    except urllib.error.HTTPError as error:  # such as a text that is longer than the context
        raise RuntimeError(f"{server} answers {error.code}: {error.read(1000).decode(errors='replace')}") from error
    except OSError as error:  # refused, or no answer in time
        raise RuntimeError(f"no answer from {server} ({error}): is {bundle}/serve.sh running there?") from error
