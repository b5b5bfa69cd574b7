"""Read JSON arrays and JSON Lines, one record at a time, each with its line number.

The array is read with the standard library's `raw_decode` on a growing buffer. Unlike `ijson`, this counts lines, so
that every record and every error can be traced to its line.
"""

import codecs
import json
import math
import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from scripts.common.errors import UserError
from scripts.dataset import raw_files
from scripts.dataset.raw_files import Report, encoding_fault, kind_of, opened, read_blocks, too_long
from scripts.dataset.raw_rows import MAX_RECORD, BadRecordError, RawRow, object_fault

ARRAY = re.compile(rb"\s*\[\s*(\{|$)")  # how the first line of an array of records starts
NO_SPACE = re.compile(r"[ \t\n\r]*")
CUT_NUMBER = ("", ".", "e", "E")  # what may follow a number that continues in the next chunk
MOST_LINES = 2048  # of a block: short lines may become long records
NEAR_END = 16  # an error this close to the end of the buffer may come from a value that the next chunk completes
INTEGER_LIMIT = re.compile(r"integer string conversion: value has (\d+) digits")  # Python refuses more than 4,300
REMEDY = "check quotes, commas and brackets, and the file's suffix: .json is one array, .jsonl has {...} on each line"


def refuse_constant(name: str) -> None:
    """Raise ValueError for NaN and Infinity, which Python reads but JSON does not allow."""
    raise ValueError(f"{name} is not JSON: write null")


def finite(number: str) -> float | None:
    """Return a number; None if it is too large for 64 bits."""
    value = float(number)
    return value if math.isfinite(value) else None


DECODER = json.JSONDecoder(parse_float=finite, parse_constant=refuse_constant)


def json_fault(error: Exception, starts_line: bool) -> BadRecordError:
    """Return the fault of a value that Python's decoder refuses.

    `starts_line`: the decoded text starts at the start of a line. Otherwise the column of a fault in its first line is
    unknown.
    """
    if isinstance(error, json.JSONDecodeError):
        column = f" (column {error.colno})" if starts_line or error.lineno > 1 else ""
        what, remedy = f"is not valid JSON: {error.msg}{column}", REMEDY
    elif isinstance(error, RecursionError):
        what, remedy = "is nested too deeply", "flatten the record"
    elif digits := INTEGER_LIMIT.search(str(error)):
        what, remedy = f"holds an integer of {digits[1]} digits", "write it as text, in quotes"
    else:
        what, _, remedy = str(error).partition(": ")
    return BadRecordError("not valid JSON", what, remedy)


