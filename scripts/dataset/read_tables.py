"""Read CSV, TSV and Parquet, one record at a time."""

import csv
from collections.abc import Iterator
from pathlib import Path

from scripts.common.errors import UserError
from scripts.dataset.raw_files import Report, decompressed, encoding_fault, read_lines, too_long
from scripts.dataset.raw_rows import MAX_RECORD, BadRecordError, RawRow, plain

BATCH = 256


def read_delimited_rows(path: Path | str, delimiter: str, report: Report = lambda read: None) -> Iterator[RawRow]:
    """Yield the records of a CSV or TSV file: one cell of text per column of the header line.

    A row with a wrong number of cells, or with bytes that are not UTF-8, gets a fault. Raises UserError for a bad or
    missing header and for a quote that is never closed.
    """
    csv.field_size_limit(MAX_RECORD)
    held, size = [], 0  # the lines of the current row

    def lines() -> Iterator[str]:
        nonlocal size
        for number, line in enumerate(read_lines(path, report), 1):
            held.append(line)
            size += len(line)
            if size > MAX_RECORD:
                raise too_long(path, number - len(held) + 1)
            yield line.decode("utf-8", "surrogateescape")

    reader, header, cells = csv.reader(lines(), delimiter=delimiter, strict=True), None, []
    while cells is not None:
        start, fault = reader.line_num + 1, None
        held.clear()
        size = 0
        try:
            cells = next(reader, None)
        except csv.Error as error:
            if "unexpected end" in str(error):
                raise UserError(
                    "the quote opened here is never closed", path, start, "close it, or double it"
                ) from None
            fault = BadRecordError("not valid CSV", f"is not valid CSV: {error}", 'write " inside a cell as ""')
        if not cells and not fault:
            continue
        fault = fault or row_fault(b"".join(held), cells, header)
        if header is None:
            if fault:
                raise UserError(f"the header {fault.detail}", path, start, fault.remedy)
            header = checked_header([cell.strip() for cell in cells], path, start)
        elif fault:
            text = b"".join(held).decode("utf-8", "backslashreplace").rstrip("\r\n")
            yield RawRow(f"{path}:{start}", None, fault, text)
        else:
            yield RawRow(f"{path}:{start}", dict(zip(header, cells, strict=True)))
    if header is None:
        raise UserError("is empty", path, 1, "the first line names the columns")


def row_fault(data: bytes, cells: list[str], header: list[str] | None) -> BadRecordError | None:
    """Return the fault in the bytes of a row, or in its number of cells."""
    if header and len(cells) != len(header):
        shape = f"has {len(cells)} cell{'s' * (len(cells) > 1)}, the header has {len(header)}"
        return BadRecordError("ragged row", shape, "add or remove cells; quote line breaks and separators inside cells")
    return encoding_fault(data)


def checked_header(names: list[str], path: Path | str, line: int | None) -> list[str]:
    """Return the column names of a table. Raises UserError if one is empty or repeated."""
    if "" in names:
        raise UserError(f"column {names.index('') + 1} has no name", path, line, "name each column in the first line")
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"two columns are named '{doubled[0]}'", path, line, "rename or drop one of them")
    return names


def check_cells(metadata, path: Path | str) -> None:
    """Raise UserError for a Parquet file where the cells of a column are longer than MAX_RECORD on average."""
    number = 1
    for place in range(metadata.num_row_groups):
        group = metadata.row_group(place)
        sizes = [group.column(column).total_uncompressed_size for column in range(group.num_columns)]
        if max(sizes, default=0) > MAX_RECORD * max(group.num_rows, 1):
            raise too_long(path, number)
        number += group.num_rows


def read_parquet_rows(path: Path | str, report: Report = lambda read: None) -> Iterator[RawRow]:
    """Yield the records of a Parquet file, batch by batch; a compressed file is unpacked first."""
    import pyarrow
    from pyarrow import parquet

    with decompressed(path, report) as content:
        try:
            with parquet.ParquetFile(content, pre_buffer=False) as file:
                checked_header(file.schema_arrow.names, path, None)
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
                            yield RawRow(f"{path}:{number}", plain(record))
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            what = str(error).splitlines()[0].rstrip(". ")
            raise UserError(f"is not a readable Parquet file: {what}", path, remedy="write or copy it again") from None
