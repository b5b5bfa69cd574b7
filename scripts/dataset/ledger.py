"""Compute a dataset's ledger from its records, one at a time."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from scripts.common.files import read_jsonl
from scripts.common.records import SPLITS, text_of

EXAMPLES = 200  # listed duplicates and quarantined records; their files have all of them
EXCERPT = 200
BINS = 24  # at most, in a histogram
HIDDEN = "(raw data: not shown, because this dataset is redacted)"


class Lengths:
    """Counts each length, so that quantiles are exact."""

    def __init__(self):
        self.counts: Counter[int] = Counter()

    def add(self, length: int) -> None:
        """Count one text."""
        self.counts[length] += 1

    def quantile(self, share: float) -> int:
        """Return the smallest length such that at least this share of the texts is no longer."""
        due, seen = share * self.counts.total(), 0
        for length in sorted(self.counts):
            seen += self.counts[length]
            if seen >= due:
                return length
        return 0

    def as_json(self) -> dict:
        """Return mean, quantiles and a histogram; its last bin holds everything above the 99.5th percentile."""
        total = self.counts.total()
        if not total:
            return {"texts": 0}
        mean = sum(length * count for length, count in self.counts.items()) / total
        return {
            "texts": total,
            "mean": round(mean, 2),
            "minimum": min(self.counts),
            "p5": self.quantile(0.05),
            "median": self.quantile(0.5),
            "p95": self.quantile(0.95),
            "maximum": max(self.counts),
            "histogram": self.histogram(),
        }

    def histogram(self) -> list[dict]:
        """Return bins of a round width (1, 2 or 5 times a power of ten): `from` (included) and `to` (not)."""
        low, high = min(self.counts), self.quantile(0.995)
        width = round_width((high - low + 1) / BINS)
        start = low // width * width
        bins = (high - start) // width + 1
        counts = [0] * bins
        for length, count in self.counts.items():
            counts[min((length - start) // width, bins - 1)] += count
        edges = [start + number * width for number in range(bins + 1)]
        edges[-1] = max(edges[-1], max(self.counts) + 1)
        return [{"from": edges[n], "to": edges[n + 1], "records": counts[n]} for n in range(bins)]


def round_width(least: float) -> int:
    """Return the smallest of 1, 2, 5, 10, 20, 50, ... that is at least `least`."""
    power = 1
    while True:
        for factor in (1, 2, 5):
            if factor * power >= least:
                return factor * power
        power *= 10


class Statistics:
    """Labels, turns and lengths of the records that were kept."""

    def __init__(self):
        self.lengths = {what: Lengths() for what in ("answer characters", "answer words", "prompt characters")}
        self.medians = {split: Lengths() for split in SPLITS}
        self.labels: dict[str, Counter[str]] = {}
        self.turns: Counter[int] = Counter()
        self.with_system = 0

    def add(self, row: dict) -> None:
        """Count one row of records.parquet."""
        messages = json.loads(row["messages"])
        answer = row["expected"]
        self.lengths["answer characters"].add(len(answer))
        self.lengths["answer words"].add(len(answer.split()))
        self.lengths["prompt characters"].add(sum(len(text_of(m["content"])) for m in messages[:-1]))
        self.medians[row["split"]].add(len(answer))
        self.turns[sum(message["role"] == "assistant" for message in messages)] += 1
        self.with_system += messages[0]["role"] == "system"
        if row["label"] is not None:
            self.labels.setdefault(row["label"], Counter())[row["split"]] += 1

    def as_json(self) -> dict:
        """Return the statistics, most frequent label first."""
        labels = sorted(self.labels.items(), key=lambda item: (-item[1].total(), item[0]))
        return {
            "labels": [
                {"label": label, "records": counts.total(), **{split: counts[split] for split in SPLITS}}
                for label, counts in labels
            ],
            "lengths": {what: lengths.as_json() for what, lengths in self.lengths.items()},
            "median_answer_characters": {split: lengths.quantile(0.5) for split, lengths in self.medians.items()},
            "turns": [{"turns": turns, "records": self.turns[turns]} for turns in sorted(self.turns)],
            "with_system_message": self.with_system,
        }


def short(text: str) -> str:
    """Return the start of a text."""
    return text if len(text) <= EXCERPT else text[: EXCERPT - 1] + "…"


def duplicate_examples(path: Path) -> Iterator[dict]:
    """Yield the first removed duplicates with the records that they repeat; contradicting labels are included."""
    for row in islice(read_jsonl(path), EXAMPLES):
        first = row["duplicate_of"]
        yield {
            "origin": row["origin"],
            "kind": row["kind"],
            "similarity": row["similarity"],
            "text": short(row["expected"]),
            "duplicate_of": first["origin"],
            "duplicate_of_id": first["id"],
            "labels": None if row["label"] == first["label"] else [row["label"], first["label"]],
            "spans_differ": row["spans_differ"],
        }


def quarantine_examples(path: Path) -> Iterator[dict]:
    """Yield the first quarantined rows."""
    for row in islice(read_jsonl(path), EXAMPLES):
        record = row["record"]
        text = record if isinstance(record, str) else json.dumps(record, ensure_ascii=False)
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
        yield {"origin": row["origin"], "reason": row["reason"], "text": short(text)}


def make_ledger(
    name: str, records: Iterable[dict], counts: dict, facts: dict, duplicates: Path, quarantine: Path
) -> dict:
    """Return the ledger: `counts` of the ingestion, `facts` of the split, and statistics of the kept `records`."""
    statistics = Statistics()
    for row in records:
        statistics.add(row)
    return {
        "dataset": name,
        "records": {
            "read": counts["read"],
            "quarantined": counts["quarantined"],
            "exact_duplicates": facts["duplicates"]["exact"],
            "near_duplicates": facts["duplicates"]["near"],
            "kept": facts["kept"],
            "augmented": facts["augmented"],
        },
        "sources": counts["sources"],
        "max_records": counts["max_records"],
        "reasons": counts["reasons"],
        "checks": counts["checks"],
        "raw_labels": counts["raw_labels"],
        "raw_spans": counts["spans"],
        "label_map": counts["label_map"],
        "span_label_map": counts["span_label_map"],
        **statistics.as_json(),
        "splits": {key: facts[key] for key in ("seed", "share_tolerance", "shares", "stratification")},
        "duplicates": list(duplicate_examples(duplicates)),
        "quarantine": list(quarantine_examples(quarantine)),
    }


def without_raw_texts(ledger: dict) -> dict:
    """Return the ledger of a redacted dataset without raw texts: those of bad records and of violated checks.

    Origins and reasons stay; details are removed, because they may quote the record. Images are removed, because their
    content is not redacted.
    """

    def hidden(entry: dict) -> dict:
        examples = [{**dict.fromkeys(example, HIDDEN), "origin": example["origin"]} for example in entry["examples"]]
        return entry | {"examples": examples}

    return ledger | {
        "reasons": [hidden(reason) for reason in ledger["reasons"]],
        "checks": [hidden(check) for check in ledger["checks"]],
        "quarantine": [row | {"reason": HIDDEN, "text": HIDDEN} for row in ledger["quarantine"]],
        "images": ledger["images"] and ledger["images"] | {"examples": []},
    }
