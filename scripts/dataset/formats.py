"""Read a raw record of each known format as messages: [{"role": ..., "content": ...}, ...]."""

import json
from collections.abc import Callable
from typing import Any

from scripts.common.records import ROLES, normalised, text_of
from scripts.dataset.entities import entities_json
from scripts.dataset.parts import are_parts, check_place_of_images, checked_text, content_of, normalised_content
from scripts.dataset.raw_rows import BadRecordError

SPEAKERS = {"system": "system", "human": "user", "user": "user"} | dict.fromkeys(
    ("gpt", "chatgpt", "assistant", "model"), "assistant"
)


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
    return [message(turn, f"{what}[{i}]", speaker, content, known) for i, turn in enumerate(value)]


def message(turn: Any, what: str, speaker: str, content: str, known: dict[str, str]) -> dict:
    """Return one message from one turn."""
    if not isinstance(turn, dict) or speaker not in turn or content not in turn:
        raise BadRecordError(
            "bad turn", f"{what} has no '{speaker}' and '{content}'", "write both, or rename them under 'columns'"
        )
    role = turn[speaker]
    if not isinstance(role, str) or role not in known:
        raise BadRecordError("unknown role", f"{what} has the role '{role}'", f"known roles are {', '.join(known)}")
    if turn.get("tool_calls"):
        raise BadRecordError("tool call", f"{what} calls tools", "chat records hold no tools: remove or rewrite it")
    return {"role": known[role], "content": content_of(turn[content], f"{what}.{content}")}


def from_messages(record: dict, renamed: dict[str, str]) -> list[dict]:
    """Read the format `messages` (OpenAI, TRL)."""
    keys = renamed.get("role", "role"), renamed.get("content", "content")
    return system_of(record) + turns(record["messages"], "messages", *keys, {role: role for role in ROLES})


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
            messages += turns(value, name, "role", "content", {role: role for role in ROLES})
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


def conversation(messages: list[dict], system: str | None) -> list[dict]:
    """Return messages normalised and checked, with the dataset's system message if they have none.

    Raises BadRecordError unless the order is [system] user assistant [user assistant ...] and no content is empty.
    """
    messages = [{"role": m["role"], "content": normalised_content(m["content"])} for m in messages]
    check_place_of_images(messages)
    if system is not None and messages and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": normalised(system)})
    expected = "user"
    for position, each in enumerate(messages):
        role, place = each["role"], f"message {position + 1} ({each['role']})"
        if not each["content"]:
            raise BadRecordError(f"empty {role} message", f"{place} is empty", "write it, or drop the record")
        if "\0" in text_of(each["content"]):
            raise BadRecordError("NUL character", f"{place} holds a NUL character", "remove it")
        if role == "system" and position == 0:
            continue
        if role != expected:
            order = "roles go [system], user, assistant, user, assistant, ..."
            raise BadRecordError("wrong order of roles", f"{place} comes where the {expected}'s is expected", order)
        expected = "assistant" if role == "user" else "user"
    if not messages or messages[-1]["role"] != "assistant":
        raise BadRecordError(
            "no answer", "does not end with an assistant message", "add the answer, or drop the record"
        )
    return messages
