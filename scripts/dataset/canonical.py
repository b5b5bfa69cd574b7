"""Canonical records on disk: one Parquet row a record, written and read in batches."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.common.checksums import intact
from scripts.common.files import atomic_path
from scripts.common.records import Record

COLUMNS = ("id", "messages", "expected", "label", "group", "meta", "origin", "spans")
ROWS, CHARACTERS = 4096, 4 * 2**20  # a batch is written when it holds so much


def to_row(record: Record) -> dict:
    """Return a record as a row: messages, meta and spans as JSON text."""
    return {
        "id": record.id,
        "messages": json.dumps(record.messages, ensure_ascii=False),
        "expected": record.expected,
        "label": record.label,
        "group": record.group,
        "meta": json.dumps(record.meta, ensure_ascii=False),
        "origin": record.origin,
        "spans": None if record.spans is None else json.dumps(record.spans, ensure_ascii=False),
    }


def from_row(row: dict) -> Record:
    """Return the record of a row; a `split` beside it is left out."""
    values = {key: row[key] for key in COLUMNS}
    values |= {key: json.loads(row[key]) for key in ("messages", "meta")}
    return Record(**values | {"spans": None if row["spans"] is None else json.loads(row["spans"])})


class RowWriter:
    """Writes rows of text columns to Parquet, holding one batch in memory."""

    def __init__(self, path: Path, columns: tuple[str, ...]):
        import pyarrow
        from pyarrow import parquet

        self.columns = columns
        self.pyarrow = pyarrow
        self.schema = pyarrow.schema([(name, pyarrow.string()) for name in columns])
        self.file = parquet.ParquetWriter(path, self.schema, compression="zstd")
        self.rows, self.size = [], 0

    def write(self, row: dict) -> None:
        """Add a row."""
        self.rows.append(row)
        self.size += len(row["messages"]) + len(row["meta"])
        if len(self.rows) >= ROWS or self.size >= CHARACTERS:
            self.flush()

    def flush(self) -> None:
        """Write the batch."""
        if self.rows:
            self.file.write_table(self.pyarrow.Table.from_pylist(self.rows, schema=self.schema))
        self.rows, self.size = [], 0

    def close(self) -> None:
        """Write what is left and the file's end."""
        self.flush()
        self.file.close()


@contextmanager
def row_writer(path: Path | str, columns: tuple[str, ...] = COLUMNS) -> Iterator[RowWriter]:
    """Write a Parquet file as a whole: rows go to a `RowWriter`."""
    with atomic_path(path) as beside:
        writer = RowWriter(beside, columns)
        try:
            yield writer
        finally:
            writer.close()


def read_rows(path: Path | str, columns: tuple[str, ...] | None = None) -> Iterator[dict]:
    """Yield the rows of a file that `row_writer` made, batch by batch; UserError when it has changed since."""
    from pyarrow import parquet

    with parquet.ParquetFile(intact(path), pre_buffer=False) as file:
        for batch in file.iter_batches(batch_size=ROWS // 4, columns=None if columns is None else list(columns)):
            yield from batch.to_pylist()


def row_count(path: Path | str) -> int:
    """Return how many rows a Parquet file has."""
    from pyarrow import parquet

    with parquet.ParquetFile(intact(path)) as file:
        return file.metadata.num_rows
