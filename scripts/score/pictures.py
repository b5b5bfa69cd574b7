"""The images of a question on a run's page; small images are embedded in the page."""

import base64
from pathlib import Path

from scripts.common.records import images_of

LARGEST = 60_000  # bytes
BEGINNINGS = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
}


def media_type(content: bytes) -> str | None:
    """Return the media type of an image from its first bytes; None for types that are not shown."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return next((name for name, begins in BEGINNINGS.items() if content.startswith(begins)), None)


def picture(folder: Path | None, name: str) -> dict:
    """Return {"name", "source", "note"}: the image as a data URI, or why it is not shown.

    `name` is relative to the dataset's folder; names outside of it are refused.
    """
    shown = {"name": name, "source": None, "note": ""}
    path = folder and (folder / name).resolve()
    if path is None or not path.is_relative_to(folder.resolve()) or not path.is_file():
        return {**shown, "note": "missing"}
    if path.stat().st_size > LARGEST:
        return {**shown, "note": f"{path.stat().st_size / 1000:.0f} kB, too large for this page"}
    content = path.read_bytes()
    kind = media_type(content)
    if kind is None:
        return {**shown, "note": "its type is not shown here"}
    return {**shown, "source": f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"}


def pictures_of(messages: list[dict], folder: Path | None) -> list[dict]:
    """Return the images of a question, in order."""
    return [picture(folder, name) for name in images_of(messages)]
