"""A row of a JSONL file, ours or of another tool, in one form: prompt, expected and actual text, entities."""

import json
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from scripts.common.records import normalised, text_of
from scripts.score.entity_rows import entity_row

TEXTS = ("messages", "prompt", "text", "completion", "expected", "actual", "answer")
NAMES = ("label", "variant", "prompt_set", "group", "origin")
OWN = {*TEXTS, *NAMES, "id", "meta", "spans", "entities"}
QUARANTINED = {"origin", "reason", "record"}


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
        """The text that a list shows: that of the entities, the answer, the end of the prompt, or what is expected."""
        if self.text is not None:
            return self.text
        if self.actual is not None:
            return self.actual
        return text_of(self.messages[-1]["content"]) if self.messages else self.expected or ""


def row_of(found: dict) -> Row:
    """Return the row of an object. A row of a quarantine holds the raw record, and is an error.

    A completion, or a last message of the assistant, is the expected text, or the actual one beside another expected
    one. An object without any of the columns TEXTS is shown as JSON.
    """
    if set(found) == QUARANTINED:
        row = row_of(found["record"] if isinstance(found["record"], dict) else {"prompt": found["record"]})
        row.id, row.is_error = key_of(found), True
        row.origin, row.reason = name_in(found["origin"]), text_in(found["reason"])
        return row
    messages = messages_of(next((found[name] for name in TEXTS[:3] if found.get(name)), []))
    given = text_in(found.get("completion"))
    if given is None and len(messages) > 1 and messages[-1]["role"] == "assistant":
        given = text_of(messages.pop()["content"])
    expected, actual = text_in(found.get("expected")), text_in(found.get("actual", found.get("answer")))
    if expected is None:
        expected = given
    elif actual is None and given != expected:
        actual = given
    if not found.keys() & set(TEXTS):
        messages = messages_of(json.dumps(found, ensure_ascii=False, indent=2))
    row = Row(name_in(found.get("id")) or key_of(found), messages, expected, actual)
    for name in NAMES:
        setattr(row, name, name_in(found.get(name)))
    row.meta = {key: value for key, value in found.items() if key not in OWN}
    row.meta |= found["meta"] if isinstance(found.get("meta"), dict) else {}
    row.is_error = None not in (actual, expected) and normalised(actual) != normalised(expected)
    add_entities(row, found)
    return row


def key_of(found: dict) -> str:
    """Return an id for an object without one, made from its content."""
    return sha256(json.dumps(found, sort_keys=True).encode("ascii")).hexdigest()[:16]


def add_entities(row: Row, found: dict) -> None:
    """Give a row its text with the expected and predicted entities, if the object has usable spans."""
    try:
        entities = entity_row({**found, "messages": row.messages, "answer": row.actual or ""})
        spans = [*entities.gold, *entities.found] if entities else []
        if not all(0 <= start <= end <= len(entities.text) for start, end, _ in spans):
            return
    except (KeyError, ValueError, TypeError, StopIteration):
        return
    if entities:
        row.text, row.gold = entities.text, entities.gold
        row.predicted = entities.found if row.actual is not None and entities.valid else None


def messages_of(value: Any) -> list[dict]:
    """Return messages from a text or from a list of messages."""
    turns = value if isinstance(value, list) else [value]
    pairs = [(turn.get("role"), turn.get("content")) if isinstance(turn, dict) else ("user", turn) for turn in turns]
    return [
        {
            "role": str(role or "user"),
            "content": list(map(part_of, said)) if isinstance(said, list) else text_in(said) or "",
        }
        for role, said in pairs
    ]


def part_of(part: Any) -> dict:
    """Return a part {"type": "text", "text"} or {"type": "image", "image": name}."""
    if isinstance(part, dict) and str(part.get("type")).startswith("image"):
        name = next((part[key] for key in ("image", "path", "url", "image_url") if part.get(key)), "")
        return {"type": "image", "image": str(name.get("url", "") if isinstance(name, dict) else name)}
    return {"type": "text", "text": text_in(part.get("text", part) if isinstance(part, dict) else part) or ""}


def name_in(value: Any) -> str | None:
    """Return a value that records are found by as text, without half surrogates, which a database can't hold."""
    return None if value is None else text_in(value).encode("utf-8", "replace").decode("utf-8")


def text_in(value: Any) -> str | None:
    """Return a text as it is, the texts of a list of messages, and any other value as JSON; None stays None."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(turn, dict) and "content" in turn for turn in value):
        return "\n".join(text_of(message["content"]) for message in messages_of(value))
    return json.dumps(value, ensure_ascii=False)
