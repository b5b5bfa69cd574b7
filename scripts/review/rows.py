"""A row of each kind of file in one form: prompt, expected and actual text, entities, and what it is filtered by."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from scripts.common.files import canonical_sha256
from scripts.common.records import Record, content_id, normalised, text_of
from scripts.score.entity_rows import entity_row

IMAGE_KEYS = ("image", "path", "url", "image_url")
OF_OTHERS = ("messages", "prompt", "completion", "expected", "actual", "answer")
OWN = {*OF_OTHERS, "id", "label", "variant", "prompt_set", "group", "origin", "meta", "spans", "text", "entities"}


@dataclass
class Row:
    """What the page shows of a row: `messages` is the prompt, spans are [start, end, label] in characters of `text`."""

    id: str
    messages: list[dict]
    expected: str | None = None
    actual: str | None = None
    label: str | None = None
    variant: str | None = None
    prompt_set: str | None = None
    group: str | None = None
    origin: str | None = None
    reason: str | None = None
    is_error: bool = False
    text: str | None = None
    gold: list | None = None
    predicted: list | None = None
    meta: dict = field(default_factory=dict)

    @property
    def searched(self) -> str:
        """All text that the full-text search finds."""
        texts = [text_of(message["content"]) for message in self.messages]
        return "\n".join(filter(None, (*texts, self.expected, self.actual, self.reason, self.origin, self.id)))

    @property
    def shown(self) -> str:
        """The text that a list shows: the answer, else the last message of the prompt, else the expected text."""
        if self.actual is not None:
            return self.actual
        return text_of(self.messages[-1]["content"]) if self.messages else self.expected or ""


def of_split(row: dict) -> Row:
    """Return a record of a split. An expected text that is not the record's last answer leaves the answer in view."""
    record = Record.from_row(row)
    messages = record.prompt if record.expected in (None, record.answer) else record.messages
    expected = record.answer if record.expected is None else record.expected
    found = Row(record.id, messages, expected, None, record.label, group=record.group, meta=record.meta)
    found.origin = record.origin
    return with_entities(found, {**row, "messages": messages, "answer": ""}, predicted=False)


def of_answer(row: dict) -> Row:
    """Return a row of an answers file."""
    found = Row(row["id"], row["messages"], row.get("expected"), row["answer"], row.get("label"))
    found.prompt_set = row["prompt_set"]
    return with_entities(found, row, predicted=True)


def of_quarantine(row: dict) -> Row:
    """Return a record that was set aside, with the reason."""
    found = of_other(row["record"] if isinstance(row["record"], dict) else {"text": row["record"]})
    found.id, found.origin, found.reason = canonical_sha256(row)[:16], row["origin"], row["reason"]
    found.is_error = True
    return found


def of_other(row: dict) -> Row:
    """Return a row of another tool. Without any of the columns OF_OTHERS, the row itself is shown as JSON.

    A completion, or the last message of an assistant, is the expected text if no other is given, else the actual one.
    """
    messages = messages_of(row.get("messages") or row.get("prompt") or [])
    given = optional_text(row.get("completion"))
    if given is None and row.get("messages") and messages and messages[-1]["role"] == "assistant":
        given = text_of(messages.pop()["content"])
    expected = optional_text(row.get("expected"))
    actual = optional_text(row["actual"] if "actual" in row else row.get("answer"))
    if expected is None:
        expected = given
    elif actual is None:
        actual = given
    if not set(OF_OTHERS) & set(row):
        messages = [{"role": "user", "content": json.dumps(row, ensure_ascii=False, indent=2)}]
    found = Row(str(row.get("id") or content_id([*messages, expected, actual])), messages, expected, actual)
    for name in ("label", "variant", "prompt_set", "group", "origin"):
        setattr(found, name, optional_text(row.get(name)))
    found.is_error = None not in (actual, expected) and normalised(actual) != normalised(expected)
    meta = row.get("meta") if isinstance(row.get("meta"), dict) else {}
    found.meta = meta | {key: value for key, value in row.items() if key not in OWN}
    return with_entities(found, {**row, "messages": messages, "answer": actual or ""}, predicted=actual is not None)


def with_entities(found: Row, row: dict, predicted: bool) -> Row:
    """Give a row its text and its expected and predicted entities; without spans, or with unusable ones, none."""
    try:
        entities = entity_row(row)
    except (ValueError, TypeError, StopIteration):
        entities = None
    if entities:
        found.text, found.gold = entities.text, [list(span) for span in entities.gold]
        found.predicted = [list(span) for span in entities.found] if predicted and entities.valid else None
    return found


def messages_of(value: Any) -> list[dict]:
    """Return messages from a text or from a list of messages."""
    turns = value if isinstance(value, list) else [value]
    pairs = [(turn.get("role"), turn.get("content")) if isinstance(turn, dict) else ("user", turn) for turn in turns]
    return [{"role": str(role or "user"), "content": content_of(content)} for role, content in pairs]


def content_of(value: Any) -> str | list[dict]:
    """Return a content as text, or as parts of text and images as a record has them."""
    if not isinstance(value, list):
        return optional_text(value) or ""
    return [part_of(part) for part in value]


def part_of(part: Any) -> dict:
    """Return a part {"type": "text", "text"} or {"type": "image", "image": name}."""
    if isinstance(part, dict) and str(part.get("type")).startswith("image"):
        name = next((part[key] for key in IMAGE_KEYS if part.get(key)), "")
        return {"type": "image", "image": str(name.get("url", "") if isinstance(name, dict) else name)}
    is_text = isinstance(part, dict) and isinstance(part.get("text"), str)
    return {"type": "text", "text": part["text"] if is_text else optional_text(part) or ""}


def optional_text(value: Any) -> str | None:
    """Return a text as it is, the text of a list of messages, and any other value as JSON; None stays None."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(turn, dict) and "content" in turn for turn in value):
        return "\n".join(text_of(content_of(turn["content"])) for turn in value)
    return json.dumps(value, ensure_ascii=False)


READERS: dict[str, Callable[[dict], Row]] = {
    "split": of_split,
    "quarantine": of_quarantine,
    "answers": of_answer,
    "file": of_other,
}
