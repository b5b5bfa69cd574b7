"""Compute a dataset's ledger from the columns of its records."""

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import accumulate, count, islice, pairwise
from pathlib import Path

import numpy as np

from scripts.common.files import read_jsonl
from scripts.common.records import SPLITS, text_of
from scripts.dataset.canonical import value_of
from scripts.dataset.compared import code_points
from scripts.dataset.raw_rows import excerpt, most_frequent

EXAMPLES = 200  # listed duplicates and quarantined records; their files have all of them
BINS = 24  # at most, in a histogram
IS_SPACE = np.array([chr(code).isspace() for code in range(0x3002)])  # no code point above is
HIDDEN = "(raw data: not shown, because this dataset is redacted)"


def word_counts(texts: list[str]) -> list[int]:
    """Return `len(text.split())` of each text, in a quarter of the time."""
    if not texts:
        return []
    ended = [f"{text} " for text in texts]
    is_space = IS_SPACE.take(code_points(ended), mode="clip")
    ends = np.append(False, is_space[1:] & ~is_space[:-1])  # of words: a space after another character
    starts = list(accumulate(map(len, ended[:-1]), initial=0))
    return np.add.reduceat(ends, starts, dtype=np.int64).tolist()


class Lengths:
    """The lengths of texts, with exact quantiles; 4 bytes each."""

    def __init__(self):
        self.values = array("I")

    def add(self, length: int) -> None:
        self.values.append(length)

    def extend(self, lengths: Iterable[int]) -> None:
        self.values.extend(lengths)

    def quantile(self, share: float) -> int:
        """Return the smallest length such that at least this share of the texts is no longer."""
        return int(np.quantile(self.values, share, method="inverted_cdf")) if self.values else 0

    def as_json(self) -> dict:
        if not self.values:
            return {"texts": 0}
        return {
            "texts": len(self.values),
            "mean": round(sum(self.values) / len(self.values), 2),
            "minimum": min(self.values),
            "p5": self.quantile(0.05),
            "median": self.quantile(0.5),
            "p95": self.quantile(0.95),
            "maximum": max(self.values),
            "histogram": self.histogram(),
        }

    def histogram(self) -> list[dict]:
        """Return bins (`from` included, `to` not) of a round width; the last one holds all above 99.5 %."""
        low, high = min(self.values), self.quantile(0.995)
        widths = (factor * 10**power for power in count() for factor in (1, 2, 5))
        width = next(width for width in widths if width * BINS >= high - low + 1)
        edges = list(range(low // width * width, high + width + 1, width))
        edges[-1] = max(edges[-1], max(self.values) + 1)
        counts, _ = np.histogram(self.values, edges)
        return [{"from": a, "to": b, "records": n} for (a, b), n in zip(pairwise(edges), counts.tolist(), strict=True)]


class Statistics:
    """Labels, turns and lengths of the records that were kept."""

    def __init__(self):
        self.lengths = {what: Lengths() for what in ("answer characters", "answer words", "prompt characters")}
        self.medians = {split: Lengths() for split in SPLITS}
        self.labels: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.turns: Counter[int] = Counter()
        self.with_system = 0

    def add(self, columns: dict[str, list]) -> None:
        """Add records, given as the columns of their file (of `canonical`)."""
        answers, splits = columns["expected"], columns["split"]
        self.lengths["answer words"].extend(word_counts(answers))
        for answer, split in zip(answers, splits, strict=True):
            self.lengths["answer characters"].add(len(answer))
            self.medians[split].add(len(answer))
        for text in columns["messages"]:
            messages = value_of(text)
            self.lengths["prompt characters"].add(sum([len(text_of(m["content"])) for m in messages[:-1]]))
            self.turns[[message["role"] for message in messages].count("assistant")] += 1
            self.with_system += messages[0]["role"] == "system"
        for (label, split), number in Counter(zip(columns["label"], splits, strict=True)).items():
            if label is not None:
                self.labels[label][split] += number

    def merge(self, other: "Statistics") -> None:
        """Add the statistics of further records."""
        for mine, its in ((self.lengths, other.lengths), (self.medians, other.medians)):
            for what, lengths in its.items():
                mine[what].extend(lengths.values)
        self.turns.update(other.turns)
        self.with_system += other.with_system
        for label, counts in other.labels.items():
            self.labels[label].update(counts)

    def as_json(self) -> dict:
        totals = most_frequent({label: counts.total() for label, counts in self.labels.items()})
        return {
            "labels": [
                {"label": label, "records": total, **{split: self.labels[label][split] for split in SPLITS}}
                for label, total in totals
            ],
            "lengths": {what: lengths.as_json() for what, lengths in self.lengths.items()},
            "median_answer_characters": {split: lengths.quantile(0.5) for split, lengths in self.medians.items()},
            "turns": [{"turns": turns, "records": self.turns[turns]} for turns in sorted(self.turns)],
            "with_system_message": self.with_system,
        }


def duplicate_example(row: dict) -> dict:
    """Return a removed duplicate with the record that it repeats; contradicting labels are included."""
    first = row["duplicate_of"]
    return {key: row[key] for key in ("origin", "kind", "similarity", "spans_differ")} | {
        "text": excerpt(row["expected"]),
        "duplicate_of": first["origin"],
        "duplicate_of_id": first["id"],
        "labels": None if row["label"] == first["label"] else [row["label"], first["label"]],
    }


def corrections_of(corrections: list[dict], corrected: list[dict], splits: list[str]) -> dict | None:
    """Return corrections with origins and splits of their records, and how many are of the test split; None: none.

    `splits` are those of the corrected records.
    """
    of_test = {entry["record"] for entry, split in zip(corrected, splits, strict=True) if split == "test"}
    for row in corrections:
        places = row.pop("applied_to")
        row["origins"] = [corrected[place]["origin"] for place in places]
        row["splits"] = sorted({splits[place] for place in places})
    return {"rows": corrections, "test_records": len(of_test)} if corrections else None


def make_ledger(
    name: str, statistics: Statistics, counts: dict, facts: dict, duplicates: Path, quarantine: Path
) -> dict:
    """Return the ledger: `counts` of the ingestion, `facts` of the split, and statistics of the kept records."""
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
        **{key: counts[key] for key in ("sources", "max_records", "reasons", "checks", "raw_labels")},
        "raw_spans": counts["spans"],
        **{key: counts[key] for key in ("label_map", "span_label_map")},
        **statistics.as_json(),
        "corrections": corrections_of(counts["corrections"], counts["corrected"], facts["corrected"]),
        "splits": {key: facts[key] for key in ("seed", "share_tolerance", "shares", "stratification")},
        "duplicates": [duplicate_example(row) for row in islice(read_jsonl(duplicates), EXAMPLES)],
        "quarantine": [
            {"origin": row["origin"], "reason": row["reason"], "text": excerpt(row["record"])}
            for row in islice(read_jsonl(quarantine), EXAMPLES)
        ],
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
