"""Tokenize the splits' texts to exactly the token ids and BIO labels that the classifier's trainer gets.

python scripts/train/tokenize_spans.py results/datasets/pii --base results/models/embedded/manifest.json \
    --folder results/runs/pii/tokens --settings '{"tokens": {"max_length": 512, "window_overlap": 64}}'

A row is a window of a text with special tokens: id and window, the index of its first token within the text (`start`),
the character offsets of its tokens in the text (`starts`, `ends`), `input_ids` and `labels`. Labels are indexes into
labels.json, which lists the gold labels of all splits; special tokens and tokens of the previous window have -100,
which is not trained on.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow

from scripts.common.base_model import leave_torch_out, load_tokenizer
from scripts.common.chat import IGNORED
from scripts.common.cli import log, step_main
from scripts.common.errors import UserError
from scripts.common.files import check_manifest, read_json, read_jsonl, write_json
from scripts.common.html import write_page
from scripts.common.records import SPLITS, Record, text_of
from scripts.train.row_files import NUMBERS, write_arrow
from scripts.train.row_ledger import NAMED, PREVIEWS, identity, length_summary, named
from scripts.train.span_alignment import (
    TokenizedText,
    altered_spans,
    bio_labels,
    encode_text,
    labels_of_spans,
    special_frame,
    windows,
)
from scripts.train.tokenize_conversations import records_of, tokenize_parser

RESULT_VERSION = 1  # raise it with a change of the results: see scripts/workflow/code_digest.py
COLUMNS = {
    "id": pyarrow.string(),
    **dict.fromkeys(("window", "start"), pyarrow.int32()),
    **dict.fromkeys(("starts", "ends", "input_ids", "labels"), NUMBERS),
}
CHANGES = ("widened", "trimmed", "moved", "lost")


@dataclass
class SpanLedger:
    """Counts what the alignment of spans with tokens did to one split."""

    rows: int = 0
    spans: int = 0
    lengths: list[int] = field(default_factory=list)  # of windows, in tokens, special ones included
    windowed: list[tuple[str, str]] = field(default_factory=list)  # `identity` of texts with several windows
    labels: Counter = field(default_factory=Counter)  # tokens by BIO label, each counted once
    entities: Counter = field(default_factory=Counter)  # spans by label
    altered: Counter = field(default_factory=Counter)  # spans by kind of change
    examples: list[dict] = field(default_factory=list)
    previews: list[dict] = field(default_factory=list)

    def summary(self) -> dict:
        """Return counts, a histogram of the windows' lengths, and examples of altered spans, ready for JSON."""
        return {
            "rows": self.rows,
            "windows": len(self.lengths),
            "windowed": named(self.windowed),
            "tokens": sum(self.lengths),
            "labelled_tokens": self.labels.total(),
            "spans": self.spans,
            "altered": {kind: self.altered[kind] for kind in CHANGES},
            "examples": self.examples,
            **length_summary(self.lengths),
            "entities": dict(sorted(self.entities.items())),
            "labels": dict(sorted(self.labels.items())),
        }


def text_and_spans(record: Record) -> tuple[str, list[list]]:
    """Return the text of a record's spans, its last user message, and the spans."""
    asked = [message for message in record.messages if message["role"] == "user"]
    if record.spans is None or not asked:
        raise UserError(f"record {record.id} has no spans", record.origin, remedy="use a dataset of the format 'spans'")
    return text_of(asked[-1]["content"]), record.spans


def window_rows(name: str, text: TokenizedText, labels: list[int], frame: tuple, settings: dict) -> Iterator[dict]:
    """Yield the rows of one text's windows; `settings` is `tokens` of the configuration."""
    before, after = frame
    capacity = settings["max_length"] - len(before) - len(after)
    for number, window in enumerate(windows(len(text.ids), capacity, settings["window_overlap"])):
        inside = slice(window.start, window.end)
        places = [(0, 0)] * len(before) + text.offsets[inside] + [(0, 0)] * len(after)
        yield {
            "id": name,
            "window": number,
            "start": window.start,
            "starts": [start for start, _ in places],
            "ends": [end for _, end in places],
            "input_ids": [*before, *text.ids[inside], *after],
            "labels": [
                *[IGNORED] * (len(before) + window.owned - window.start),
                *labels[window.owned : window.end],
                *[IGNORED] * len(after),
            ],
        }


def tokenize_split(
    tokenizer, records: Iterator[Record], labels: list[str], settings: dict, ledger: SpanLedger
) -> Iterator[dict]:
    """Yield the rows of a split and update the ledger."""
    numbers, frame = {label: number for number, label in enumerate(labels)}, special_frame(tokenizer)
    for record in records:
        text, spans = text_and_spans(record)
        tokens = encode_text(tokenizer, text)
        given = labels_of_spans(tokens.offsets, spans)
        rows = list(window_rows(record.id, tokens, [numbers[label] for label in given], frame, settings))
        count_record(ledger, record, text, tokens, given, [len(row["input_ids"]) for row in rows])
        yield from rows


