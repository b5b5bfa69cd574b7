"""Write the dataset's ledger as JSON and HTML: records read, dropped and why, labels, lengths, splits.

python scripts/dataset/write_dataset_ledger.py --name football --records records.parquet --counts ingest.json
    --facts split.json --duplicates duplicates.jsonl --quarantine quarantine.jsonl --json ledger.json --html ledger.html
    --settings '{"checks": [], "group_by": null}'
"""

import argparse
import sys
from collections import Counter
from functools import partial
from pathlib import Path

from scripts.common.charts import histogram_svg, inline
from scripts.common.cli import Progress, step_main, step_parser
from scripts.common.files import read_json, read_jsonl, write_json
from scripts.common.html import image_names, write_page
from scripts.common.pool import FEW_TO_COUNT, in_order
from scripts.dataset.canonical import read_row_group, row_count, row_group_count
from scripts.dataset.ledger import Statistics, make_ledger, without_raw_texts
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
from scripts.dataset.span_statistics import SPAN_LENGTHS, SpanStatistics

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
    rows = row_count(arguments.records)
    bar, groups = Progress("counting", rows), range(row_group_count(arguments.records))
    processes = arguments.threads if rows >= FEW_TO_COUNT else 1
    for part, shown in in_order(partial(counted, arguments.records, origins), groups, processes):
        statistics.merge(part)
        for row in shown:
            for each in (images, spans, violations, duplicates, samples):
                each.add(row)
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


def counted(records: Path, origins: set[str], group: int) -> tuple[Statistics, list[dict]]:
    """Return the statistics of a row group, and its rows that the page may need.

    Those are rows with images, spans or one of the origins, and the first of each label in each split.
    """
    statistics, shown, seen = Statistics(), [], Counter()
    columns = read_row_group(records, group, COLUMNS).to_pydict()
    statistics.add(columns)
    for values in zip(*columns.values(), strict=True):
        row = dict(zip(columns, values, strict=True))
        kind = row["label"], row["split"]
        seen[kind] += 1
        is_first = seen[kind] <= FIRST_OF_SPLIT
        if is_first or row["spans"] is not None or row["origin"] in origins or '"image"' in row["messages"]:
            shown.append(row)
    return statistics, shown


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
