"""Convert raw rows to canonical records; bad records are counted and quarantined, with examples."""

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from scripts.common.cli import log
from scripts.common.errors import UserError
from scripts.common.pool import in_order
from scripts.common.records import images_of
from scripts.dataset.canonical import rows_of_records
from scripts.dataset.corrections import DROPPED, Corrections
from scripts.dataset.images import without_images
from scripts.dataset.make_record import RecordMaker
from scripts.dataset.raw_rows import BadRecordError, RawRow, excerpt, most_frequent
from scripts.dataset.read_json import RawBlock
from scripts.dataset.spans import without_number

if TYPE_CHECKING:
    from pyarrow import RecordBatch

EXAMPLES = 5  # of each reason, in the counts
LOGGED_FAULTS = 10  # bad records that a failing ingestion logs
SHOWN_REASONS = 3  # named if no record is left
MAX_LABELS = 1000


class Made(NamedTuple):
    """What a chunk of raw rows became.

    `records`: the kept ones as rows of `canonical`; `images`: the names of the stored images in them; `sources` and
    `raw_labels`: counts. `marked`: rejected rows with their faults, and kept rows (fault None) with the numbers of the
    checks that they violate, in order. `checked`: to how many records each check applies. `spans`: counts of spans.
    """

    records: "RecordBatch"
    images: set[str]
    sources: Counter[str]
    raw_labels: Counter[str]
    marked: list[tuple[RawRow, BadRecordError | None, list[int]]]
    checked: list[int]
    spans: Counter | None


def make_records(
    settings: dict,
    images: Callable[[list[dict]], list[dict]],
    corrections: Corrections | None,
    chunk: list[tuple[str, RawRow | RawBlock]],
) -> Made:
    """Make records from pairs of source and raw row, or block of them. For `images`, `corrections` see RecordMaker."""
    maker = RecordMaker(settings, images, corrections)
    sources, raw_labels, marked, records, named = Counter(), Counter(), [], [], set()
    rows = ((source, row) for source, part in chunk for row in (part.rows() if isinstance(part, RawBlock) else (part,)))
    for source, row in rows:
        sources[source] += 1
        try:
            if row.fault is not None:
                raise row.fault
            record, violated, raw_label = maker.make(row.record, row.origin, row.has_whole_characters)
        except BadRecordError as fault:
            marked.append((row, fault, []))
            continue
        records.append(record)
        if raw_label is not None:
            raw_labels[raw_label] += 1
        if violated:
            marked.append((row, None, [check.number for check in violated]))
        if images is not without_images:
            named.update(images_of(record.messages))
    checked = [check.records for check in maker.checks]
    return Made(rows_of_records(records), named, sources, raw_labels, marked, checked, maker.span_counts)


class Counts:
    """Counts of the records that were read, kept and quarantined, with reasons and examples."""

    def __init__(self, settings: dict):
        checks = RecordMaker(settings).checks
        self.kept = 0
        self.spans: Counter | None = Counter() if settings["format"] == "spans" else None
        self.sources: Counter[str] = Counter()
        self.raw_labels: Counter[str] = Counter()
        self.reasons: dict[str, dict] = {}
        self.checks = checks
        self.violations = {check.number: {"count": 0, "examples": []} for check in checks}

    def reject(self, row: RawRow, fault: BadRecordError) -> None:
        reason = self.reasons.setdefault(fault.kind, {"reason": fault.kind, "count": 0, "examples": []})
        add_example(reason, row, detail=fault.detail)
        if fault.kind.startswith("check "):
            add_example(self.violations[int(fault.kind.split()[1])], row)

    def add(self, made: Made) -> None:
        """Count the rows of a chunk, all but the rejected ones."""
        self.sources.update(made.sources)
        self.raw_labels.update(made.raw_labels)
        if len(self.raw_labels) > MAX_LABELS:
            raise UserError(f"the label has more than {MAX_LABELS} values", remedy="name another column as 'label'")
        self.kept += len(made.records)
        for check, records in zip(self.checks, made.checked, strict=True):
            check.records += records
        if self.spans is not None:
            self.spans.update(made.spans)

    def as_json(self) -> dict:
        return {
            "read": self.sources.total(),
            "kept": self.kept,
            "quarantined": sum(reason["count"] for reason in self.reasons.values()),
            "sources": [{"source": source, "records": count} for source, count in self.sources.items()],
            "reasons": sorted(self.reasons.values(), key=lambda reason: (-reason["count"], reason["reason"])),
            "checks": [
                {
                    "check": check.number,
                    "label": check.label,
                    "states": check.complaint(check.label),
                    "on_violation": check.action,
                    "records": check.records,
                    **self.violations[check.number],
                }
                for check in self.checks
            ],
            "raw_labels": [{"label": label, "records": count} for label, count in most_frequent(self.raw_labels)],
        }


