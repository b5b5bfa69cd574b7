"""Write the dataset's ledger as JSON and HTML: records read, dropped and why, labels, lengths, splits.

python scripts/dataset/write_dataset_ledger.py --name football --records records.parquet --counts ingest.json
    --facts split.json --duplicates duplicates.jsonl --quarantine quarantine.jsonl --json ledger.json --html ledger.html
"""

import argparse
import sys
from pathlib import Path

from scripts.common.charts import histogram_svg, inline
from scripts.common.cli import progress, step_main, step_parser
from scripts.common.files import read_json, write_json
from scripts.common.html import write_page
from scripts.dataset.canonical import read_rows, row_count
from scripts.dataset.ledger import Statistics, make_ledger, without_raw_texts
from scripts.dataset.ledger_images import ImageStatistics, thumbnails
from scripts.dataset.look_first import look_first, share_line
from scripts.dataset.span_statistics import SPAN_LENGTHS, SpanStatistics

PAGES = Path(__file__).parent / "pages"


def step(arguments: argparse.Namespace) -> None:
    """Compute and write the ledger."""
    images = ImageStatistics(read_json(arguments.images)["files"] if arguments.images else {})
    spans, statistics = SpanStatistics(), Statistics()
    rows = read_rows(arguments.records, ("messages", "expected", "label", "split", "origin", "spans"))
    for row in progress(rows, "counting", row_count(arguments.records)):
        for each in (images, spans, statistics):
            each.add(row)
    ledger = make_ledger(
        arguments.name,
        statistics,
        read_json(arguments.counts),
        read_json(arguments.facts),
        arguments.duplicates,
        arguments.quarantine,
    )
    ledger["images"] = images.as_json()
    ledger["spans"] = spans.as_json()
    ledger["lengths"] |= spans.length_statistics()
    ledger["redaction"] = read_json(arguments.redaction) if arguments.redaction else None
    ledger["look_first"] = look_first(ledger)
    if ledger["redaction"]:
        ledger = without_raw_texts(ledger)
    write_json(arguments.json, ledger)
    write_page(
        arguments.html,
        "dataset_ledger.html",
        PAGES,
        title=f"Dataset {arguments.name}",
        ledger=ledger,
        flow=[
            *((share["split"], share["split"], share["records"]) for share in ledger["splits"]["shares"]),
            ("exact duplicates", "duplicate", ledger["records"]["exact_duplicates"]),
            ("near duplicates", "near", ledger["records"]["near_duplicates"]),
            ("quarantined", "quarantine", ledger["records"]["quarantined"]),
        ],
        shares=share_line(ledger["splits"]),
        charts={
            what: inline(histogram_svg(lengths, "spans" if what == SPAN_LENGTHS else "records"), f"Histogram: {what}")
            for what, lengths in ledger["lengths"].items()
        },
        thumbnails=thumbnails(ledger["images"], arguments.images),
    )


def parser() -> argparse.ArgumentParser:
    """Return the step's command line."""
    parser = step_parser(__doc__.splitlines()[0])
    parser.add_argument("--name", required=True, help="the dataset's name")
    parser.add_argument("--records", type=Path, required=True, help="Parquet file of kept records")
    parser.add_argument("--counts", type=Path, required=True, help="JSON file of the ingestion's counts")
    parser.add_argument("--facts", type=Path, required=True, help="JSON file of the split's facts")
    parser.add_argument("--duplicates", type=Path, required=True, help="JSONL file of removed duplicates")
    parser.add_argument("--quarantine", type=Path, required=True, help="JSONL file of bad records")
    parser.add_argument("--json", type=Path, required=True, help="ledger to write as JSON")
    parser.add_argument("--html", type=Path, required=True, help="ledger to write as HTML")
    parser.add_argument("--images", type=Path, help="manifest of the images; not needed if records have none")
    parser.add_argument("--redaction", type=Path, help="JSON file of the redaction's facts, if there was one")
    return parser


main = step_main(step, parser)

if __name__ == "__main__":
    sys.exit(main())
