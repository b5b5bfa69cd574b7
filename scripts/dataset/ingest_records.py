"""Convert raw files (or a hub dataset) to canonical records, each traceable to file:line.

python scripts/dataset/ingest_records.py data/football/records.json --settings @settings.json
    --name football --records ingested.parquet --quarantine quarantine.jsonl --counts ingest.json

Images are stored in the folder `images` next to the records.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from scripts.common.cli import Progress, step_main, step_parser
from scripts.common.files import atomic_path, write_json
from scripts.dataset.canonical import row_writer
from scripts.dataset.corrections import Corrections
from scripts.dataset.images import FOLDER, ImageStore, without_images, write_images_manifest
from scripts.dataset.ingest import Made, ingest
from scripts.dataset.raw_files import Report, kind_of
from scripts.dataset.raw_rows import RawRow
from scripts.dataset.read_hub import read_hub_rows
from scripts.dataset.read_json import RawBlock, first_records, read_json_rows, read_jsonl_blocks, read_jsonl_rows
from scripts.dataset.read_tables import read_delimited_rows, read_parquet_rows

CHUNK_ROWS, CHUNK_TEXT = 1024, 2**20  # a chunk of raw rows ends at so many rows, or characters


def read_rows(path: Path | str, report: Report = lambda read: None) -> Iterator[RawRow]:
    """Stream the records of a raw file; its name determines the format. `report` gets the number of bytes read."""
    kind, _ = kind_of(path)
    if kind in ("csv", "tsv"):
        return read_delimited_rows(path, "," if kind == "csv" else "\t", report)
    return {"json": read_json_rows, "jsonl": read_jsonl_rows, "parquet": read_parquet_rows}[kind](path, report)


def sourced_rows(raw: list[Path], settings: dict) -> Iterator[tuple[str, RawRow | RawBlock]]:
    """Yield pairs of source and raw row, or block of them, from the raw files in order, or from the hub dataset."""
    if settings["hub"] is not None:
        for row in islice(read_hub_rows(settings["hub"]), settings["max_records"]):
            yield row.origin.rpartition(":")[0], row
        return
    bar = Progress("reading (KiB)", sum(path.stat().st_size for path in raw if path.is_file()) // 1024)

    def report(read: int) -> None:
        bar.advance(read // 1024)

    most = settings["max_records"]
    for path in raw:
        if kind_of(path)[0] != "jsonl":
            rows = islice(read_rows(path, report), most)
        elif most is None:
            rows = read_jsonl_blocks(path, report)
        else:
            rows = first_records(read_jsonl_blocks(path, report), most)
        yield from ((str(path), row) for row in rows)


def characters_in(value: Any) -> int:
    """Return the characters of text that a raw value holds."""
    if isinstance(value, dict):
        return sum(map(characters_in, value.values()))
    if isinstance(value, list):
        return sum(map(characters_in, value))
    return len(value) if isinstance(value, str) else 0


def chunks_of(rows: Iterable[tuple[str, RawRow | RawBlock]]) -> Iterator[list[tuple[str, RawRow | RawBlock]]]:
    """Yield pairs of source and raw row in chunks, which another process may get: few rows if they are long."""
    chunk, count, size = [], 0, 0
    for source, row in rows:
        chunk.append((source, row))
        in_block = isinstance(row, RawBlock)
        count += row.data.count(b"\n") + 1 if in_block else 1
        size += len(row.data) if in_block else characters_in(row.raw)
        if count >= CHUNK_ROWS or size >= CHUNK_TEXT:
            yield chunk
            chunk, count, size = [], 0, 0
    if chunk:
        yield chunk


def step(arguments: argparse.Namespace) -> None:
    """Ingest, and write records, quarantine and counts, and images with their manifest."""
    settings, output = arguments.settings, arguments.records.parent / FOLDER
    store = ImageStore(settings["images"], output) if settings["images"] else None
    corrections = None
    if arguments.corrections:
        corrections = Corrections(arguments.corrections, arguments.name, settings["format"] == "spans")

    def keep(made: Made) -> None:
        records.write_batch(made.records)
        if store:
            store.used.update(made.images)

    with (
        # The next step reads the file three times: LZ4 is read faster than zstd, and takes half as much disk again.
        row_writer(arguments.records, compression="lz4") as records,
        atomic_path(arguments.quarantine) as quarantine,
        open(quarantine, "w", encoding="utf-8", errors="backslashreplace") as aside,
    ):
        counts = ingest(
            chunks_of(sourced_rows(arguments.raw, settings)),
            settings,
            keep,
            lambda row: aside.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"),
            store.stored if store else without_images,
            str(arguments.raw[0]) if arguments.raw else None,
            corrections,
            1 if store or corrections else arguments.threads,
        )
    write_json(arguments.counts, counts | {"max_records": settings["max_records"]})
    write_images_manifest(output, store.facts() if store else {})


def parser() -> argparse.ArgumentParser:
    """Return the step's command line."""
    parser = step_parser(__doc__.splitlines()[0])
    parser.add_argument("raw", nargs="*", type=Path, help="raw files; none for a hub dataset")
    parser.add_argument("--name", required=True, help="the dataset's name")
    parser.add_argument("--threads", type=int, default=1, help="processes that make records from large raw files")
    parser.add_argument("--corrections", type=Path, help="JSONL file of accepted corrections, if there is one")
    parser.add_argument("--records", type=Path, required=True, help="Parquet file of records to write")
    parser.add_argument("--quarantine", type=Path, required=True, help="JSONL file of bad records to write")
    parser.add_argument("--counts", type=Path, required=True, help="JSON file of counts to write")
    return parser


main = step_main(step, parser)

if __name__ == "__main__":
    sys.exit(main())