class RawBlock(NamedTuple):
    """Lines of a JSON Lines file that are not decoded yet; `number` is that of the first."""

    path: Path | str
    number: int
    data: bytes

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield the number and content of each line that is not blank."""
        return ((number, line) for number, line in enumerate(self.data.split(b"\n"), self.number) if line.strip())

    def rows(self) -> Iterator[RawRow]:
        """Yield the record of each line that is not blank; a row with a fault for an invalid line."""
        return (row_of_line(f"{self.path}:{number}", line) for number, line in self.lines())

    def parts(self, most: int) -> Iterator["RawBlock"]:
        """Yield blocks of so many lines at most."""
        if self.data.count(b"\n") < most:
            yield self
            return
        lines = self.data.split(b"\n")
        for start in range(0, len(lines), most):
            yield RawBlock(self.path, self.number + start, b"\n".join(lines[start : start + most]))


def row_of_line(origin: str, line: bytes) -> RawRow:
    """Return the record of a line; a row with a fault for an invalid one."""
    try:
        text = line.decode("utf-8").strip()
        try:
            value, end = DECODER.raw_decode(text)
        except ValueError:
            end = None
        if end != len(text):
            value = DECODER.decode(text)  # its error says what is wrong
        fault = object_fault(value)
    except UnicodeDecodeError:
        text, fault = line.decode("utf-8", "backslashreplace").strip(), encoding_fault(line)
    except (ValueError, RecursionError) as error:
        fault = json_fault(error, starts_line=True)
    if fault:
        return RawRow(origin, None, fault, text)
    # Only an escape can be half of a surrogate pair: the line is valid UTF-8.
    return RawRow(origin, value, has_whole_characters=b"\\u" not in line)


def read_jsonl_blocks(path: Path | str, report: Report = lambda read: None) -> Iterator[RawBlock]:
    """Yield the lines of a JSON Lines file in blocks. Raises UserError for a file that is a JSON array.

    A first line that is a list by itself, from bracket to bracket, is one bad record if other lines follow.
    """
    blocks = (
        part for number, data in read_blocks(path, report) for part in RawBlock(path, number, data).parts(MOST_LINES)
    )
    first: list[RawBlock] = []
    head: list[tuple[int, bytes]] = []
    while len(head) < 2 and (block := next(blocks, None)):
        first.append(block)
        head += islice(block.lines(), 2)
    if head and ARRAY.match(head[0][1]) and (len(head) == 1 or not head[0][1].rstrip().endswith(b"]")):
        _, compression = kind_of(path)
        suffix = f".json.{compression}" if compression else ".json"
        raise UserError("is a JSON array, not JSON Lines", path, head[0][0], f"rename it to {suffix}")
    return chain(first, blocks)


def first_records(blocks: Iterable[RawBlock], most: int) -> Iterator[RawBlock]:
    """Yield blocks up to so many lines that are not blank."""
    for block in blocks:
        numbers = [number for number, _ in block.lines()]
        if len(numbers) >= most:
            yield next(block.parts(numbers[most - 1] - block.number + 1))
            return
        most -= len(numbers)
        yield block


def read_jsonl_rows(path: Path | str, report: Report = lambda read: None) -> Iterator[RawRow]:
    """Yield the records of a JSON Lines file; an invalid line gives a row with a fault. UserError for a JSON array."""
    return chain.from_iterable(block.rows() for block in read_jsonl_blocks(path, report))


class Buffer:
    """A buffer of a file's text that counts lines; `text[position:]` is not yet consumed."""

    def __init__(self, file: BinaryIO, path: Path | str):
        self.file, self.path = file, path
        self.decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self.text, self.position, self.ended = "", 0, False
        self.line, self.counted = 1, 0  # the line of `text[counted]`

    def grow(self, least: int = 1) -> None:
        """Read at least this many further bytes, or up to the end of the file."""
        self.line_at(self.position)
        size = max(least, raw_files.CHUNK)
        data = self.file.read(size)
        self.text, self.position, self.counted = self.text[self.position :], 0, 0
        self.ended = len(data) < size
        try:
            self.text += self.decoder.decode(data, final=self.ended)
        except UnicodeDecodeError as error:
            line = self.line_at(len(self.text)) + error.object[: error.start].count(b"\n")
            fault = encoding_fault(error.object)
            raise UserError(fault.detail, self.path, line, fault.remedy) from None

    def line_at(self, position: int) -> int:
        """Return the line of a position in the text; calls must have ascending positions."""
        self.line += self.text.count("\n", self.counted, position)
        self.counted = max(self.counted, position)
        return self.line

    def skip_space(self) -> str:
        """Move to the next character that is not white space and return it; an empty string at the end."""
        while True:
            self.position = NO_SPACE.match(self.text, self.position).end()
            if self.position < len(self.text) or self.ended:
                return self.text[self.position : self.position + 1]
            self.grow()

    def value(self) -> Any:
        """Read the JSON value at the current position. Raises UserError with the line of an error."""
        while True:
            try:
                value, end = DECODER.raw_decode(self.text, self.position)
                if self.ended or self.text[end : end + 1] not in CUT_NUMBER:
                    self.position = end
                    return value
            except (ValueError, RecursionError) as error:
                place = getattr(error, "pos", self.position)
                is_cut = isinstance(error, json.JSONDecodeError) and (
                    error.msg.startswith("Unterminated string") or place >= len(self.text) - NEAR_END
                )
                if self.ended or not is_cut:
                    fault = json_fault(error, starts_line=False)
                    raise UserError(fault.detail, self.path, self.line_at(place), fault.remedy) from None
            held = len(self.text) - self.position
            if held > MAX_RECORD:
                raise too_long(self.path, self.line_at(self.position))
            self.grow(held)

    def fault(self, expected: str, found: str) -> UserError:
        """Return the error for another character than the expected one at the current position."""
        there = f"there is {found!r}" if found else "the file ends"
        return UserError(f"where {expected} is expected, {there}", self.path, self.line_at(self.position), REMEDY)


def read_json_rows(path: Path | str, report: Report = lambda read: None) -> Iterator[RawRow]:
    """Yield the records of a JSON array; only one record and a chunk of text are in memory.

    The origin of a record that shares its line with another is `file:line#n`, the n-th of the file. Raises UserError
    for a syntax error (nothing after it can be trusted).
    """
    with opened(path, report) as file:
        buffer = Buffer(file, path)
        if (found := buffer.skip_space()) != "[":
            raise buffer.fault("the '[' of an array", found)
        buffer.position += 1
        count, last_line, found = 0, 0, buffer.skip_space()
        while found != "]" or count:
            line = buffer.line_at(buffer.position)
            value = buffer.value()
            count += 1
            origin = f"{path}:{line}" if line != last_line else f"{path}:{line}#{count}"
            last_line = line
            fault = object_fault(value)
            yield RawRow(origin, None, fault, json.dumps(value)) if fault else RawRow(origin, value)
            if (found := buffer.skip_space()) == "]":
                break
            if found != ",":
                raise buffer.fault("',' or ']'", found)
            buffer.position += 1
            buffer.skip_space()
        buffer.position += 1
        if found := buffer.skip_space():
            raise buffer.fault("the end of the file", found)
