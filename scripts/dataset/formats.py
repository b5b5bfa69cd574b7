"""Read a raw record of each known format as messages: [{"role": ..., "content": ...}, ...]."""

import json
from collections.abc import Callable
from typing import Any

from scripts.common.records import ROLES, normalised, text_of
from scripts.dataset.entities import entities_json
from scripts.dataset.parts import are_parts, checked_text, content_of, normalised_content
from scripts.dataset.raw_rows import BadRecordError

OWN_ROLES = {role: role for role in ROLES}
SPEAKERS = {"system": "system", "human": "user", "user": "user"} | dict.fromkeys(
    ("gpt", "chatgpt", "assistant", "model"), "assistant"
)
ORDER = "roles go [system], user, assistant, user, assistant, ..."


def text_column(record: dict, name: str, renamed: dict[str, str]) -> str:
    """Return a column of text."""
    return checked_text(record[name], f"'{renamed.get(name, name)}'")


def turns(value: Any, what: str, speaker: str, content: str, known: dict[str, str]) -> list[dict]:
    """Return messages from a list of turns, or from a string with such a list as JSON (as in a cell of a table)."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):  # ValueError: not JSON, or a number of thousands of digits
            raise BadRecordError(
                "not a list", f"{what} is text that is not valid JSON", f"write {what} as a list of turns"
            ) from None
    if not isinstance(value, list) or not value:
        raise BadRecordError("not a list", f"{what} is not a list of turns, or is empty", "write [{...}, ...]")
    return [message(turn, what, i, speaker, content, known) for i, turn in enumerate(value)]


def message(turn: Any, what: str, number: int, speaker: str, content: str, known: dict[str, str]) -> dict:
    """Return one message from one turn, number so many of the list `what`."""
    if not isinstance(turn, dict) or speaker not in turn or content not in turn:
        fault, remedy = f"has no '{speaker}' and '{content}'", "write both, or rename them under 'columns'"
        raise BadRecordError("bad turn", f"{what}[{number}] {fault}", remedy)
    role, text = turn[speaker], turn[content]
    if not isinstance(role, str) or role not in known:
        fault, remedy = f"has the role '{role}'", f"known roles are {', '.join(known)}"
        raise BadRecordError("unknown role", f"{what}[{number}] {fault}", remedy)
    if turn.get("tool_calls"):
        remedy = "chat records hold no tools: remove or rewrite it"
        raise BadRecordError("tool call", f"{what}[{number}] calls tools", remedy)
    if not isinstance(text, str):
        text = content_of(text, f"{what}[{number}].{content}")
    return {"role": known[role], "content": text}


def from_messages(record: dict, renamed: dict[str, str]) -> list[dict]:
    """Read the format `messages` (OpenAI, TRL)."""
    keys = renamed.get("role", "role"), renamed.get("content", "content")
    return system_of(record) + turns(record["messages"], "messages", *keys, OWN_ROLES)


def from_sharegpt(record: dict, renamed: dict[str, str]) -> list[dict]:
    """Read the format `sharegpt`: turns of human and gpt; the system message is a turn or a column."""
    keys = renamed.get("from", "from"), renamed.get("value", "value")
    return system_of(record) + turns(record["conversations"], "conversations", *keys, SPEAKERS)


def from_prompt_completion(record: dict, renamed: dict[str, str]) -> list[dict]:
    """Read the format `prompt_completion`; both may be text, parts, or lists of messages as in TRL."""
    messages = system_of(record)
    for name, role in (("prompt", "user"), ("completion", "assistant")):
        value = record[name]
        if are_parts(value):
            messages.append({"role": role, "content": content_of(value, name)})
        elif isinstance(value, list):
            messages += turns(value, name, "role", "content", OWN_ROLES)
        else:
            messages.append({"role": role, "content": text_column(record, name, renamed)})
    return messages


def from_alpaca(record: dict, renamed: dict[str, str]) -> list[dict]:
    """Read the format `alpaca`: the input, if any, follows the instruction after an empty line."""
    question = text_column(record, "instruction", renamed)
    if record.get("input"):
        question += "\n\n" + text_column(record, "input", renamed)
    answer = text_column(record, "output", renamed)
    return [*system_of(record), {"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def from_spans(record: dict, renamed: dict[str, str]) -> list[dict]:
    """Read the format `spans` with resolved spans: the text is the question, its entities as JSON are the answer."""
    answer = entities_json(record["text"], record["spans"])
    return [*system_of(record), {"role": "user", "content": record["text"]}, {"role": "assistant", "content": answer}]


def system_of(record: dict) -> list[dict]:
    """Return the system message from the column `system` in a list; empty if there is none."""
    return [{"role": "system", "content": checked_text(record["system"], "'system'")}] if record.get("system") else []


# The format `fields` has templates instead. A reader's second argument are the renamed columns.
READERS: dict[str, Callable[[dict, dict[str, str]], list[dict]]] = {
    "messages": from_messages,
    "prompt_completion": from_prompt_completion,
    "alpaca": from_alpaca,
    "sharegpt": from_sharegpt,
    "spans": from_spans,
}


def place(number: int, role: str) -> str:
    """Return how errors name a message."""
    return f"message {number} ({role})"


def conversation(messages: list[dict], system: str | None) -> list[dict]:
    """Return messages normalised in place and checked, with the dataset's system message if they have none.

    Raises BadRecordError unless the order is [system] user assistant [user assistant ...] and no content is empty.
    """
    for each in messages:
        each["content"] = normalised_content(each["content"])
    if system is not None and messages and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": normalised(system)})
    expected = "user"
    for number, each in enumerate(messages, 1):
        role, content = each["role"], each["content"]
        if not isinstance(content, str) and role != "user":
            what = f"{place(number, role)} holds an image"  # chat templates don't support it
            raise BadRecordError("misplaced image", what, "put images into the user's messages")
        if not content:
            what = f"{place(number, role)} is empty"
            raise BadRecordError(f"empty {role} message", what, "write it, or drop the record")
        if "\0" in text_of(content):
            raise BadRecordError("NUL character", f"{place(number, role)} holds a NUL character", "remove it")
        if role == "system" and number == 1:
            continue
        if role != expected:
            fault = f"{place(number, role)} comes where the {expected}'s is expected"
            raise BadRecordError("wrong order of roles", fault, ORDER)
        expected = "assistant" if role == "user" else "user"
    if not messages or messages[-1]["role"] != "assistant":
        raise BadRecordError(
            "no answer", "does not end with an assistant message", "add the answer, or drop the record"
        )
    return messages
