"""Convert raw rows to canonical records; bad records are counted and quarantined, with examples."""

import json
from collections import Counter
from collections.abc import Callable, Iterable

from scripts.common.cli import log
from scripts.common.errors import UserError
from scripts.common.records import Record
from scripts.dataset.images import without_images
from scripts.dataset.make_record import Check, RecordMaker
from scripts.dataset.raw_rows import BadRecordError, RawRow, plain

EXAMPLES = 5  # of each reason, in the counts
LOGGED_FAULTS = 10  # bad records that a failing ingestion logs
SHOWN_REASONS = 3  # named if no record is left
PLURALS = {"has ": "have ", "is ": "are ", "does ": "do ", "it has ": "they have "}
MAX_LABELS = 1000
EXCERPT = 160


class Counts:
    """Counts of the records that were read, kept and quarantined, with reasons and examples."""

    def __init__(self, checks: list[Check]):
        self.read = self.kept = 0
        self.sources: Counter[str] = Counter()
        self.raw_labels: Counter[str] = Counter()
        self.reasons: dict[str, dict] = {}
        self.checks = {
            check.number: {
                "check": check.number,
                "label": check.label,
                "states": check.complaint(check.label),
                "on_violation": check.action,
                "records": 0,
                "count": 0,
                "examples": [],
            }
            for check in checks
        }

    def reject(self, row: RawRow, fault: BadRecordError) -> None:
        """Count a bad record."""
        reason = self.reasons.setdefault(fault.kind, {"reason": fault.kind, "count": 0, "examples": []})
        reason["count"] += 1
        if len(reason["examples"]) < EXAMPLES:
            reason["examples"].append({"origin": row.origin, "detail": fault.detail, "text": excerpt(row)})
        if fault.kind.startswith("check "):
            self.violation(int(fault.kind.split()[1]), row)

    def accept(self, row: RawRow, violated: list[Check], raw_label: str | None) -> None:
        """Count a record that is kept."""
        self.kept += 1
        if raw_label is not None:
            self.raw_labels[raw_label] += 1
            if len(self.raw_labels) > MAX_LABELS:
                raise UserError(
                    f"the label has more than {MAX_LABELS} different values", remedy="name another column as 'label'"
                )
        for check in violated:
            self.violation(check.number, row)

    def violation(self, number: int, row: RawRow) -> None:
        """Count a violation of a check."""
        entry = self.checks[number]
        entry["count"] += 1
        if len(entry["examples"]) < EXAMPLES:
            entry["examples"].append({"origin": row.origin, "text": excerpt(row)})

    def as_json(self) -> dict:
        """Return the counts, most frequent first."""
        return {
            "read": self.read,
            "kept": self.kept,
            "quarantined": sum(reason["count"] for reason in self.reasons.values()),
            "sources": [{"source": source, "records": count} for source, count in self.sources.items()],
            "reasons": sorted(self.reasons.values(), key=lambda reason: (-reason["count"], reason["reason"])),
            "checks": list(self.checks.values()),
            "raw_labels": [
                {"label": label, "records": count}
                for label, count in sorted(self.raw_labels.items(), key=lambda item: (-item[1], item[0]))
            ],
        }


def map_fit(label_map: dict[str, str], found: Counter[str]) -> dict:
    """Compare a map of labels with the labels of the kept records.

    `unused`: keys that no record has. `unmapped`: labels that the map neither names nor maps to, with their counts;
    empty if there is no map.
    """
    meant = {*label_map, *label_map.values()}
    unmapped = [(label, count) for label, count in found.items() if label_map and label not in meant]
    return {
        "unused": [key for key in label_map if not found[key]],
        "unmapped": [
            {"label": label, "count": count} for label, count in sorted(unmapped, key=lambda item: (-item[1], item[0]))
        ],
    }


