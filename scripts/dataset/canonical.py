"""Canonical records on disk: one Parquet row a record, written and read in batches."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic_core import to_json

from scripts.common.checksums import intact
from scripts.common.files import CANONICAL, atomic_path, json_encoder
from scripts.common.records import ROLES, Record

if TYPE_CHECKING:
    import pyarrow

COLUMNS = ("id", "messages", "expected", "label", "group", "meta", "origin", "spans")
REPEATED = {"label", "group", "meta", "spans", "split"}  # columns whose values may occur often
AS_JSON = ("messages", "meta", "spans")
ROWS, CHARACTERS = 4096, 4 * 2**20  # a row group is written when it holds so much
TEXT = json_encoder(ensure_ascii=False)
DECODE = json.JSONDecoder().raw_decode  # `json.loads` also looks for white space around the value
HEADS = {role: f'{{"role": "{role}", "content": '.encode() for role in ROLES}  # of a message as JSON
TAILS = {role: f',"role":"{role}"}}'.encode() for role in ROLES}  # of a message as canonical JSON


def to_row(record: Record) -> dict:
    """Return a record as a row: messages, meta and spans as JSON text."""
    return {
        name: TEXT(value) if name in AS_JSON and value is not None else value for name, value in vars(record).items()
    }


def rows_of_records(records: list[Record]) -> "pyarrow.RecordBatch":
    """Return records as rows in columns: faster than `batch_of` with `to_row` of each, which gives the same."""
    import pyarrow

    columns = {name: [getattr(record, name) for record in records] for name in COLUMNS}
    columns["messages"] = [messages_json(messages) for messages in columns["messages"]]
    columns["meta"] = [TEXT(meta) if meta else "{}" for meta in columns["meta"]]
    columns["spans"] = [None if spans is None else TEXT(spans) for spans in columns["spans"]]
    arrays = [pyarrow.array(values, pyarrow.string()) for values in columns.values()]
    return pyarrow.RecordBatch.from_arrays(arrays, schema=schema_of(COLUMNS))


def messages_json(messages: list[dict]) -> bytes:
    """Return messages as JSON: faster than `TEXT`, which gives the same."""
    texts = [
        HEADS[each["role"]]
        + (to_json(content) if isinstance(content := each["content"], str) else TEXT(content).encode("utf-8"))
        + b"}"
        for each in messages
    ]
    return b"[" + b", ".join(texts) + b"]"


def record_id(messages: list[dict], spans: list | None) -> str:
    """Return a record's id: faster than `records.content_id`, which gives the same."""
    texts = [
        b'{"content":'
        + (to_json(content) if isinstance(content := each["content"], str) else CANONICAL(content).encode("utf-8"))
        + TAILS[each["role"]]
        for each in messages
    ]
    rest = b"null" if spans is None else CANONICAL(spans).encode("utf-8")
    return hashlib.sha256(b"[[" + b",".join(texts) + b"]," + rest + b"]").hexdigest()[:16]


def json_lines(batch: "pyarrow.RecordBatch") -> "pyarrow.StringArray":
    """Return each row's record as a line of JSON, the same as `json.dumps(record.to_row(), ensure_ascii=False)`."""
    import pyarrow
    from pyarrow import compute

    parts = []
    for number, name in enumerate(field.name for field in dataclasses.fields(Record)):
        column = batch[name]
        if name not in AS_JSON:
            column = compute.binary_join_element_wise('"', escaped(column), '"', "")
        parts += [f'{", " if number else "{"}"{name}": ', compute.fill_null(column, "null")]
    return compute.binary_join_element_wise(*parts, "}\n", pyarrow.scalar(""))


def escaped(texts: "pyarrow.StringArray") -> "pyarrow.StringArray":
    """Return texts as they are between the quotes of JSON."""
    from pyarrow import compute

    # The backslash comes first, because the others become one and a letter.
    for character in sorted(special_characters(texts), key=lambda character: character != "\\"):
        texts = compute.replace_substring(texts, character, TEXT(character)[1:-1])
    return texts


def special_characters(texts: "pyarrow.StringArray") -> list[str]:
    """Return the characters in texts that JSON escapes; a regular expression takes several times as long."""
    _, ends, data = texts.buffers()
    if not len(texts) or data is None:  # None: all are null
        return []
    first, last = np.frombuffer(ends, np.int32)[[texts.offset, texts.offset + len(texts)]]
    codes = np.frombuffer(data, np.uint8)[first:last]
    return [chr(code) for code in np.unique(codes[(codes < ord(" ")) | (codes == ord('"')) | (codes == ord("\\"))])]


def value_of(text: str) -> Any:
    """Return the value of a column with JSON."""
    return DECODE(text)[0]


def from_row(row: dict) -> Record:
    """Return the record of a row; a `split` beside it is left out."""
    values = {name: row[name] for name in COLUMNS}
    return Record(**values | {name: value_of(row[name]) for name in AS_JSON if row[name] is not None})


def batch_of(rows: list[dict], columns: tuple[str, ...] = COLUMNS) -> "pyarrow.RecordBatch":
    """Return rows as columns of text."""
    import pyarrow

    return pyarrow.RecordBatch.from_pylist(rows, schema=schema_of(columns))


def schema_of(columns: tuple[str, ...]) -> "pyarrow.Schema":
    """Return the schema of a file with these columns of text."""
    import pyarrow

    return pyarrow.schema([(name, pyarrow.string()) for name in columns])


