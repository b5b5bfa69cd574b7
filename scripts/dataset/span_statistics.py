"""Span statistics of a dataset's ledger: counts per label and split, lengths, records without spans, odd edges."""

import json
import unicodedata
from collections import Counter

from scripts.common.records import SPLITS, text_of
from scripts.dataset.ledger import Lengths
from scripts.dataset.raw_rows import most_frequent

SPAN_LENGTHS = "span characters"
SEPARATORS = ".,;:"
EXAMPLES = 5  # spans with wrong edges that are shown
AROUND, SHOWN = 12, 40  # characters shown on each side of a span, and of the span


def is_within_word(text: str, place: int) -> bool:
    """Return whether the characters on both sides of a position are cased letters, or both digits; `5kg` is two words.

    Letters without case don't count: Chinese and Thai have no spaces, and Arabic and Korean join particles to words.
    """
    if not 0 < place < len(text):
        return False
    left, right = (unicodedata.category(character) for character in text[place - 1 : place + 1])
    cased = ("Lu", "Ll", "Lt")
    return (left in cased and right in cased) or left == right == "Nd"


def edge_faults(text: str, start: int, end: int) -> list[str]:
    """Return what looks wrong at the edges of a non-empty span, in words."""
    faults = []
    for place, character, verb in ((start, text[start], "starts"), (end, text[end - 1], "ends")):
        if is_within_word(text, place):
            faults.append(f"{verb} within a word")
        if character in SEPARATORS or character.isspace():
            faults.append(f"{verb} with a separator")
    return faults


class SpanStatistics:
    """Spans of the records that were kept."""

    def __init__(self):
        self.lengths, self.per_record = Lengths(), Lengths()
        self.spans: dict[str, Counter[str]] = {}
        self.records: dict[str, Counter[str]] = {}
        self.texts: dict[str, set[str]] = {}
        self.without: Counter[str] = Counter()
        self.by_label: dict[str, Counter[str]] = {}
        self.total: Counter[str] = Counter()
        self.wrong_edges, self.examples = 0, []

    def add(self, row: dict) -> None:
        """Count one row of records.parquet; a row whose `spans` is null is ignored."""
        if row["spans"] is None:
            return
        spans, split = json.loads(row["spans"]), row["split"]
        text = text_of(json.loads(row["messages"])[-2]["content"])
        self.total[split] += 1
        self.without[split] += not spans
        self.per_record.add(len(spans))
        for start, end, label in spans:
            self.lengths.add(end - start)
            self.check_edges(text, start, end, label, row["origin"])
            self.spans.setdefault(label, Counter())[split] += 1
            self.texts.setdefault(label, set()).add(text[start:end])
            if row["label"] is not None:
                self.by_label.setdefault(row["label"], Counter())[label] += 1
        for label in {label for _, _, label in spans}:
            self.records.setdefault(label, Counter())[split] += 1

    def check_edges(self, text: str, start: int, end: int, label: str, origin: str) -> None:
        """Count one span if an edge looks wrong, and keep the first ones as examples; `origin` is `file:line`."""
        if faults := edge_faults(text, start, end):
            self.wrong_edges += 1
            covered = text[start:end] if end - start <= SHOWN else f"{text[start : start + SHOWN - 1]}…"
            around = {
                "before": text[max(start - AROUND, 0) : start],
                "text": covered,
                "after": text[end : end + AROUND],
            }
            if len(self.examples) < EXAMPLES:
                self.examples.append({"origin": origin, "label": label, "fault": " and ".join(faults), **around})

    def as_json(self) -> dict | None:
        """Return the statistics, most frequent span label first; None for a dataset without spans."""
        if not self.total:
            return None
        ordered = most_frequent({label: counts.total() for label, counts in self.spans.items()})
        return {
            "spans": sum(counts.total() for counts in self.spans.values()),
            "records_without": {split: self.without[split] for split in SPLITS},
            "share_without": {
                split: round(self.without[split] / self.total[split], 4) if self.total[split] else None
                for split in SPLITS
            },
            "edges": {"spans": self.wrong_edges, "examples": self.examples},
            "labels": [
                {
                    "label": label,
                    "spans": total,
                    "records": self.records[label].total(),
                    "texts": len(self.texts[label]),
                    **{split: self.spans[label][split] for split in SPLITS},
                    "records_of": {split: self.records[label][split] for split in SPLITS},
                    "labels": {name: counts[label] for name, counts in sorted(self.by_label.items())},
                }
                for label, total in ordered
            ],
        }

    def length_statistics(self) -> dict[str, dict]:
        """Return the statistics of span lengths and of spans per record; empty if there are no spans."""
        if not self.spans:
            return {}
        return {SPAN_LENGTHS: self.lengths.as_json(), "spans per record": self.per_record.as_json()}