def count_record(
    ledger: SpanLedger, record: Record, text: str, tokens: TokenizedText, given: list[str], lengths: list[int]
) -> None:
    """Count one record in the ledger; `lengths` are those of its windows."""
    ledger.rows += 1
    ledger.spans += len(record.spans)
    ledger.lengths += lengths
    ledger.labels.update(given)
    ledger.entities.update(name for _, _, name in record.spans)
    if len(lengths) > 1:
        ledger.windowed.append(identity(record))
    for change in altered_spans(tokens.offsets, record.spans):
        ledger.altered[change["kind"]] += 1
        if len(ledger.examples) < NAMED:
            places = {"span": change["span"], "back": change["back"]}
            quoted = {name: text[place[0] : place[1]] if place else None for name, place in places.items()}
            ledger.examples.append({"id": record.id, "place": identity(record)[1], **change, "text": quoted})
    if len(ledger.previews) < PREVIEWS:
        ledger.previews.append(preview(record, text, tokens, given))


def preview(record: Record, text: str, tokens: TokenizedText, given: list[str]) -> dict:
    """Return a text as runs {text, label, first} at token borders, for display.

    Several tokens of one character are one run; text between tokens has no label.
    """
    runs, end = [], 0
    for (first, last), label in zip(tokens.offsets, given, strict=True):
        if last <= end:
            continue
        if first > end:
            runs.append({"text": text[end:first], "label": None, "first": False})
        kind, _, entity = label.partition("-")
        runs.append({"text": text[max(first, end) : last], "label": entity or None, "first": kind == "B"})
        end = last
    return {
        "id": record.id,
        "place": identity(record)[1],
        "runs": [*runs, {"text": text[end:], "label": None, "first": False}],
    }


def tokenize_dataset(dataset: Path, base: Path, folder: Path, settings: dict) -> dict:
    """Tokenize the three splits of a dataset's folder and write rows and labels; return the ledger.

    `settings` is `tokens` of the configuration. Raises UserError for a dataset without spans, and for windows longer
    than the model takes.
    """
    manifest, tokenizer = check_manifest(base, hashes=False), load_tokenizer(base)
    positions = read_json(base.parent / "config.json").get("max_position_embeddings") or settings["max_length"]
    if settings["max_length"] > positions:
        raise UserError(
            f"tokens.max_length is {settings['max_length']}, the model {manifest['name']} takes {positions} tokens",
            remedy=f"set tokens.max_length to {positions} or less",
        )
    names = {
        split: {
            name
            for row in read_jsonl(dataset / f"{split}.jsonl")
            for _, _, name in text_and_spans(Record.from_row(row))[1]
        }
        for split in SPLITS
    }
    if not names["train"]:
        raise UserError("has no span to learn from", dataset / "train.jsonl")
    labels, ledgers = bio_labels(set().union(*names.values())), {}
    for split in SPLITS:
        ledger = ledgers[split] = SpanLedger()
        records = records_of(dataset / f"{split}.jsonl", f"tokenize {split}")
        rows = tokenize_split(tokenizer, records, labels, settings, ledger)
        write_arrow(folder / f"{split}.arrow", rows, COLUMNS)
        log.info("%s: %d texts, %d spans, %s", split, ledger.rows, ledger.spans, dict(ledger.altered) or "none altered")
    write_json(folder / "labels.json", labels)
    warnings = [
        f"{split} has the label {name}, which no record of the training split has"
        for split in SPLITS[1:]
        for name in sorted(names[split] - names["train"])
    ]
    for line in warnings:
        log.warning(line)
    return {
        "model": manifest["name"],
        "settings": settings,
        "labels": labels,
        "warnings": warnings,
        "splits": {split: ledger.summary() for split, ledger in ledgers.items()},
        "previews": ledgers["train"].previews,
    }


def step(arguments) -> None:
    """Run the step."""
    folder = arguments.folder
    if __name__ == "__main__":
        leave_torch_out(arguments.base)
    ledger = tokenize_dataset(arguments.dataset, arguments.base, folder, arguments.settings["tokens"])
    pages = Path(__file__).parent / "pages"
    names = sorted({label[2:] for label in ledger["labels"][1:]})
    hues = {name: number * 360 // len(names) for number, name in enumerate(names)}  # in degrees
    write_page(folder / "ledger.html", "span_tokens.html", pages, ledger=ledger, hues=hues)
    write_json(folder / "ledger.json", ledger)


def parser():
    """Return the step's command line."""
    return tokenize_parser(__doc__.splitlines()[0], "the Arrow files, the labels and the ledger")


main = step_main(step, parser)

if __name__ == "__main__":
    sys.exit(main())
