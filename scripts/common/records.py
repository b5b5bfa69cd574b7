"""The record type of all tasks, and its form on disk."""

import unicodedata
from dataclasses import asdict, dataclass, field

from scripts.common.files import canonical_sha256

SPLITS = ("train", "validation", "test")
ROLES = ("system", "user", "assistant")


@dataclass
class Record:
    """One example.

    - `messages`: list of {"role", "content"}; in training data, the last one is the assistant's. A content is text. In
      a user message with images, it is a list of parts: {"type": "text", "text": ...} and {"type": "image", "image":
      "images/<sha256>.<png or jpg>"}, a file in the dataset's result folder.
    - `expected`: the right answer; for chat the last assistant message, unless the data has another one
    - `spans`: [start, end, label] in characters
    - `group`: records of the same group are in the same split
    - `origin`: `file:line` of the raw record
    """

    id: str
    messages: list[dict]
    expected: str | None = None
    spans: list[list] | None = None
    label: str | None = None
    group: str | None = None
    meta: dict = field(default_factory=dict)
    origin: str = ""

    def to_row(self) -> dict:
        """Return the record as a JSON-ready mapping with keys in a fixed order."""
        return asdict(self)

    @classmethod
    def from_row(cls, row: dict) -> "Record":
        """Return the record that `to_row` converted."""
        return cls(**row)

    @property
    def answer(self) -> str:
        """The last assistant message, or an empty text."""
        return next((m["content"] for m in reversed(self.messages) if m["role"] == "assistant"), "")

    @property
    def prompt(self) -> list[dict]:
        """The messages before the last assistant message."""
        positions = [i for i, message in enumerate(self.messages) if message["role"] == "assistant"]
        return self.messages[: positions[-1]] if positions else self.messages


def content_id(messages: list[dict], spans: list | None = None) -> str:
    """Return a record's id: 16 hex digits of the SHA-256 of its messages (and spans) as canonical JSON."""
    return canonical_sha256([messages, spans])[:16]


def normalised(text: str) -> str:
    """Return text in Unicode NFC with Unix line ends and without outer white space."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return unicodedata.normalize("NFC", text).strip()


def texts_in(content: str | list[dict]) -> list[str]:
    """Return the texts of a message's content: itself, or its text parts."""
    return [content] if isinstance(content, str) else [part["text"] for part in content if part["type"] == "text"]


def text_of(content: str | list[dict]) -> str:
    """Return the text of a message's content; text parts are joined by line breaks, and images are left out."""
    return content if isinstance(content, str) else "\n".join(texts_in(content))


def images_of(messages: list[dict]) -> list[str]:
    """Return the paths of all images in messages, in order; empty for messages without images."""
    contents = [message["content"] for message in messages if not isinstance(message["content"], str)]
    return [part["image"] for parts in contents for part in parts if part["type"] == "image"]


def with_text(content: str | list[dict], text: str) -> str | list[dict]:
    """Return a content with another text in the place of the first text part; the images stay."""
    if isinstance(content, str):
        return text
    kinds = [part["type"] for part in content]
    place = kinds.index("text") if "text" in kinds else len(content)
    images = [part for part in content[:place] if part["type"] == "image"]
    return [*images, {"type": "text", "text": text}, *(p for p in content[place:] if p["type"] == "image")]
