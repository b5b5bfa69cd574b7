"""Shares of the ledger's bars in percent of their width; the page draws them."""

from scripts.common.records import SPLITS


def flow_segments(ledger: dict) -> list[dict]:
    """Return what became of the records that were read: name, colour class, records and share in percent."""
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
    """Return each label with its count per split, its share and its bar's segments in percent of the commonest."""
    return bar_rows(ledger, ledger["labels"], "records")


def span_rows(ledger: dict) -> list[dict]:
    """Return each span label like `label_rows`, counted in spans; none for a dataset without spans."""
    return bar_rows(ledger, ledger["spans"]["labels"], "spans") if ledger["spans"] else []


def bar_rows(ledger: dict, rows: list[dict], unit: str) -> list[dict]:
    """Return rows with their share of all, a bar's segments and the splits in which they should be but are not."""
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
