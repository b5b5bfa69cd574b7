"""Replace personal data found by a trained classifier in records by typed placeholders.

python scripts/predict/redact_records.py results/datasets/mails/ingested.parquet \
    --model results/runs/pii/merged/manifest.json --output redacted.parquet --facts redaction.json \
    --settings '{"redact": {"labels": null, "placeholder": "[{label}_{number}]"}, "tokens": {...}, ...}'
"""

import argparse
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from scripts.common.cli import log, progress, step_main, step_parser
from scripts.common.errors import UserError
from scripts.common.files import sha256_of, write_json
from scripts.common.records import Record
from scripts.common.threads import use_threads
from scripts.dataset.canonical import from_row, read_rows, row_count, row_writer, to_row
from scripts.predict.redaction import Redactor, texts_of

RESULT_VERSION = 2  # raise it with a change of the results: see scripts/workflow/code_digest.py
TOGETHER = 512  # records per call of the model, which batches texts of similar length


def parser() -> argparse.ArgumentParser:
    """Return the step's command line."""
    parser = step_parser(__doc__.splitlines()[0])
    parser.add_argument("ingested", type=Path, help="Parquet file of records")
    parser.add_argument("--model", type=Path, required=True, help="manifest.json of the merged classifier")
    parser.add_argument("--output", type=Path, required=True, help="Parquet file of redacted records to write")
    parser.add_argument("--facts", type=Path, required=True, help="JSON file of facts to write")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; the number may affect rounding")
    return parser


def wanted_labels(wanted: list[str] | None, known: list[str]) -> set[str]:
    """Return the labels to redact: the configured ones, or all. Raises UserError for a label that the model lacks."""
    unknown = sorted(set(wanted or ()) - set(known))
    if unknown:
        raise UserError(
            f"the model finds no '{unknown[0]}'", remedy=f"name some of its labels: {', '.join(sorted(known))}"
        )
    return set(known if wanted is None else wanted)


def redacted_records(records: Iterator[Record], model, labels: set[str], redactor: Redactor) -> Iterator[Record]:
    """Yield the redacted records in order. `model` has `entities(texts)` like `SpanModel`."""
    while group := list(islice(records, TOGETHER)):
        texts = list(dict.fromkeys(text for record in group for text in texts_of(record) if text.strip()))
        entities = model.entities(texts) if texts else []
        found = {
            text: [entity for entity in rows if entity[2] in labels] for text, rows in zip(texts, entities, strict=True)
        }
        for record in group:
            yield redactor.redact(record, found)


def facts_of(redactor: Redactor, settings: dict, labels: set[str], model: Path) -> dict:
    """Return the facts; they contain none of the found texts."""
    counts = redactor.counts
    return {
        "model": sha256_of(model),
        "placeholder": settings["redact"]["placeholder"],
        "records": counts["records"],
        "records_changed": counts["changed"],
        "entities": redactor.entities.total(),
        "repeated": counts["repeated"],
        "labels": [
            {"label": label, "entities": redactor.entities[label], "records": redactor.records_of[label]}
            for label in sorted(labels, key=lambda label: (-redactor.entities[label], label))
        ],
        "spans_moved": counts["spans_moved"],
        "spans_dropped": counts["spans_dropped"],
        "records_whose_meta_was_dropped": counts["meta"],
        "images_not_looked_at": counts["images"],
        "examples": redactor.examples,
    }


def step(arguments: argparse.Namespace) -> None:
    """Find, replace, write, and count."""
    settings = arguments.settings
    wanted, redactor = settings["redact"]["labels"], Redactor(settings["redact"]["placeholder"])
    use_threads(arguments.threads)
    from scripts.predict.span_model import SpanModel

    model = SpanModel(arguments.model, settings)
    labels = wanted_labels(wanted, model.labels)
    records = redacted_records((from_row(row) for row in read_rows(arguments.ingested)), model, labels, redactor)
    with row_writer(arguments.output) as output:
        for record in progress(records, "redacting", row_count(arguments.ingested)):
            output.write(to_row(record))
    if redactor.counts["images"]:
        log.warning("%d images were not redacted", redactor.counts["images"])
    write_json(arguments.facts, facts_of(redactor, settings, labels, arguments.model))


main = step_main(step, parser)

if __name__ == "__main__":
    sys.exit(main())
