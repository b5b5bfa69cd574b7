"""The rows that readers of raw data yield, and the error for a bad record."""

import datetime
import decimal
import difflib
import json
import math
from dataclasses import dataclass
from typing import Any

from scripts.common.plain_text import visible

SHOWN_COLUMNS = 12
EXCERPT = 200  # characters
MAX_RECORD = 64 * 2**20  # characters or bytes of one raw record; a longer one means a damaged file


class BadRecordError(ValueError):
    """A record that can't be used: a short kind for the counts, a detail, and a remedy."""

    def __init__(self, kind: str, detail: str, remedy: str):
        # Line breaks in quoted data are escaped: they could forge a line of the log.
        self.kind, self.detail, self.remedy = visible(kind), visible(detail), visible(remedy)
        super().__init__(f"{self.detail}; {self.remedy}")

    def __reduce__(self):  # to be sent by a process that makes records
        return BadRecordError, (self.kind, self.detail, self.remedy)


@dataclass(slots=True)
class RawRow:
    """One raw record and its origin (`file:line`; `file:row` for Parquet and hub datasets).

    `record` holds JSON types. It is None if the row can't be read; `fault` then says why, and `text` is the raw text.
    `has_whole_characters`: no text of the record can hold half of a surrogate pair.
    """

    origin: str
    record: dict | None = None
    fault: BadRecordError | None = None
    text: str | None = None
    has_whole_characters: bool = False

    @property
    def raw(self) -> Any:
        """The record, or its text."""
        return self.text if self.record is None else self.record


def excerpt(record: Any) -> str:
    """Return the start of a raw record as text; halves of surrogate pairs, which UTF-8 can't encode, are escaped."""
    text = record if isinstance(record, str) else json.dumps(record, ensure_ascii=False)
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text if len(text) <= EXCERPT else text[: EXCERPT - 1] + "…"


def most_frequent(counts: dict) -> list[tuple]:
    """Return the labels with their counts, most frequent first, else in alphabetical order."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def plain(value: Any) -> Any:
    """Return a value as JSON types: dates as ISO text, decimals as text, NaN as null, bytes as their length."""
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal | datetime.timedelta):
        return str(value)
    if isinstance(value, bytes):
        return f"({len(value)} bytes)"
    return f"({type(value).__name__})"


def kind_of_value(value: Any) -> str:
    """Return the type of a JSON value in words."""
    words = ((bool, "true or false"), (str, "text"), (int | float, "a number"), (list, "a list"), (dict, "an object"))
    return next((word for kind, word in words if isinstance(value, kind)), "null")


def object_fault(value: Any) -> BadRecordError | None:
    """Return the fault of a JSON value that is not an object; None for an object."""
    if isinstance(value, dict):
        return None
    return BadRecordError("not an object", f"is {kind_of_value(value)}, not an object", "write a record as {...}")


def check_unicode(raw: dict) -> None:
    """Raise BadRecordError for halves of surrogate pairs, which JSON can escape but UTF-8 can't encode."""
    try:
        json.dumps(raw, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        what = f"holds \\u{ord(error.object[error.start]):04x}, half of a character"
        raise BadRecordError("broken Unicode", what, "write the whole character") from None


def missing_column(kind: str, name: str, raw: dict, otherwise: str) -> BadRecordError:
    """Return the fault of a raw record without a column; it lists the columns and proposes a similar one."""
    there = [*list(raw)[:SHOWN_COLUMNS], *(["..."] if len(raw) > SHOWN_COLUMNS else [])]
    near = difflib.get_close_matches(name, list(raw), n=1)
    advice = f"did you mean '{near[0]}'?" if near else otherwise
    return BadRecordError(kind, f"has no '{name}'", f"it has {', '.join(there) or 'no field'}; {advice}")
