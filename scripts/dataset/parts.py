"""Read a message's content in raw records: text, or parts of text and images in the common layouts.

An image part is `{"type": "image", "image": NAME}` (Hugging Face), also with the key `path` or `url`, or `{"type":
"image_url", "image_url": {"url": NAME}}` (OpenAI); NAME is a file in the dataset's image folder.
"""

from itertools import groupby
from typing import Any

from scripts.common.records import normalised
from scripts.dataset.raw_rows import BadRecordError, kind_of_value

Content = str | list[dict]
NAMES = ("image", "path", "url", "image_url")  # keys of an image part that may hold the file name
TYPES = ("text", "image", "image_url")


def checked_text(value: Any, what: str) -> str:
    """Return text. Raises BadRecordError for anything else."""
    if isinstance(value, str):
        return value
    raise BadRecordError("not text", f"{what} is {kind_of_value(value)}, not text", "write it as text")


def are_parts(value: Any) -> bool:
    """Return whether a raw value is a list of parts, as opposed to turns."""
    return bool(value and isinstance(value, list)) and all(
        isinstance(part, dict) and part.get("type") in TYPES and "role" not in part for part in value
    )


def content_of(value: Any, what: str) -> Content:
    """Return a message's content: text, or parts of text and images; parts of text only are joined to text."""
    if not isinstance(value, list) or not all(isinstance(part, dict) for part in value):
        return checked_text(value, what)
    parts = [part_of(part, f"{what}[{number}]") for number, part in enumerate(value)]
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def part_of(part: dict, what: str) -> dict:
    """Return one part. Raises BadRecordError for a type that is neither text nor image."""
    kind = part.get("type")
    if kind == "text":
        return {"type": "text", "text": checked_text(part.get("text"), what)}
    if kind not in TYPES:
        raise BadRecordError("unknown part", f"{what} is a part of type '{kind}'", "parts are of type text or image")
    # Null values count as absent, because tables add them.
    value = next((part[key] for key in NAMES if part.get(key) is not None), None)
    if isinstance(value, dict) and value.get("url") is not None:
        value = value["url"]
    if value is None:
        raise BadRecordError("unnamed image", f"{what} names no image", 'write {"type": "image", "image": "a.png"}')
    return {"type": "image", "image": checked_text(value, f"{what}: the image's name")}


def normalised_content(content: Content) -> Content:
    """Return content with normalised texts; adjacent text parts are joined, empty ones removed."""
    if isinstance(content, str):
        return normalised(content)
    parts = []
    for kind, run in groupby(content, key=lambda part: part["type"]):
        if kind == "image":
            parts += run
        elif text := normalised("\n".join(part["text"] for part in run)):
            parts.append({"type": "text", "text": text})
    return parts
