"""Let a model judge a study, beside people: python scripts/review/judge_model.py --url URL --model NAME --study ID

Any address with the API of OpenAI works, such as http://127.0.0.1:8080/v1 of a bundle's server. Its votes are those of
the reader `model:NAME`. A pair is asked for in both orders: a win counts only if both say so, otherwise it is a tie.
After an interruption the same command continues. An API key is read from the environment variable OPENAI_API_KEY.
"""

import argparse
import json
import logging
import os
import re
import signal
import sys
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

from scripts.common.errors import UserError
from scripts.common.records import images_of, text_of
from scripts.common.terminal import progress
from scripts.review import results
from scripts.review.judgements import MODEL, NAME, Judgements
from scripts.review.studies import vote_value

TRIES = 4
WAIT = 1.0  # seconds before the second try, twice as many before each further one
TIMEOUT = 300  # seconds
TOKENS = 1024  # of a reply: some models think first
# The question of each kind of study, and the words that answer it.
WORDS = {"rating": ("pass", "fail"), "pair": ("A", "B", "tie"), "human_test": ("person", "model")}
QUESTIONS = {
    "rating": (
        "Does the answer do what the request asks, without a mistake of fact or language?\n\n"
        "REQUEST\n{request}\n\nANSWER\n{answer}\n\nReply with one word: pass or fail."
    ),
    "pair": (
        "Which answer to the request is better?\n\n"
        "REQUEST\n{request}\n\nANSWER A\n{answer}\n\nANSWER B\n{other}\n\nReply with one word: A, B or tie."
    ),
    "human_test": (
        "Did a person or a language model write the answer?\n\n"
        "REQUEST\n{request}\n\nANSWER\n{answer}\n\nReply with one word: person or model."
    ),
}


def judge(arguments: argparse.Namespace) -> None:
    """Judge every text of the study that the model has not judged yet, and say how far it agrees with people."""
    if not (arguments.folder / NAME).is_file():
        raise UserError("does not exist", arguments.folder / NAME, remedy="start a study with `make review`")
    if not arguments.url.startswith(("http://", "https://")):
        raise UserError(f"--url {arguments.url} is not an address", remedy="begin it with http:// or https://")
    store, reader = Judgements(arguments.folder), MODEL + arguments.model
    kind = store.study(arguments.study)["kind"]
    question = question_of(arguments.question, kind)
    task, disagreed = store.next_task(arguments.study, reader), 0
    for _ in progress(range(task["of"] - task["done"]), f"judge {arguments.model}", task["of"] - task["done"]):
        if images_of(task["messages"]):
            raise UserError("the prompts of this study have images, which a judge model is not shown")
        said = [ask(arguments, kind, filled(question, task["messages"], texts)) for texts in orders(task["texts"])]
        disagreed += kind == "pair" and said != ["A", "B"] and said != ["B", "A"] and said != ["tie", "tie"]
        store.vote(task["task"], reader, lambda *_, said=said: vote_value(kind, False, meant(kind, said)))
        task = store.next_task(arguments.study, reader)
    print(f"{reader} judged {task['done']} texts")
    if disagreed:
        print(f"{disagreed} pairs are ties because the two orders gave different answers")
    votes, (asked, *_) = store.votes(arguments.study), results.QUESTIONS[kind]
    agreement = results.reader_row({"name": reader, **task}, asked, votes)["agreement"]
    if not agreement["of"]:
        print("people have not judged these texts yet, so its agreement with them is unknown")
        return
    limits = {"value": None, "low": None, "high": None, **(agreement["alpha"] or {})}
    alpha = "{value} ({low} to {high})".format_map(
        {key: "?" if v is None else round(v, 2) for key, v in limits.items()}
    )
    print(f"it says what most people say of {agreement['same']} of {agreement['of']} texts: alpha {alpha}")


def question_of(path: Path | None, kind: str) -> str:
    """Return the question of a file, or the one of this kind of study. Raises UserError if a place is missing."""
    if path is None:
        return QUESTIONS[kind]
    try:
        question = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read: {error}", path) from None
    for place in ("{request}", "{answer}", *(["{other}"] if kind == "pair" else [])):
        if place not in question:
            raise UserError(f"lacks {place}", path, remedy=f"a question for this study has {place} once")
    return question


