"""Corrections of records: a JSON Lines file that is applied while raw records are read; raw files stay as they are.

A line is {"dataset", "record", "action": "drop" or "replace", "text", "reader", "accepted_by", "at", "comment"}.
`record` is the id in the split files, `text` the new last message of the assistant, `reader` who proposed it, `at` when
`accepted_by` accepted it.
"""

import re
from datetime import UTC, datetime
from pathlib import Path

from scripts.common.errors import UserError
from scripts.common.records import Record, normalised
from scripts.dataset.canonical import to_row
from scripts.dataset.raw_rows import BadRecordError, check_unicode
from scripts.dataset.read_json import read_jsonl_rows

DROPPED = "dropped by a correction"  # the reason in the quarantine
NAME = (r".*\S.*", "a name")
FORMS = {
    "dataset": NAME,
    "record": (r"[0-9a-f]{16}(-\d+)?", "16 hex digits"),  # a further copy of a record has a number
    "action": ("drop|replace", "'drop' or 'replace'"),
    "text": (r"[^\0]*", "text without NUL characters"),
    "reader": NAME,
    "accepted_by": NAME,
    "at": (".*", "text"),
    "comment": (".*", "text"),
}  # of each column a pattern, and what that is
REMEDY = "export the corrections again (`make review`), or delete the line"


class Corrections:
    """The corrections of one dataset, and what they were applied to.

    `applied` has an entry for each corrected record: `origin`, `record` (its id), `became` (its new id; None if it
    was left out) and `row`, the original as `canonical.to_row` gives it, which decides the split.
    """

    def __init__(self, path: Path, dataset: str, has_spans: bool):
        self.rows = read_corrections(path, dataset, has_spans)
        self.applied: list[dict] = []
        self.by_record: dict[str, list[dict]] = {}
        for row in sorted(self.rows, key=lambda row: row["time"]):
            self.by_record.setdefault(row["record"], []).append(row)

    def of(self, record: str, after: dict | None) -> dict | None:
        """Return the correction of a record: the last that was accepted, and after the given one if it was corrected.

        A corrected record has a new id, which may be corrected in turn; the order of time makes a correction that
        restores the first text end.
        """
        last = self.by_record.get(record, [None])[-1]
        return None if last and after and last["time"] <= after["time"] else last

    def apply(self, correction: dict, record: Record, entry: dict | None) -> dict:
        """Note that a correction applies to a record; return the entry of `applied`, which an earlier one may have.

        Raises BadRecordError if the correction drops the record.
        """
        if entry is None:
            entry = {"origin": record.origin, "record": record.id, "became": None, "row": to_row(record)}
            self.applied.append(entry)
        correction["applied_to"].append(len(self.applied) - 1)
        correction["was"] = record.answer
        if correction["action"] == "drop":
            who = f"proposed by {correction['reader']}, accepted by {correction['accepted_by']}"
            comment = f": {correction['comment']}" if correction["comment"] else ""
            detail = f"{who} at {correction['at']}{comment}"
            raise BadRecordError(DROPPED, detail, "withdraw the correction to keep the record")
        return entry

    def as_json(self) -> dict:
        """Return all corrections, each with the places in `corrected` of what it was applied to, and `corrected`."""
        replaced = {row["record"] for row in self.rows if row["applied_to"]}
        became = {entry["became"] for entry in self.applied}

        def fate(row: dict) -> str | None:
            if row["applied_to"]:
                return None
            if row["record"] in replaced:
                return "a later correction of the same record was applied"
            if row["record"] in became:
                return "it was accepted before the correction that made its record"
            return "its record changed or was removed"

        corrections = [
            {key: value for key, value in row.items() if key not in ("time", "dataset")} | {"not_applied": fate(row)}
            for row in self.rows
        ]
        return {"corrections": corrections, "corrected": self.applied}


def read_corrections(path: Path, dataset: str, has_spans: bool) -> list[dict]:
    """Return the corrections of a dataset. Raises UserError for a bad line of any, with file, line and remedy."""
    rows = []
    for raw in read_jsonl_rows(path):
        try:
            if raw.fault is not None:
                raise raw.fault
            rows.append(checked(raw.record, has_spans and raw.record.get("dataset") == dataset))
        except BadRecordError as fault:
            raise UserError(f"{raw.origin}: {fault}") from None
    return [row for row in rows if row["dataset"] == dataset]


def checked(row: dict, has_spans: bool) -> dict:
    """Return one correction with `time`, and `was` and `applied_to` that are filled in later. Raises BadRecordError."""

    def fault(detail: str, remedy: str = REMEDY) -> BadRecordError:
        return BadRecordError("bad correction", detail, remedy)

    row = {"comment": "", **row, "text": row.get("text") or ""}
    check_unicode(row)
    for key, (pattern, what) in FORMS.items():
        if not isinstance(row.get(key), str) or not re.fullmatch(pattern, row[key], re.DOTALL):
            raise fault(f"'{key}' is not {what}" if key in row else f"has no '{key}'")
    if row["action"] == "replace" and not normalised(row["text"]):
        raise fault("has no 'text' to put in the place of the answer")
    if has_spans and row["action"] == "replace":
        raise fault("replaces the answer of a record with spans", "drop the record, or correct the raw file")
    try:
        time = datetime.fromisoformat(row["at"])
    except ValueError:
        raise fault("'at' is not a time such as 2026-11-29T21:00:00Z") from None
    found = {key: row[key] for key in FORMS} | {"record": row["record"][:16], "text": normalised(row["text"])}
    return found | {"time": time if time.tzinfo else time.replace(tzinfo=UTC), "was": None, "applied_to": []}
