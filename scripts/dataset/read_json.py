"""Read JSON arrays and JSON Lines, one record at a time, each with its line number.

The array is read with the standard library's `raw_decode` on a growing buffer. Unlike `ijson`, this counts lines, so
that every record and every error can be traced to its line.
"""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scripts.common.errors import UserError
from scripts.dataset.raw_files import Report, encoding_fault, read_chunks, read_lines, too_long, without_bom
from scripts.dataset.raw_rows import MAX_RECORD, BadRecordError, RawRow, object_fault

NO_SPACE = re.compile(r"[ \t\n\r]*")
CUT_NUMBER = ("", ".", "e", "E")  # what may follow a number that continues in the next chunk
NEAR_END = 16  # an error this close to the end of the buffer may come from a value that the next chunk completes
INTEGER_LIMIT = re.compile(r"integer string conversion: value has (\d+) digits")  # Python refuses more than 4,300
LINES_NOT_ARRAY = "rename it to .jsonl"
ARRAY_NOT_LINES = "rename it to .json"


def refuse_constant(name: str) -> None:
    """Raise ValueError for NaN and Infinity, which Python reads but JSON does not allow."""
    raise ValueError(f"{name} is not JSON: write null")


DECODER = json.JSONDecoder(parse_constant=refuse_constant)


def read_jsonl_rows(path: Path | str, report: Report = lambda read: None) -> Iterator[RawRow]:
    """Yield the records of a JSON Lines file; an invalid line gives a row with a fault. UserError for a JSON array."""
    started = False
    for number, line in enumerate(read_lines(path, report), 1):
        if not line.strip():
            continue
        origin = f"{path}:{number}"
        if fault := encoding_fault(line):
            yield RawRow(origin, fault=fault, text=line.decode("utf-8", "backslashreplace").rstrip("\r\n"))
            continue
        text = line.decode("utf-8").strip()
        if not started and looks_like_array(text):
            raise UserError("is a JSON array, not JSON Lines", path, number, ARRAY_NOT_LINES)
        started = True
        yield line_row(origin, text)


def looks_like_array(first_line: str) -> bool:
    """Return whether the first line of a file starts a JSON array of records."""
    return first_line.startswith("[") and (len(first_line) == 1 or first_line[1:].lstrip().startswith("{"))


def line_row(origin: str, text: str) -> RawRow:
    """Read one line of JSON Lines."""
    try:
        value = DECODER.decode(text)
    except json.JSONDecodeError as error:
        detail = f"is not valid JSON: {error.msg} (column {error.pos + 1})"
        remedy = "write one complete {...} per line" if error.pos >= len(text) else json_remedy(text, error.pos)
        return RawRow(origin, fault=BadRecordError("not valid JSON", detail, remedy), text=text)
    except (ValueError, RecursionError) as error:
        return RawRow(origin, fault=BadRecordError("not valid JSON", *other_fault(error)), text=text)
    if fault := object_fault(value):
        return RawRow(origin, fault=fault, text=text)
    return RawRow(origin, value)


def other_fault(error: Exception) -> tuple[str, str]:
    """Return detail and remedy of what Python's decoder refuses beside faults of syntax."""
    if isinstance(error, RecursionError):
        return "is nested too deeply", "flatten the record"
    if digits := INTEGER_LIMIT.search(str(error)):
        return f"holds an integer of {digits[1]} digits", "write it as text, in quotes"
    what, _, remedy = str(error).partition(": ")
    return what, remedy or "write a shorter number"


def json_remedy(text: str, position: int) -> str:
    """Return advice for a syntax error, guessed from the text around it."""
    before, at = text[:position].rstrip(), text[position : position + 1]
    if at == "'":
        return "quote with double quotes"
    if before.endswith(",") and at in ("}", "]"):
        return "remove the comma before the closing bracket"
    if before.endswith((",", "{")) and at == "":
        return "the text ends early: complete it"
    if (at in ('"', "{") and before.endswith(('"', "}", "]", "l", "e"))) or before.endswith(tuple("0123456789")):
        return "is a comma missing before it?"
    if at in ("#", "/"):
        return "JSON has no comments: remove it"
    return "check quotes, commas and brackets there"


