"""Examples on a dataset's ledger: records as label and text, with what a check matched or a fault names marked.

An example is shown as lines {"name", "pieces"}; a piece is {"text", "kind"} with the kind "mark", "gone" (only in the
other text), "plain", or `label:` and the label of an entity.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from difflib import SequenceMatcher
from itertools import islice
from pathlib import Path
from typing import Any

from scripts.common.html import thumbnail
from scripts.common.plain_text import visible
from scripts.common.records import images_of, text_of

SHOWN = 200  # characters of a text
BEFORE = 60  # of them before the first mark, where the mark is further on
COMPARED = 1000  # characters of two texts that are compared word by word
LINES = 12  # of one record
EXAMPLES = 5  # records of one check
FIRST = 200  # quarantined records
GROUPS = 200  # of duplicates
LISTED = 10  # duplicates of one group
SAMPLES = 6
FIRST_OF_SPLIT = 2  # samples of a split without labels
THUMBNAILS = 60  # on the whole page, beside those of the section on images
LONGEST = 96  # pixels of a thumbnail's longer side

EMPTY = "(empty)"
COLUMN = re.compile(r"\(column (\d+)\)$")  # in the fault of a line that is not valid JSON

Place = tuple[int, int, str]  # start, end and kind of a mark


def pieces(text: str, places: Iterable[Place] = ()) -> list[dict]:
    """Return the first 200 characters of a text as pieces, or those around its first mark."""
    places = sorted(place for place in places if place[0] < place[1])
    start = max(0, places[0][0] - BEFORE) if places and places[0][1] > SHOWN else 0
    end = min(start + SHOWN, len(text))
    cut, at = [], start
    for first, last, kind in places:
        if first >= at and first < end:
            cut += [(at, first, "plain"), (first, min(last, end), kind)]
            at = min(last, end)
    cut.append((at, end, "plain"))
    found = [{"text": visible(text[a:b], "\n\t"), "kind": kind} for a, b, kind in cut if a < b]
    before, after = [{"text": "…", "kind": "plain"}] * (start > 0), [{"text": "…", "kind": "plain"}] * (end < len(text))
    return [*before, *found, *after]


def texts_of(row: dict) -> list[tuple[str, str]]:
    """Return the names and texts of a record's last turn; of a record with spans only the text that they are in.

    `row` is one of records.parquet, or a record's mapping.
    """
    messages = messages_of(row)
    question = text_of(messages[-2]["content"])
    return (
        [("text", question)]
        if row["spans"] is not None
        else [("user", question), ("assistant", messages[-1]["content"])]
    )


def messages_of(row: dict) -> list[dict]:
    """Return the messages of a row, in which they are JSON text, or of a record's mapping."""
    return json.loads(row["messages"]) if isinstance(row["messages"], str) else row["messages"]


def lines_of(row: dict) -> list[dict]:
    """Return a record's last turn as lines; of a record with spans, its text with the spans marked."""
    spans = json.loads(row["spans"]) if isinstance(row["spans"], str) else row["spans"]
    places = [(start, end, f"label:{label}") for start, end, label in spans or ()]
    return [{"name": name, "pieces": pieces(text, places)} for name, text in texts_of(row)]


def example_of(row: dict) -> dict:
    """Return a kept record as an example; `images` has the paths of its stored images."""
    return {
        "origin": row["origin"],
        "label": row["label"],
        "lines": lines_of(row),
        "images": list(dict.fromkeys(images_of(messages_of(row)))),
    }


def raw_lines(record: Any, fault: str, patterns: Iterable[re.Pattern] = ()) -> list[dict]:
    """Return a raw record as a line for each column and turn.

    Marked are the columns that the fault names in quotes or with an index, texts that it calls empty, the character
    where JSON ends to be valid, and what the patterns match.
    """
    if not isinstance(record, dict):
        column = COLUMN.search(fault)
        places = [(int(column[1]) - 1, int(column[1]), "mark")] if column else []
        return [{"name": None, "pieces": pieces(as_text(record), places)}]
    lines = []
    for name, value in record.items():
        for entry, text in entries(name, value):
            named = f"'{entry}'" in fault or ("[" in entry and entry in fault)
            matches = [
                (*match.span(), "mark") for pattern in patterns for match in islice(pattern.finditer(text), LINES)
            ]
            if "empty" in fault and text.endswith(EMPTY):
                matches.append((len(text) - len(EMPTY), len(text), "mark"))
            places = [(0, len(text), "mark")] if named and not matches else matches
            lines.append({"name": entry, "pieces": pieces(text, places)})
    more = [{"name": None, "pieces": pieces(f"{len(lines) - LINES} more lines")}] if len(lines) > LINES else []
    return [*lines[:LINES], *more]


