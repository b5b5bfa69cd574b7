"""Read raw records from a file of any known format."""

from collections.abc import Iterator
from pathlib import Path

from scripts.dataset.raw_files import Report, kind_of
from scripts.dataset.raw_rows import RawRow
from scripts.dataset.read_json import read_json_rows, read_jsonl_rows
from scripts.dataset.read_tables import read_delimited_rows, read_parquet_rows


def read_rows(
    path: Path | str, report: Report = lambda read: None, wanted: frozenset[str] = frozenset()
) -> Iterator[RawRow]:
    """Stream the records of a raw file; its name determines the format.

    `report` is called with the number of bytes read; a table's header must name at least one of the columns `wanted`.
    """
    kind, _ = kind_of(path)
    if kind in ("csv", "tsv"):
        return read_delimited_rows(path, "," if kind == "csv" else "\t", report, wanted)
    return {"json": read_json_rows, "jsonl": read_jsonl_rows, "parquet": read_parquet_rows}[kind](path, report)
