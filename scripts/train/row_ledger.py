"""What tokenization did to the records of a split: counts, lengths, problems, and the limits of a configuration."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from scripts.common.errors import UserError
from scripts.common.records import Record

PREVIEWS = 5
NAMED = 20  # records listed per problem


@dataclass
class SplitLedger:
    """Counts what tokenization did to one split; `problems` has the `identity` of their records."""

    rows: int = 0
    kept: int = 0
    lengths: list[int] = field(default_factory=list)
    trained_tokens: int = 0
    longest: int = 0
    problems: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))
    previews: list[dict] = field(default_factory=list)
    vision: Counter | None = None

    def summary(self) -> dict:
        """Return counts, a histogram of lengths in tokens, and the listed rows, ready for JSON."""
        problems = ("truncated", "untrained", "shifted", "unended", *(["image_cut"] if self.vision is not None else []))
        return {
            "rows": self.rows,
            "kept": self.kept,
            "tokens": sum(self.lengths),
            "trained_tokens": self.trained_tokens,
            **length_summary(self.lengths),
            **{problem: named(self.problems[problem]) for problem in problems},
            **({"vision": dict(self.vision)} if self.vision is not None else {}),
        }

    def add(self, other: "SplitLedger") -> None:
        """Add the ledger of the rows that follow."""
        self.rows += other.rows
        self.kept += other.kept
        self.lengths += other.lengths
        self.trained_tokens += other.trained_tokens
        self.longest = max(self.longest, other.longest)
        self.previews = (self.previews + other.previews)[:PREVIEWS]
        for problem, records in other.problems.items():
            self.problems[problem] += records
        if self.vision is not None:
            most = max(self.vision["most_image_tokens"], other.vision["most_image_tokens"])
            self.vision.update(other.vision)
            self.vision["most_image_tokens"] = most

    def count_images(self, images: int, image_tokens: int, text_tokens: int) -> None:
        """Count the images of a kept row; their tokens include the ends of rows and of images."""
        self.vision.update(images=images, image_tokens=image_tokens, text_tokens=text_tokens)
        self.vision["most_image_tokens"] = max(self.vision["most_image_tokens"], image_tokens)


def named(records: list[tuple[str, str]]) -> dict:
    """Return the number of records, given as id and place, and the ids and places of the first ones."""
    first = records[:NAMED]
    return {"count": len(records), "ids": [name for name, _ in first], "places": [place for _, place in first]}


def identity(record: Record) -> tuple[str, str]:
    """Return a record's id and its place, `file:line` of the raw record; an augmented record has its original's."""
    return record.id, (record.origin or record.id) + (" (augmented)" if record.meta.get("augmented") else "")


def length_summary(lengths: list[int]) -> dict:
    """Return the shortest, median and longest of lengths in tokens, and their histogram."""
    ordered = sorted(lengths) or [0]
    length = {"shortest": ordered[0], "median": ordered[len(ordered) // 2], "longest": ordered[-1]}
    return {"length": length, "histogram": histogram(lengths)}


def histogram(lengths: list[int], bins: int = 20) -> list[dict]:
    """Return up to `bins` bins [start, end) of equal width from the shortest length on, with their counts."""
    if not lengths:
        return []
    first = min(lengths)
    width = max(-(-(max(lengths) + 1 - first) // bins), 1)
    counts = Counter((length - first) // width for length in lengths)
    starts = range(first, max(lengths) + 1, width)
    return [{"start": start, "end": start + width, "rows": counts[i]} for i, start in enumerate(starts)]


def check_limits(ledgers: dict[str, SplitLedger], settings: dict, dataset: Path) -> None:
    """Raise UserError if more rows are truncated, untrained, shifted or without an end than the settings allow."""
    rows = sum(ledger.rows for ledger in ledgers.values())
    longest, limit = max(ledger.longest for ledger in ledgers.values()), settings["max_length"]
    truncated = 0.0 if settings["truncation"] == "fail" else settings["max_truncated"]
    problems = {  # the share that is allowed, what is wrong, the remedy
        "image_cut": (
            truncated,
            f"left out: tokens.max_length {limit} ends before their images do, the longest has {longest} tokens",
            "raise tokens.max_length, or lower vision.longest_edge",
        ),
        "truncated": (
            truncated,
            f"longer than tokens.max_length {limit}, the longest has {longest} tokens",
            "raise tokens.max_length, or set tokens.truncation and tokens.max_truncated",
        ),
        "untrained": (
            settings["max_untrained"],
            "without a token to train on",
            "look at their answers, or raise tokens.max_untrained",
        ),
        "shifted": (
            0.0,
            "shifted: the prompt alone has other tokens than at the start of the whole conversation",
            "end the template's generation prompt without white space",
        ),
        "unended": (
            0.0,
            "without an end: no special token ends their answer, so the model would never learn to stop",
            "use a chat template whose end-of-turn token is one of this tokenizer's",
        ),
    }
    for problem, (share, wrong, remedy) in problems.items():
        places = [place for ledger in ledgers.values() for _, place in ledger.problems[problem]]
        if places and len(places) > share * rows:
            raise UserError(
                f"{len(places)} of {rows} rows are {wrong} (first: {', '.join(places[:3])}), {share:.1%} are allowed",
                dataset,
                remedy=remedy,
            )