class RowWriter:
    """Writes rows of text columns to Parquet, holding one row group in memory while `thread` writes the one before."""

    def __init__(self, file, schema, thread: ThreadPoolExecutor):
        self.file, self.schema, self.thread, self.written = file, schema, thread, None
        self.rows, self.batches, self.size = [], [], 0

    def write(self, row: dict) -> None:
        """Write one row."""
        self.rows.append(row)
        self.size += len(row["messages"]) + len(row["meta"])
        if len(self.rows) >= ROWS or self.size >= CHARACTERS:
            self.flush()

    def write_batch(self, batch: "pyarrow.RecordBatch") -> None:
        """Write rows given as columns, those of the file in any order."""
        few = max(ROWS // 4, 1)
        for start in range(0, len(batch), few):
            self.batches.append(batch.slice(start, few).select(self.schema.names))
            self.size += self.batches[-1].nbytes
            if sum(map(len, self.batches)) >= ROWS or self.size >= CHARACTERS:
                self.flush()

    def flush(self) -> None:
        from pyarrow import Table

        self.wait()
        if self.rows:
            self.batches.append(batch_of(self.rows, tuple(self.schema.names)))
        if self.batches:
            table = Table.from_batches(self.batches, schema=self.schema).combine_chunks()
            self.written = self.thread.submit(self.file.write_table, table)
        self.rows, self.batches, self.size = [], [], 0

    def wait(self) -> None:
        """Wait until the last row group is written."""
        if self.written:
            self.written.result()


@contextmanager
def row_writer(path: Path | str, columns: tuple[str, ...] = COLUMNS, compression: str = "zstd") -> Iterator[RowWriter]:
    """Write a Parquet file as a whole: rows go to a `RowWriter`."""
    from pyarrow import parquet

    schema = schema_of(columns)
    with (
        atomic_path(path) as beside,
        parquet.ParquetWriter(
            beside, schema, compression=compression, use_dictionary=list(REPEATED), write_statistics=False
        ) as file,
        ThreadPoolExecutor(1) as thread,
    ):
        writer = RowWriter(file, schema, thread)
        yield writer
        writer.flush()
        writer.wait()


def read_batches(
    path: Path | str, columns: tuple[str, ...] | None = None, rows: int = ROWS // 4
) -> Iterator["pyarrow.RecordBatch"]:
    """Yield a file that `row_writer` made in batches of so many rows; UserError when it has changed since.

    No batch has rows of two row groups, so it has as few long ones as a row group.
    """
    from pyarrow import parquet

    with parquet.ParquetFile(intact(path), pre_buffer=False) as file:
        for number in range(file.num_row_groups):
            yield from file.iter_batches(rows, [number], None if columns is None else list(columns))


def read_rows(path: Path | str, columns: tuple[str, ...] | None = None) -> Iterator[dict]:
    """Yield the rows of a file that `row_writer` made, batch by batch; UserError when it has changed since."""
    for batch in read_batches(path, columns):
        yield from batch.to_pylist()


def rows_at(batch: "pyarrow.RecordBatch", places: np.ndarray) -> "pyarrow.RecordBatch":
    """Return the rows at these places, which are in ascending order."""
    import pyarrow

    if len(places) == len(batch):
        return batch
    # From a list, because pyarrow imports pandas for an array of NumPy.
    return batch.take(pyarrow.array(places.tolist(), pyarrow.int64()))


def batches_of(
    path: Path | str, numbers: np.ndarray, columns: tuple[str, ...] | None = None
) -> Iterator["pyarrow.RecordBatch"]:
    """Yield the rows with these numbers, which are in ascending order, in batches."""
    done = 0
    for batch in read_batches(path, columns):
        first, last = np.searchsorted(numbers, (done, done + len(batch)))
        if first < last:
            yield rows_at(batch, numbers[first:last] - done)
        done += len(batch)


def rows_of(path: Path | str, numbers: np.ndarray, columns: tuple[str, ...] | None = None) -> Iterator[dict]:
    """Yield the rows with these numbers, which are in ascending order."""
    for batch in batches_of(path, numbers, columns):
        yield from batch.to_pylist()


def with_columns(batch: "pyarrow.RecordBatch", **columns: list[str]) -> "pyarrow.RecordBatch":
    """Return a batch with further columns of text, or with others in the place of its own."""
    import pyarrow

    arrays = dict(zip(batch.schema.names, batch.columns, strict=True))
    arrays |= {name: pyarrow.array(values, pyarrow.string()) for name, values in columns.items()}
    return pyarrow.RecordBatch.from_pydict(arrays)


def read_row_group(path: Path | str, number: int, columns: tuple[str, ...]) -> "pyarrow.Table":
    """Return some columns of one row group of a file that `row_writer` made."""
    from pyarrow import parquet

    with parquet.ParquetFile(path, pre_buffer=False) as file:
        return file.read_row_group(number, list(columns))


def row_group_count(path: Path | str) -> int:
    """Return how many row groups a Parquet file has."""
    from pyarrow import parquet

    with parquet.ParquetFile(intact(path)) as file:
        return file.num_row_groups


def row_count(path: Path | str) -> int:
    """Return how many rows a Parquet file has."""
    from pyarrow import parquet

    with parquet.ParquetFile(intact(path)) as file:
        return file.metadata.num_rows