def entries(name: str, value: Any) -> list[tuple[str, str]]:
    """Return a column's name and text; of a list of objects or lists, such as turns, one for each."""
    if isinstance(value, list) and value and all(isinstance(entry, dict | list) for entry in value):
        return [(f"{name}[{number}]", as_text(entry)) for number, entry in enumerate(value)]
    return [(name, as_text(value))]


def as_text(value: Any) -> str:
    """Return a JSON value as text without its syntax; an image part is `[image a.png]`, and a turn `user: Hello`."""
    if isinstance(value, str):
        return value if value.strip() else EMPTY
    if isinstance(value, list):
        return " ".join(map(as_text, value))
    if isinstance(value, dict):
        if value.get("type") in ("text", "image", "image_url"):
            text = " ".join(as_text(entry) for key, entry in value.items() if key != "type")
            return text if value["type"] == "text" else f"[image {text}]"
        return ": ".join(map(as_text, value.values()))
    return json.dumps(value)


class Violations:
    """Shows the kept records that violate checks.

    `counted` are the ingestion's entries of checks with the origins of examples, `checks` the settings.
    """

    def __init__(self, counted: list[dict], checks: list[dict]):
        self.checks = checks
        self.found: dict[int, list[dict]] = {entry["check"]: [] for entry in counted}
        self.wanted: dict[str, set[int]] = {}
        for entry in counted:
            for example in entry["examples"]:
                self.wanted.setdefault(example["origin"], set()).add(entry["check"])

    def patterns(self, number: int) -> tuple[re.Pattern | None, re.Pattern | None]:
        """Return what the answers of a check must, and must not, match."""
        check = self.checks[number - 1]
        return tuple(check[key] and re.compile(check[key]) for key in ("must_match", "must_not_match"))

    def add(self, row: dict, fate: str = "") -> None:
        """Keep a record as an example of the checks that it violates; `fate` says what became of it."""
        for number in self.wanted.get(row["origin"], ()):
            check, (must, must_not) = self.checks[number - 1], self.patterns(number)
            answer = messages_of(row)[-1]["content"]
            missing, places = bool(must and not must.search(answer)), []
            if must_not:
                places = [(*match.span(), "mark") for match in islice(must_not.finditer(answer), LINES)]
            # Several records of a JSON file may be on one line, and then have the same origin.
            has_label = check["label"] in (None, row["label"]) or check["on_violation"] == "relabel"
            if len(self.found[number]) < EXAMPLES and has_label and (missing or places):
                example = example_of(row) | {"lines": [{"name": "assistant", "pieces": pieces(answer, places)}]}
                notes = ["nothing in it matches what it must match" if missing else "", fate]
                self.found[number].append(example | {"note": "; ".join(filter(None, notes))})


class Quarantined:
    """Shows quarantined records: the examples of each reason, and the first 200.

    `reasons` are the ingestion's, with the origins of examples; `checks` are the settings.
    """

    def __init__(self, reasons: list[dict], checks: list[dict]):
        self.first: list[dict] = []
        self.reasons = reasons
        self.patterns: dict[tuple[str, str], list[re.Pattern]] = {}
        for reason in reasons:
            number = reason["reason"].removeprefix("check ")
            check = checks[int(number) - 1] if number != reason["reason"] else {"must_not_match": None}
            found = [re.compile(check["must_not_match"])] if check["must_not_match"] else []
            self.patterns |= {(example["origin"], example["detail"]): found for example in reason["examples"]}
        self.found: dict[tuple[str, str], list[dict]] = {}

    def add(self, row: dict) -> None:
        """Take one line of quarantine.jsonl."""
        origin, detail = row["origin"], row["reason"]
        if (origin, detail) not in self.patterns and len(self.first) == FIRST:
            return
        lines = raw_lines(row["record"], detail, self.patterns.get((origin, detail), ()))
        example = {"origin": origin, "detail": detail, "lines": lines}
        if len(self.first) < FIRST:
            self.first.append(example)
        found = self.found.setdefault((origin, detail), []) if (origin, detail) in self.patterns else []
        if len(found) < EXAMPLES:
            found.append(example)

    def examples(self) -> dict[str, list[dict]]:
        """Return the examples of each reason."""
        # Several records of a JSON file may be on one line, and then have the same origin.
        found = {key: iter(examples) for key, examples in self.found.items()}
        return {
            reason["reason"]: [next(found[example["origin"], example["detail"]]) for example in reason["examples"]]
            for reason in self.reasons
        }


