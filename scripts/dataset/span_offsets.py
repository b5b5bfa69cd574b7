"""What an offset may have been counted in, and where a text stands that is not where a span says.

Tools count in UTF-16 units (JavaScript, Java), in bytes (Rust, Go), or in characters of a text that was composed or
whose line ends were changed after they had been counted; each gives offsets that are a little off, or far off.
"""

import unicodedata
from collections.abc import Iterator

from scripts.common.records import normalised


def as_composed(text: str) -> str:
    """Return text in NFC with unix line ends: what `normalised` makes, before it strips."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))


def in_bytes(text: str, start: int, end: int, encoding: str, width: int) -> str | None:
    """Return what a place in units of `width` bytes of an encoding covers; None when it cuts a character."""
    data = text.encode(encoding)
    if not 0 <= start < end <= len(data) // width:
        return None
    try:
        return data[start * width : end * width].decode(encoding)
    except UnicodeDecodeError:
        return None


def other_readings(text: str, start: int, end: int) -> Iterator[tuple[str, str | None]]:
    """Yield each other unit that an offset may count, and what the place then covers (None: it is no place)."""
    if not text.isascii():
        if max(text) > "\uffff":
            yield "UTF-16 units", in_bytes(text, start, end, "utf-16-le", 2)
        yield "bytes of UTF-8", in_bytes(text, start, end, "utf-8", 1)
    forms = {
        "characters of the decomposed text (NFD)": unicodedata.normalize("NFD", text),
        "characters of the composed text (NFC)": unicodedata.normalize("NFC", text),
        "a line end as two characters": text.replace("\r\n", "\n").replace("\n", "\r\n"),
        "a line end as one character": text.replace("\r\n", "\n"),
        "from the first character that is no white space": text.lstrip(),
    }
    for name, form in forms.items():
        if form != text:
            yield name, form[start:end] if 0 <= start < end <= len(form) else None


def other_units(text: str, start: int, end: int, wanted: str | None = None) -> str | None:
    """Return the units, in words, in which a place is within the text and, if asked, covers the wanted text.

    `wanted` is normalised. None when no unit fits.
    """
    units = [
        unit
        for unit, covered in other_readings(text, start, end)
        if covered is not None and wanted in (None, normalised(covered))
    ]
    return " or ".join(units) or None


def nearest(text: str, value: str, start: int) -> int | None:
    """Return where a value stands in a text, nearest to an offset; None when it stands nowhere."""
    before = text.rfind(value, 0, max(start, 0) + len(value))
    after = text.find(value, max(start, 0))
    places = [place for place in (before, after) if place >= 0]
    return min(places, key=lambda place: (abs(place - start), place), default=None)