class Buffer:
    """A buffer of a file's text that counts lines; `text[position:]` is not yet consumed."""

    def __init__(self, path: Path | str, report: Report):
        self.path = path
        self.chunks = without_bom(read_chunks(path, report), path)
        self.decoder = codecs.getincrementaldecoder("utf-8")("strict")
        self.text, self.position, self.ended = "", 0, False
        self.line, self.counted = 1, 0  # the line of `text[counted]`

    def grow(self, least: int = 1) -> None:
        """Read at least this many further characters, or up to the end of the file."""
        self.line_at(self.position)
        parts, count = [self.text[self.position :]], 0
        self.position = self.counted = 0
        while not self.ended and count < least:
            chunk = next(self.chunks, None)
            self.ended = chunk is None
            parts.append(self.decoded(chunk or b"", parts))
            count += len(parts[-1])
        self.text = "".join(parts)

    def decoded(self, chunk: bytes, before: list[str]) -> str:
        """Decode a chunk. Raises UserError with the line of bytes that are not UTF-8."""
        try:
            return self.decoder.decode(chunk, final=self.ended)
        except UnicodeDecodeError as error:
            line = self.line + sum(part.count("\n") for part in before) + error.object[: error.start].count(b"\n")
            start = error.object.rfind(b"\n", 0, error.start) + 1
            fault = encoding_fault(error.object[start : error.object.find(b"\n", error.start) % len(error.object) + 1])
            raise UserError(fault.detail, self.path, line, fault.remedy) from None

    def line_at(self, position: int) -> int:
        """Return the line of a position in the text; calls must have ascending positions."""
        self.line += self.text.count("\n", self.counted, position)
        self.counted = max(self.counted, position)
        return self.line

    def skip_space(self) -> str:
        """Move to the next character that is not white space and return it; an empty string at the end."""
        passed = 0
        while True:
            start = self.position
            self.position = NO_SPACE.match(self.text, start).end()
            passed += self.position - start
            if self.position < len(self.text):
                return self.text[self.position]
            if self.ended:
                return ""
            if passed > MAX_RECORD:
                raise too_long(self.path, self.line_at(self.position))
            self.grow()

    def value(self) -> Any:
        """Read the JSON value at the current position. Raises UserError with the line of an error."""
        while True:
            try:
                value, end = DECODER.raw_decode(self.text, self.position)
                if self.ended or self.text[end : end + 1] not in CUT_NUMBER:
                    self.position = end
                    return value
            except json.JSONDecodeError as error:
                whole = self.ended or not self.may_go_on(error)
                if whole:
                    raise self.fault(error) from None
            except (ValueError, RecursionError) as error:
                what, remedy = other_fault(error)
                raise UserError(what, self.path, self.line_at(self.position), remedy) from None
            held = len(self.text) - self.position
            if held > MAX_RECORD:
                raise too_long(self.path, self.line_at(self.position))
            self.grow(held)

    def may_go_on(self, error: json.JSONDecodeError) -> bool:
        """Return whether the rest of the file could complete the value."""
        return error.msg.startswith("Unterminated string") or error.pos >= len(self.text) - NEAR_END

    def fault(self, error: json.JSONDecodeError) -> UserError:
        """Return the error of a value that is not valid JSON."""
        line = self.line_at(error.pos)
        if error.pos >= len(self.text.rstrip()) or error.msg.startswith("Unterminated string"):
            return UserError("the JSON ends early", self.path, line, "complete it, or copy it again")
        remedy = json_remedy(self.text, error.pos)
        return UserError(f"is not valid JSON: {error.msg}", self.path, line, remedy)


def read_json_rows(path: Path | str, report: Report = lambda read: None) -> Iterator[RawRow]:
    """Yield the records of a JSON array; only one record and a chunk of text are in memory.

    The origin of a record that shares its line with another is `file:line#n`, the n-th of the file. Raises UserError
    for a syntax error (nothing after it can be trusted), and for a file that is JSON Lines or holds one object.
    """
    buffer = Buffer(path, report)
    first = buffer.skip_space()
    if first != "[":
        raise not_an_array(buffer, first)
    buffer.position += 1
    if buffer.skip_space() == "]":
        check_end(buffer)
        return
    count, last_line = 0, 0
    while True:
        if not buffer.skip_space():
            raise UserError("the JSON ends early: ']' is missing", path, buffer.line_at(buffer.position), "add it")
        line = buffer.line_at(buffer.position)
        value = buffer.value()
        count += 1
        origin = f"{path}:{line}" if line != last_line else f"{path}:{line}#{count}"
        last_line = line
        fault = object_fault(value)
        yield RawRow(origin, None, fault, json.dumps(value)) if fault else RawRow(origin, value)
        separator = buffer.skip_space()
        if separator == "]":
            check_end(buffer)
            return
        if separator != ",":
            raise bad_separator(buffer, separator)
        buffer.position += 1
        if buffer.skip_space() == "]":
            line = buffer.line_at(buffer.position)
            raise UserError("is not valid JSON: a comma before ']'", path, line, "remove the comma")


def bad_separator(buffer: Buffer, found: str) -> UserError:
    """Return the error for an array where neither a comma nor the end follows a record."""
    line = buffer.line_at(buffer.position)
    if not found:
        return UserError("the JSON ends early: ']' is missing", buffer.path, line, "complete it, or copy it again")
    return UserError(f"is not valid JSON: ',' or ']' expected before {found}", buffer.path, line, "add the comma")


def check_end(buffer: Buffer) -> None:
    """Raise UserError if anything follows the array."""
    buffer.position += 1
    if buffer.skip_space():
        line = buffer.line_at(buffer.position)
        raise UserError("there is text after the ']' of the array", buffer.path, line, "keep one array in the file")


def not_an_array(buffer: Buffer, first: str) -> UserError:
    """Return the error of a file that does not start with a bracket."""
    line = buffer.line_at(buffer.position)
    if not first:
        return UserError("is empty", buffer.path, line, "a JSON file holds an array of records: [{...}, ...]")
    if first == "{":
        buffer.value()
        if buffer.skip_space() == "{":
            return UserError("is JSON Lines, not a JSON array", buffer.path, line, LINES_NOT_ARRAY)
        return UserError("holds one object, not an array of records", buffer.path, line, "put the records in [...]")
    return UserError(f"is not a JSON array: it starts with {first!r}", buffer.path, line, "write [{...}, ...]")
