"""Compute the bar segments of the ledger's page in percent of the width."""

from scripts.common.records import SPLITS


def flow_segments(ledger: dict) -> list[dict]:
    """Return the outcomes of the records read: name, colour class, number of records and share in percent."""
    records = ledger["records"]
    parts = [(share["split"], share["split"], share["records"]) for share in ledger["splits"]["shares"]]
    parts += [
        ("exact duplicates", "duplicate", records["exact_duplicates"]),
        ("near duplicates", "near", records["near_duplicates"]),
        ("quarantined", "quarantine", records["quarantined"]),
    ]
    total = max(records["read"], 1)
    return [
        {"name": name, "colour": colour, "records": count, "percent": round(100 * count / total, 2)}
        for name, colour, count in parts
    ]


def label_rows(ledger: dict) -> list[dict]:
    """Return each label with its count per split, share, and bar segments in percent of the most frequent label."""
    return bar_rows(ledger, ledger["labels"], "records")


def span_rows(ledger: dict) -> list[dict]:
    """Return the same as `label_rows` for span labels, counted in spans; empty for a dataset without spans."""
    return bar_rows(ledger, ledger["spans"]["labels"], "spans") if ledger["spans"] else []


def bar_rows(ledger: dict, rows: list[dict], unit: str) -> list[dict]:
    """Return rows with their share of the total, bar segments, and the splits where they are missing."""
    most = max((row[unit] for row in rows), default=1)
    total = max(sum(row[unit] for row in rows), 1)
    return [
        row
        | {
            "percent": round(100 * row[unit] / total, 1),
            "segments": [{"colour": split, "percent": round(100 * row[split] / most, 2)} for split in SPLITS],
            "missing": [
                share["split"]
                for share in ledger["splits"]["shares"]
                if share["wanted"] > 0 and row[share["split"]] == 0
            ],
        }
        for row in rows
    ]
