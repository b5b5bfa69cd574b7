"""Write the dataset's ledger as JSON and HTML: records read, dropped and why, labels, lengths, splits.

python scripts/dataset/write_dataset_ledger.py --name football --records records.parquet --counts ingest.json
    --facts split.json --duplicates duplicates.jsonl --quarantine quarantine.jsonl --json ledger.json --html ledger.html
    --settings '{"checks": [], "group_by": null}'
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.common.charts import histogram_svg, inline
from scripts.common.cli import Progress, step_main, step_parser
from scripts.common.files import read_json, read_jsonl, write_json
from scripts.common.html import image_names, write_page
from scripts.dataset.canonical import read_batches, row_count
from scripts.dataset.ledger import Statistics, make_ledger, statistics_of, without_raw_texts
from scripts.dataset.ledger_examples import (
    FIRST_OF_SPLIT,
    Duplicates,
    Quarantined,
    Samples,
    Violations,
    add_pictures,
    changes,
)
from scripts.dataset.ledger_images import ImageStatistics, thumbnails
from scripts.dataset.look_first import look_first, share_line
from scripts.dataset.pool import SERIAL, in_order
from scripts.dataset.span_statistics import SPAN_LENGTHS, SpanStatistics

if TYPE_CHECKING:
    from pyarrow import BooleanArray, RecordBatch

PAGES = Path(__file__).parent / "pages"
COLUMNS = ("id", "messages", "expected", "label", "split", "origin", "spans")


def step(arguments: argparse.Namespace) -> None:
    """Compute and write the ledger."""
    files = read_json(arguments.images)["files"] if arguments.images else {}
    counts, facts, settings = read_json(arguments.counts), read_json(arguments.facts), arguments.settings
    redaction = read_json(arguments.redaction) if arguments.redaction else None
    # Bad records and violations of a redacted dataset were seen before it was redacted.
    violations = Violations([] if redaction else counts["checks"], settings["checks"])
    quarantined = Quarantined([] if redaction else counts["reasons"], settings["checks"])
    duplicates, samples = Duplicates(), Samples()
    for row in read_jsonl(arguments.duplicates):
        duplicates.remove(row)
        violations.add(row["record"], "removed as a duplicate")
    for row in () if redaction else read_jsonl(arguments.quarantine):
        quarantined.add(row)
    images, spans, statistics = ImageStatistics(files), SpanStatistics(), Statistics()

    origins = {*violations.wanted, *(origin for origin, _ in duplicates.groups)}

    def batches() -> Iterator["RecordBatch"]:
        for batch in read_batches(arguments.records, COLUMNS):
            for row in batch.filter(may_be_shown(batch, origins)).to_pylist():
                for each in (images, spans, violations, duplicates, samples):
                    each.add(row)
            yield batch

    rows = row_count(arguments.records)
    bar = Progress("counting", rows)
    for part in in_order(statistics_of, batches(), arguments.threads if rows >= SERIAL else 1):
        statistics.merge(part)
        bar.advance(part.turns.total())
    ledger = make_ledger(arguments.name, statistics, counts, facts, arguments.duplicates, arguments.quarantine)
    group_by, groups = settings["group_by"], {share["split"]: share["groups"] for share in facts["shares"]}
    ledger["groups"] = {"by": group_by, **groups} if group_by else None
    ledger["images"] = images.as_json()
    ledger["spans"] = spans.as_json()
    ledger["lengths"] |= spans.length_statistics()
    ledger["redaction"] = redaction
    ledger["contradictions"] = duplicates.contradictions
    ledger["look_first"] = look_first(ledger)
    if redaction:
        ledger = without_raw_texts(ledger)
    write_json(arguments.json, ledger)
    same = duplicates.shown()
    shown = [group["kept"] for group in same] + [row for rows in violations.found.values() for row in rows]
    folder = arguments.records.parent
    add_pictures(shown, folder, {} if redaction else image_names(folder))
    write_page(
        arguments.html,
        "dataset_ledger.html",
        PAGES,
        title=f"Dataset {arguments.name}",
        ledger=ledger,
        removed=[
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
        samples=[] if ledger["images"] else list(samples.found.values()),
        checks=settings["checks"],
        violations=violations.found,
        reasons=quarantined.examples(),
        quarantined=quarantined.first,
        same=same,
        changes=changes(ledger["corrections"]),
    )


def may_be_shown(batch: "RecordBatch", origins: set[str]) -> "BooleanArray":
    """Return a mask of rows with images, spans or one of these origins, and the first of each label in each split."""
    import pyarrow
    from pyarrow import compute

    first, seen = [], Counter()
    for kind in zip(batch["label"].to_pylist(), batch["split"].to_pylist(), strict=True):
        seen[kind] += 1
        first.append(seen[kind] <= FIRST_OF_SPLIT)
    mask = compute.or_(compute.match_substring(batch["messages"], '"image"'), compute.is_valid(batch["spans"]))
    mask = compute.or_(mask, compute.is_in(batch["origin"], pyarrow.array(origins, pyarrow.string())))
    return compute.or_(mask, pyarrow.array(first))


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
    parser.add_argument("--threads", type=int, default=1, help="processes that count many records")
    parser.add_argument("--redaction", type=Path, help="JSON file of the redaction's facts, if there was one")
    return parser


main = step_main(step, parser)

if __name__ == "__main__":
    sys.exit(main())
