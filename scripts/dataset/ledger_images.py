"""Compute the ledger's section on images: numbers, sizes, splits, and some thumbnails."""

import json
from collections import Counter
from pathlib import Path

from scripts.common.html import thumbnail
from scripts.common.records import SPLITS, images_of
from scripts.dataset.images import FOLDER
from scripts.dataset.ledger import Lengths
from scripts.dataset.raw_rows import excerpt

EXAMPLES = 8
LONGEST = 160  # pixels of a thumbnail's longer side


class ImageStatistics:
    """Counts the images of the kept records; `facts` are the entries of the images' manifest by file."""

    def __init__(self, facts: dict[str, dict]):
        self.facts = facts
        self.records = self.count = 0
        self.per_record: Counter[int] = Counter()
        self.splits: dict[str, int] = {}  # of each image, as a bit mask
        self.examples: list[dict] = []

    def add(self, row: dict) -> None:
        names = images_of(json.loads(row["messages"])) if '"image"' in row["messages"] else []
        if not names:
            return
        self.records += 1
        self.count += len(names)
        self.per_record[len(names)] += 1
        if len(self.examples) < EXAMPLES and names[0] not in (example["image"] for example in self.examples):
            facts = self.facts_of(names[0])
            named = {"image": names[0], "name": facts["origins"][0], "width": facts["width"], "height": facts["height"]}
            place = {"split": row["split"], "origin": row["origin"], "expected": excerpt(row["expected"])}
            self.examples.append(named | place)
        for name in names:
            self.splits[name] = self.splits.get(name, 0) | 1 << SPLITS.index(row["split"])

    def facts_of(self, name: str) -> dict:
        return self.facts[name.removeprefix(f"{FOLDER}/")]

    def as_json(self) -> dict | None:
        if not self.records:
            return None
        lengths = {what: Lengths() for what in ("width", "height", "bytes")}
        for name in self.splits:
            for what, each in lengths.items():
                each.add(self.facts_of(name)[what])
        return {
            "records": self.records,
            "images": self.count,
            "distinct": len(self.splits),
            "in_several_splits": sum(bits.bit_count() > 1 for bits in self.splits.values()),
            "bytes": sum(self.facts_of(name)["bytes"] for name in self.splits),
            "per_record": [{"images": n, "records": self.per_record[n]} for n in sorted(self.per_record)],
            "sizes": {what: each.as_json() for what, each in lengths.items()},
            "examples": self.examples,
        }


def thumbnails(section: dict | None, manifest: Path | None) -> list[dict]:
    """Return the section's examples, each with its thumbnail; the images are next to their `manifest`."""
    examples = section["examples"] if section else []
    return [example | {"source": thumbnail(manifest.parent.parent / example["image"], LONGEST)} for example in examples]
