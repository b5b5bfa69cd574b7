"""What every reader of raw data yields, and the one way to say what is wrong with a record."""

import datetime
import decimal
import difflib
import math
from dataclasses import dataclass
from typing import Any

from scripts.common.plain_text import visible

SHOWN_COLUMNS = 12
MAX_RECORD = 64 * 2**20  # characters or bytes of one raw record; a longer one is a damaged file, not a record


class BadRecordError(ValueError):
    """A record that can't be used: a short kind to count by, what exactly is wrong, and how to mend it."""

    def __init__(self, kind: str, detail: str, remedy: str):
        # A line break in quoted data would make a line of its own, in which anything could be claimed.
        self.kind, self.detail, self.remedy = visible(kind), visible(detail), visible(remedy)
        super().__init__(f"{self.detail}; {self.remedy}")


@dataclass(slots=True)
class RawRow:
    """One raw record and where it stands (`file:line`, `file:row` for parquet and hub datasets).

    `record` is None when the row can't be read; then `fault` says why and `text` is what stands there.
    """

    origin: str
    record: dict | None = None
    fault: BadRecordError | None = None
    text: str | None = None


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: dates as ISO text, decimals as text, NaN as null, bytes as their length."""
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
    """Return what a JSON value is, in words."""
    words = ((bool, "true or false"), (str, "text"), (int | float, "a number"), (list, "a list"), (dict, "an object"))
    return next((word for kind, word in words if isinstance(value, kind)), "null")


def object_fault(value: Any) -> BadRecordError | None:
    """Return what is wrong with a JSON value that should be a record, if anything."""
    if isinstance(value, dict):
        return None
    return BadRecordError("not an object", f"is {kind_of_value(value)}, not an object", "a record is written as {...}")


def missing_column(kind: str, name: str, raw: dict, otherwise: str) -> BadRecordError:
    """Return the fault of a raw record without this column: it says which there are, and which one was meant.

    `otherwise` is what to do where none of them is similar.
    """
    there = [*list(raw)[:SHOWN_COLUMNS], *(["..."] if len(raw) > SHOWN_COLUMNS else [])]
    near = difflib.get_close_matches(name, list(raw), n=1)
    advice = f"did you mean '{near[0]}'?" if near else otherwise
    return BadRecordError(kind, f"has no '{name}'", f"it has {', '.join(there) or 'no field'}; {advice}")
