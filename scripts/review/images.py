"""The images that records name: found only inside a folder, and only if they are images."""

from pathlib import Path
from typing import NamedTuple

HEAD = 2**18  # bytes that are read for the size; a camera's metadata come first
TYPES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif", b"RIFF": "image/webp"}


class Picture(NamedTuple):
    """An image file, its media type, and its pixels (None: not known)."""

    path: Path
    type: str
    width: int | None
    height: int | None


def picture(folder: Path, name: str) -> Picture | None:
    """Return the image of a name below a folder; None for anything else, also for a link that leads out of it."""
    try:
        path = (folder / name).resolve(strict=True)
        if not path.is_relative_to(folder.resolve()) or not path.is_file():
            return None
        with open(path, "rb") as file:
            head = file.read(HEAD)
    except (OSError, ValueError, RuntimeError):  # no such file, a null byte, a loop of links
        return None
    kind = next((kind for magic, kind in TYPES.items() if head.startswith(magic)), None)
    if kind is None or (kind == "image/webp" and head[8:12] != b"WEBP"):
        return None
    return Picture(path, kind, *pixels(kind, head))


def pixels(kind: str, head: bytes) -> tuple[int, int] | tuple[None, None]:
    """Return width and height from the header of a PNG or JPEG (ITU-T T.81, B.2.2)."""
    if kind == "image/png" and len(head) >= 24:
        return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    place = 2
    while kind == "image/jpeg" and place + 9 <= len(head) and head[place] == 0xFF:
        marker, length = head[place + 1], int.from_bytes(head[place + 2 : place + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(head[place + 7 : place + 9], "big"), int.from_bytes(
                head[place + 5 : place + 7], "big"
            )
        place += 2 + length
    return None, None