class Duplicates:
    """Groups removed duplicates by the record that they repeat; the first 200 groups are shown."""

    def __init__(self):
        self.groups: dict[tuple[str, str], dict] = {}
        self.contradictions = 0

    def remove(self, row: dict) -> None:
        """Count one line of duplicates.jsonl."""
        first = row["duplicate_of"]
        labels = [row["label"], first["label"]] if row["label"] != first["label"] else None
        contradicts = bool(labels or row["spans_differ"])
        self.contradictions += contradicts
        key = (first["origin"], first["id"])
        if key not in self.groups and len(self.groups) == GROUPS:
            return
        group = self.groups.setdefault(
            key, {"count": 0, "kinds": Counter(), "contradicts": False, "least": 1.0, "removed": [], "kept": None}
        )
        group["count"] += 1
        group["kinds"][row["kind"]] += 1
        group["contradicts"] |= contradicts
        group["least"] = min(group["least"], row["similarity"])
        if len(group["removed"]) < LISTED:
            texts = [(name, text[:COMPARED]) for name, text in texts_of(row["record"])]
            lines = lines_of(row["record"]) if row["spans_differ"] else None
            shown = {key: row[key] for key in ("origin", "kind", "similarity", "spans_differ")}
            group["removed"].append(shown | {"labels": labels, "texts": texts, "lines": lines})

    def add(self, row: dict) -> None:
        """Take one row of records.parquet, the record that a group repeats."""
        group = self.groups.get((row["origin"], row["id"].partition("-")[0]))
        if group is not None and group["kept"] is None:
            group["kept"] = example_of(row)
            for removed in group["removed"]:
                texts = zip(texts_of(row), removed.pop("texts"), strict=False)
                removed["lines"] = removed["lines"] or [
                    {"name": name, "pieces": compared(before[:COMPARED], after)} for (name, before), (_, after) in texts
                ]

    def shown(self) -> list[dict]:
        """Return the groups: first those with other labels or spans, then those of the lowest similarity."""
        return sorted(
            self.groups.values(), key=lambda group: (not group["contradicts"], group["least"], -group["count"])
        )


def compared(before: str, after: str) -> list[dict]:
    """Return the second text as pieces, with the words that differ from the first marked."""
    words, others = (re.findall(r"\S+\s*|\s+", text) for text in (before, after))
    text, places = "", []
    for change, a, b, c, d in SequenceMatcher(None, words, others, autojunk=False).get_opcodes():
        for kind, part in (("gone", words[a:b]), ("mark", others[c:d])):
            if change == "equal" and kind == "gone":
                continue
            start, text = len(text), text + "".join(part)
            if change != "equal":
                places.append((start, len(text), kind))
    return pieces(text, places)


def changes(corrections: dict | None) -> list[list[dict]]:
    """Return the new text of each correction as pieces, with what differs from the old one marked."""
    rows = corrections["rows"] if corrections else ()
    return [compared((row["was"] or "")[:COMPARED], row["text"][:COMPARED]) for row in rows]


class Samples:
    """The first record of each label, or without labels the first two records of each split."""

    def __init__(self):
        self.found: dict[Any, dict] = {}

    def add(self, row: dict) -> None:
        """Take one row of records.parquet."""
        key = row["label"]
        if key is None:
            key = (row["split"], (row["split"], 0) in self.found)
        if len(self.found) < SAMPLES and key not in self.found:
            self.found[key] = example_of(row) | {"note": row["split"]}


def add_pictures(examples: Iterable[dict], folder: Path, names: dict[str, str]) -> None:
    """Replace the images of examples by {"name", "source"}: the raw file's name and, of the first 60, a thumbnail.

    Stored images are below `folder`; `names` has their raw files' names. Images without a name are left out.
    """
    left = THUMBNAILS
    for example in examples:
        paths, example["images"] = [path for path in example["images"] if path in names], []
        for path in paths:
            source = thumbnail(folder / path, LONGEST) if left > 0 else None
            example["images"].append({"name": names[path], "source": source})
            left -= 1
