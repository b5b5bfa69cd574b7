"""What a dataset's ledger says of spans: how many of each label and split, how long, and records without any."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator

from scripts.common.records import SPLITS, text_of
from scripts.dataset.ledger import Lengths
from scripts.dataset.span_edges import SpanEdges

SPAN_LENGTHS = "span characters"


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
        self.edges = SpanEdges()

    def counted(self, rows: Iterable[dict]) -> Iterator[dict]:
        """Yield the rows of records.parquet, and count each."""
        for row in rows:
            self.add(row)
            yield row

    def add(self, row: dict) -> None:
        """Count one row of records.parquet; a record without `spans` is none of this."""
        if row["spans"] is None:
            return
        spans, split = json.loads(row["spans"]), row["split"]
        text = text_of(json.loads(row["messages"])[-2]["content"])
        self.total[split] += 1
        self.without[split] += not spans
        self.per_record.add(len(spans))
        for start, end, label in spans:
            self.lengths.add(end - start)
            self.edges.add(text, start, end, label, row["origin"])
            self.spans.setdefault(label, Counter())[split] += 1
            self.texts.setdefault(label, set()).add(text[start:end])
            if row["label"] is not None:
                self.by_label.setdefault(row["label"], Counter())[label] += 1
        for label in {label for _, _, label in spans}:
            self.records.setdefault(label, Counter())[split] += 1

    def as_json(self) -> dict | None:
        """Return the statistics, the commonest span label first; None for a dataset without spans.

        `texts` of a label is how many different texts its spans cover, `labels` how many of its spans are in records
        of each label.
        """
        if not self.total:
            return None
        ordered = sorted(self.spans, key=lambda label: (-self.spans[label].total(), label))
        return {
            "spans": sum(counts.total() for counts in self.spans.values()),
            "records_without": {split: self.without[split] for split in SPLITS},
            "share_without": {
                split: round(self.without[split] / self.total[split], 4) if self.total[split] else None
                for split in SPLITS
            },
            "edges": self.edges.as_json(),
            "labels": [
                {
                    "label": label,
                    "spans": self.spans[label].total(),
                    "records": self.records[label].total(),
                    "texts": len(self.texts[label]),
                    **{split: self.spans[label][split] for split in SPLITS},
                    "records_of": {split: self.records[label][split] for split in SPLITS},
                    "labels": {name: counts[label] for name, counts in sorted(self.by_label.items())},
                }
                for label in ordered
            ],
        }

    def length_statistics(self) -> dict[str, dict]:
        """Return how long spans are and how many a record has, for the ledger's lengths; nothing where no span is."""
        if not self.spans:
            return {}
        return {SPAN_LENGTHS: self.lengths.as_json(), "spans per record": self.per_record.as_json()}