def orders(texts: list[str]) -> list[list[str]]:
    """Return the texts in the orders in which they are asked for."""
    return [texts, texts[::-1]] if len(texts) > 1 else [texts]


def filled(question: str, messages: list[dict], texts: list[str]) -> str:
    """Return the question with the request and the texts in their places."""
    request = "\n\n".join(f"{message['role']}: {text_of(message['content'])}" for message in messages)
    values = {"{request}": request, "{answer}": texts[0], "{other}": texts[-1]}
    return re.sub(r"\{(request|answer|other)\}", lambda place: values[place.group()], question)


def meant(kind: str, said: list[str]) -> dict:
    """Return the vote that the model's words mean, of a pair those in both orders."""
    if kind == "pair":
        return {"choice": {("A", "B"): "first", ("B", "A"): "second"}.get(tuple(said), "tie")}
    return {"said_person": said[0] == "person"} if kind == "human_test" else {"passed": said[0] == "pass"}


def ask(arguments: argparse.Namespace, kind: str, question: str) -> str:
    """Return the word with which the model answers. Raises UserError if the address gives none after some tries."""
    schema = {"type": "object", "properties": {"verdict": {"type": "string", "enum": WORDS[kind]}}}
    schema |= {"required": ["verdict"], "additionalProperties": False}
    body = {"model": arguments.model, "messages": [{"role": "user", "content": question}], "max_tokens": TOKENS}
    body |= {"temperature": 0, "response_format": {"type": "json_schema"}}
    body["response_format"]["json_schema"] = {"name": "verdict", "strict": True, "schema": schema}
    url = f"{arguments.url.rstrip('/')}/chat/completions"
    for number in range(TRIES):
        if number:
            time.sleep(WAIT * 2 ** (number - 1))
        try:
            said = posted(url, body)["choices"][0]["message"]["content"]
            if word := word_of(said, kind):
                return word
            fault = f"does not answer with {' or '.join(WORDS[kind])} but with {said!r:.200}"
            body["temperature"] = 0.7  # at 0 it would say the same again
        except urllib.error.HTTPError as error:
            fault = f"answers with status {error.code}: {error.read(300).decode('utf-8', 'replace')}"
            if error.code < 500 and error.code not in (408, 429):
                break
        except (OSError, HTTPException) as error:
            fault = f"cannot be reached: {getattr(error, 'reason', error)}"
        except (ValueError, LookupError, TypeError):
            fault = "does not answer with JSON as OpenAI's API does"
    remedy = "check --url, --model and OPENAI_API_KEY; the same command continues with the texts that are left"
    raise UserError(f"{url} {' '.join(fault.split())}", remedy=remedy)


def posted(url: str, body: dict) -> dict:
    """Return the JSON reply to a JSON request."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})  # noqa: S310
    if key := os.environ.get("OPENAI_API_KEY"):
        request.add_unredirected_header("Authorization", f"Bearer {key}")
    with urllib.request.urlopen(request, timeout=TIMEOUT) as reply:  # noqa: S310
        return json.loads(reply.read())


def word_of(reply: str, kind: str) -> str | None:
    """Return the word of a reply: of its JSON, else of its first or last line; None if there is none."""
    reply = re.sub(r"<think>.*?</think>", "", reply, flags=re.DOTALL)
    try:
        lines = [str(json.loads(reply)["verdict"])]
    except (ValueError, LookupError, TypeError):
        lines = reply.strip().splitlines() or [""]
    words = {word.lower(): word for word in WORDS[kind]}
    found = (words.get(re.sub(r"^.*:|[\W_]+", "", line).lower()) for line in (lines[0], lines[-1]))
    return next(filter(None, found), None)


def main(argv=None) -> int:
    """Judge, and print the agreement with people; return 1, with one line, if that is not possible."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True, help="address of the API, such as http://127.0.0.1:8080/v1")
    parser.add_argument("--model", required=True, help="the model's name there")
    parser.add_argument("--study", required=True, help="id of the study")
    parser.add_argument("--folder", type=Path, default=Path("review"), help="folder of judgements (default: review)")
    parser.add_argument("--question", type=Path, help="file with another question: {request}, {answer}, {other}")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        judge(parser.parse_args(argv))
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command continues", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


if __name__ == "__main__":
    sys.exit(main())