def add_example(entry: dict, row: RawRow, **facts: str) -> None:
    """Count a record in an entry, and keep it as an example if it is one of the first."""
    entry["count"] += 1
    if len(entry["examples"]) < EXAMPLES:
        entry["examples"].append({"origin": row.origin, **facts, "text": excerpt(row.raw)})


def map_fit(label_map: dict[str, str], found: Counter[str]) -> dict:
    """Compare a map of labels with the labels of the kept records.

    `unused`: keys that no record has. `unmapped`: labels that the map neither names nor maps to, with their counts;
    empty if there is no map.
    """
    meant = {*label_map, *label_map.values()}
    unmapped = {label: count for label, count in found.items() if label_map and label not in meant}
    return {
        "unused": [key for key in label_map if not found[key]],
        "unmapped": [{"label": label, "count": count} for label, count in most_frequent(unmapped)],
    }


def ingest(
    chunks: Iterable[list[tuple[str, RawRow | RawBlock]]],
    settings: dict,
    keep: Callable[[Made], None],
    set_aside: Callable[[dict], None],
    images: Callable[[list[dict]], list[dict]] = without_images,
    first_source: str | None = None,
    corrections: Corrections | None = None,
    processes: int = 1,
) -> dict:
    """Make records from chunks (see `make_records`); return the counts.

    `keep` gets each chunk's records, `set_aside` each bad record. For `images`, `corrections` see RecordMaker: they
    hold what was seen so far, so they need `processes` 1. `first_source` is the file or hub dataset that an error names
    when no record is left. With `on_bad_record: fail`, raises UserError after all rows are processed: one line with the
    first fault and the number of bad records. The log has the first ten, one line each.
    """
    counts = Counts(settings)
    bad, first = 0, ""
    for made in in_order(partial(make_records, settings, images, corrections), chunks, processes):
        counts.add(made)
        for row, fault, violated in made.marked:
            if fault is None:
                for number in violated:
                    add_example(counts.violations[number], row)
                continue
            counts.reject(row, fault)
            wanted = fault.kind == DROPPED or fault.kind.startswith("check ")
            if settings["on_bad_record"] == "fail" and not wanted:
                bad, first = bad + 1, first or f"{row.origin}: {fault}"
                if bad <= LOGGED_FAULTS:
                    log.info("%s: %s", row.origin, fault)
            set_aside({"origin": row.origin, "reason": fault.detail, "record": row.raw})
        keep(made)
    if bad:
        more = (
            f"; {bad} of {counts.sources.total()} records are bad, the log has the first {LOGGED_FAULTS}"
            if bad > 1
            else ""
        )
        advice = (
            "; or leave bad records out with 'on_bad_record: quarantine'" if 2 * bad < counts.sources.total() else ""
        )
        raise UserError(first + more + advice)
    if not counts.kept:
        raise no_record_left(counts.as_json(), first_source)
    result = counts.as_json() | {"label_map": map_fit(settings["label_map"], counts.raw_labels)}
    result |= corrections.as_json() if corrections else {"corrections": [], "corrected": []}
    if counts.spans is None:
        return result | {"spans": None, "span_label_map": None}
    mapped = {key: count for key, count in counts.spans.items() if isinstance(key, tuple)}
    names: Counter[str] = Counter()  # as looked up in the map
    for (raw, _), count in mapped.items():
        names[without_number(raw) if settings["strip_span_label_numbers"] else raw] += count
    spans = [{"raw": raw, "label": label, "spans": count} for (raw, label), count in most_frequent(mapped)]
    others = {key: counts.spans[key] for key in ("outside", "merged_duplicates", "trimmed")}
    return result | {"spans": {"labels": spans, **others}, "span_label_map": map_fit(settings["span_label_map"], names)}


def no_record_left(counts: dict, source: str | None) -> UserError:
    """Return the error for input without a good record; it names the most frequent reasons, each with an example."""
    if not counts["read"]:
        return UserError("no record is left: nothing was read", source, remedy="give a file with records")
    reasons = [
        f"{reason['count']} × {reason['reason']} ({example['origin']}: {example['detail']})"
        for reason in counts["reasons"][:SHOWN_REASONS]
        for example in reason["examples"][:1]
    ]
    remedy = "correct the records, or the settings for reading them ('format', 'columns', 'checks' and others)"
    return UserError(f"no record is left of {counts['read']}: {'; '.join(reasons)}", source, remedy=remedy)