class BadRecords:
    """Bad records that make the ingestion fail; the first ten are logged."""

    def __init__(self):
        self.count, self.files, self.faults = 0, set(), []

    def add(self, origin: str, fault: BadRecordError) -> None:
        """Count a bad record, and keep its fault if it differs from the first."""
        if self.count < LOGGED_FAULTS:
            log.info("%s: %s", origin, fault)
        if len(self.faults) < 2 and str(fault) not in map(str, self.faults):
            self.faults.append(fault)
        if not self.count:
            self.first = origin
        self.count += 1
        self.files.add(origin.rpartition(":")[0])

    def line(self, counts: Counts) -> str:
        """Return one line with the number of bad records, the fault and the remedy.

        It proposes to quarantine bad records only if most records are good.
        """
        fault = self.faults[0]
        read = sum(counts.sources[file] for file in self.files) or counts.read
        advice = "; or leave bad records out with 'on_bad_record: quarantine'" if 2 * self.count < counts.read else ""
        if self.count > 1 and len(self.faults) == 1:
            what = plural(fault.detail)
            space = ": " if what == fault.detail else " "
            place = f"{', '.join(sorted(self.files))}: "
            return f"{place}{self.count} of {read} records{space}{what}; {plural(fault.remedy)}{advice}"
        more = f"; {self.count} of {read} records are bad, the log has the first {LOGGED_FAULTS}"
        return f"{self.first}: {fault}{more if self.count > 1 else ''}{advice}"


def excerpt(row: RawRow) -> str:
    """Return the start of a raw record as text."""
    text = row.text if row.record is None else shown(row.record)
    return text if len(text) <= EXCERPT else text[: EXCERPT - 1] + "…"


def shown(value: object) -> str:
    """Return a value as JSON; halves of surrogate pairs are escaped, because UTF-8 can't encode them."""
    text = json.dumps(value, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def quarantine_row(row: RawRow, fault: BadRecordError) -> dict:
    """Return a row of quarantine.jsonl: origin, reason and the whole record."""
    return {
        "origin": row.origin,
        "reason": fault.detail,
        "record": row.text if row.record is None else plain(row.record),
    }


def ingest(
    rows: Iterable[tuple[str, RawRow]],
    settings: dict,
    keep: Callable[[Record], None],
    set_aside: Callable[[dict], None],
    images: Callable[[list[dict]], list[dict]] = without_images,
    first_source: str | None = None,
) -> dict:
    """Make records from pairs of source and raw row; return the counts. For `images` see RecordMaker.

    `first_source` is the file or hub dataset that an error names when no record is left.

    With `on_bad_record: fail`, raises UserError after all rows are processed: one line with the number of bad records
    and the first fault. The log has the first ten, one line each.
    """
    maker = RecordMaker(settings, images)
    counts = Counts(maker.checks)
    failing = settings["on_bad_record"] == "fail"
    bad = BadRecords()
    for source, row in rows:
        counts.read += 1
        counts.sources[source] += 1
        try:
            if row.fault is not None:
                raise row.fault
            record, violated, raw_label = maker.make(row.record, row.origin)
        except BadRecordError as fault:
            counts.reject(row, fault)
            is_check = fault.kind.startswith("check ")
            if failing and not is_check:
                bad.add(row.origin, fault)
            set_aside(quarantine_row(row, fault))
            continue
        counts.accept(row, violated, raw_label)
        keep(record)
    for check in maker.checks:
        counts.checks[check.number]["records"] = check.records
    result = counts.as_json() | {
        "label_map": map_fit(settings["label_map"], counts.raw_labels),
        "spans": maker.span_counts and maker.span_counts.as_json(),
        "span_label_map": maker.span_counts and map_fit(settings["span_label_map"], maker.span_counts.names),
    }
    if bad.count:
        raise UserError(bad.line(counts))
    if not result["kept"]:
        raise no_record_left(result, first_source)
    return result


def no_record_left(counts: dict, source: str | None) -> UserError:
    """Return the error for input without a good record; `source` is the first file or dataset."""
    if not counts["read"]:
        return UserError("no record is left: nothing was read", source, remedy="give a file with records")
    remedy = "correct the records, or the settings for reading them ('format', 'columns', 'checks' and others)"
    return UserError(f"no record is left of {counts['read']}: {commonest(counts)}", source, remedy=remedy)


def commonest(counts: dict) -> str:
    """Return the most frequent reasons for quarantine, each with its first example."""
    reasons = []
    for reason in counts["reasons"][:SHOWN_REASONS]:
        first = reason["examples"][0]
        reasons.append(f"{reason['count']} × {reason['reason']} ({first['origin']}: {first['detail']})")
    others = len(counts["reasons"]) - len(reasons)
    return "; ".join(reasons) + (f"; and {others} other reasons" if others else "")


def plural(text: str) -> str:
    """Return a statement about one record as a statement about several."""
    return next((many + text[len(one) :] for one, many in PLURALS.items() if text.startswith(one)), text)
