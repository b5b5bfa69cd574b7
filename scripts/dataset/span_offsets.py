"""Diagnose wrong span offsets: the unit that they may count, and where the covered text is instead.

Tools count UTF-16 units (JavaScript, Java), bytes (Rust, Go), or characters before the text was composed or its line
ends were changed.
"""

import unicodedata
from collections.abc import Iterator

from scripts.common.records import normalised


def as_composed(text: str) -> str:
    """Return text in NFC with Unix line ends, as `normalised` does, but without stripping."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))


def in_bytes(text: str, start: int, end: int, encoding: str, width: int) -> str | None:
    """Return the text between offsets in units of `width` bytes of an encoding; None if they split a character."""
    data = text.encode(encoding)
    if not 0 <= start < end <= len(data) // width:
        return None
    try:
        return data[start * width : end * width].decode(encoding)
    except UnicodeDecodeError:
        return None


def other_readings(text: str, start: int, end: int) -> Iterator[tuple[str, str | None]]:
    """Yield each other unit that the offsets may count, and the text they then cover (None if out of range)."""
    if not text.isascii():
        if max(text) > "\uffff":
            yield "UTF-16 units", in_bytes(text, start, end, "utf-16-le", 2)
        yield "bytes of UTF-8", in_bytes(text, start, end, "utf-8", 1)
    forms = {
        "characters of the decomposed text (NFD)": unicodedata.normalize("NFD", text),
        "characters of the composed text (NFC)": unicodedata.normalize("NFC", text),
        "a line end as two characters": text.replace("\r\n", "\n").replace("\n", "\r\n"),
        "a line end as one character": text.replace("\r\n", "\n"),
        "from the first character that is not white space": text.lstrip(),
    }
    for name, form in forms.items():
        if form != text:
            yield name, form[start:end] if 0 <= start < end <= len(form) else None


def other_units(text: str, start: int, end: int, wanted: str | None = None) -> str | None:
    """Return the units, in words, in which the offsets are within the text and cover `wanted` (normalised; None: any
    text). None if no unit fits.
    """
    units = [
        unit
        for unit, covered in other_readings(text, start, end)
        if covered is not None and wanted in (None, normalised(covered))
    ]
    return " or ".join(units) or None


def nearest(text: str, value: str, start: int) -> int | None:
    """Return the position of a value in a text that is nearest to an offset; None if the value does not occur."""
    before = text.rfind(value, 0, max(start, 0) + len(value))
    after = text.find(value, max(start, 0))
    places = [place for place in (before, after) if place >= 0]
    return min(places, key=lambda place: (abs(place - start), place), default=None)
