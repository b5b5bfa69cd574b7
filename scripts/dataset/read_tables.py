"""Read CSV, TSV and Parquet, one record at a time."""

import csv
from collections.abc import Iterator
from pathlib import Path

from scripts.common.errors import UserError
from scripts.dataset.raw_files import Report, decompressed, encoding_fault, read_lines, too_long
from scripts.dataset.raw_rows import MAX_RECORD, BadRecordError, RawRow

BATCH = 256
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


class LineFeed:
    """Feeds lines to the csv reader, and keeps those of the current row."""

    def __init__(self, path: Path | str, report: Report):
        self.path, self.lines = path, read_lines(path, report)
        self.number, self.held, self.size = 0, [], 0

    def __iter__(self):
        return self

    def __next__(self) -> str:
        line = next(self.lines)
        self.number += 1
        self.held.append(line)
        self.size += len(line)
        if self.size > MAX_RECORD:
            raise too_long(self.path, self.number - len(self.held) + 1)
        return line.decode("utf-8", "surrogateescape")

    def start(self) -> int:
        """Discard the last row's lines; return the line number at which the next row starts."""
        self.held, self.size = [], 0
        return self.number + 1

    def fault(self, start: int) -> BadRecordError | None:
        """Return the fault in the bytes of the current row, if any."""
        for offset, line in enumerate(self.held):
            found = encoding_fault(line)
            if found and len(self.held) > 1:
                return BadRecordError(found.kind, f"line {start + offset}: {found.detail}", found.remedy)
            if found:
                return found
            if b"\0" in line:
                return BadRecordError("NUL byte", "holds a NUL byte", "remove it, or save the file as UTF-8 text again")
        return None

    def text(self) -> str:
        """Return the raw text of the current row."""
        return b"".join(self.held).decode("utf-8", "backslashreplace").rstrip("\r\n")


def read_delimited_rows(
    path: Path | str, delimiter: str, report: Report = lambda read: None, wanted: frozenset[str] = frozenset()
) -> Iterator[RawRow]:
    """Yield the records of a CSV or TSV file: one cell of text per column of the header line.

    A row with a wrong number of cells, or with bytes that are not UTF-8, gets a fault. Raises UserError for a bad or
    missing header (it must name one of the columns `wanted`) and for a quote that is never closed.
    """
    csv.field_size_limit(MAX_RECORD)
    feed = LineFeed(path, report)
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    header = None
    while True:
        start = feed.start()
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            if "unexpected end" in str(error):
                raise UserError(
                    "the quote opened here is never closed", path, start, "close it, or double it"
                ) from None
            cells, fault = (
                None,
                BadRecordError("not valid CSV", f"is not valid CSV: {error}", 'write " inside a cell as ""'),
            )
        else:
            fault = feed.fault(start)
        if cells == []:
            continue
        if header is None:
            if fault:
                raise UserError(f"the header {fault.detail}", path, start, fault.remedy)
            header = checked_header(cells, path, start, delimiter, wanted)
            continue
        if not fault and len(cells) != len(header):
            fewer = "a cell is missing, or a line break is not quoted"
            more = f"quote cells that hold {'tabs' if delimiter == chr(9) else repr(delimiter)}"
            shape = f"has {len(cells)} cell{'s' * (len(cells) > 1)}, the header has {len(header)}"
            fault = BadRecordError("ragged row", shape, fewer if len(cells) < len(header) else more)
        origin = f"{path}:{start}"
        yield (
            RawRow(origin, None, fault, feed.text()) if fault else RawRow(origin, dict(zip(header, cells, strict=True)))
        )
    if header is None:
        raise UserError("is empty", path, 1, "the first line names the columns")


def checked_header(cells: list[str], path: Path | str, line: int, delimiter: str, wanted: frozenset[str]) -> list[str]:
    """Return the column names of a header line. Raises UserError for an invalid header."""
    names = [cell.strip() for cell in cells]
    if len(names) == 1:
        for other, word in DELIMITERS.items():
            if other != delimiter and other in names[0]:
                there = f"save it with {DELIMITERS[delimiter]}"
                raise UserError(f"its cells are separated by {word}, not by {DELIMITERS[delimiter]}", path, line, there)
    if "" in names:
        raise UserError(f"column {names.index('') + 1} has no name", path, line, "name each column in the first line")
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise UserError(f"two columns are named '{doubled[0]}'", path, line, "rename or drop one of them")
    if wanted and not wanted & set(names):
        raise UserError(
            f"names none of the columns {quoted(sorted(wanted))}; it holds {quoted(names)}",
            path,
            line,
            "add a header line, or name the columns under 'columns'",
        )
    return names


def quoted(names: list[str], most: int = 8) -> str:
    """List names in quotes, shortened."""
    shown = ", ".join(f"'{name if len(name) <= 30 else name[:27] + '...'}'" for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def check_cells(metadata, path: Path | str) -> None:
    """Raise UserError for a Parquet file where the cells of a column are longer than MAX_RECORD on average.

    Only the footer is read.
    """
    number = 1
    for place in range(metadata.num_row_groups):
        group = metadata.row_group(place)
        sizes = [group.column(column).total_uncompressed_size for column in range(group.num_columns)]
        if max(sizes, default=0) > MAX_RECORD * max(group.num_rows, 1):
            raise too_long(path, number)
        number += group.num_rows


def read_parquet_rows(path: Path | str, report: Report = lambda read: None) -> Iterator[RawRow]:
    """Yield the records of a Parquet file, batch by batch; a compressed file is unpacked first.

    Raises UserError for a file that is damaged or not Parquet.
    """
    import pyarrow
    from pyarrow import parquet

    with decompressed(path, report) as content:
        try:
            with parquet.ParquetFile(content, pre_buffer=False) as file:
                names = file.schema_arrow.names
                doubled = sorted({name for name in names if names.count(name) > 1})
                if doubled:
                    raise UserError(f"two columns are named '{doubled[0]}'", path, remedy="rename or drop one of them")
                check_cells(file.metadata, path)
                number = 0
                for batch in file.iter_batches(batch_size=BATCH):
                    rows = 1 if batch.nbytes > MAX_RECORD else batch.num_rows
                    for start in range(0, batch.num_rows, rows or 1):
                        part = batch.slice(start, rows)
                        if rows == 1 and part.nbytes > MAX_RECORD:
                            raise too_long(path, number + 1)
                        for record in part.to_pylist():
                            number += 1
                            yield RawRow(f"{path}:{number}", record)
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            what = str(error).splitlines()[0].rstrip(". ")
            raise UserError(f"is not a readable Parquet file: {what}", path, remedy="write or copy it again") from None
