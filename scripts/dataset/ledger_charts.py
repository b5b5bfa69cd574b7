"""Geometry of the ledger's charts: the page draws what stands here, and computes nothing."""

from scripts.common.records import SPLITS

WIDTH, HEIGHT = 640, 170  # of a histogram's plot, without its axis
LABELS = 6  # on a histogram's axis


def histogram_chart(lengths: dict, unit: str = "records") -> dict:
    """Return bars (x, y, width, height, title), axis labels and markers of a histogram in SVG units."""
    bins = lengths["histogram"]
    most = max(entry["records"] for entry in bins)
    step = WIDTH / len(bins)
    last = len(bins) - 1
    bars = [
        {
            "x": round(number * step + 1, 2),
            "y": round(HEIGHT * (1 - entry["records"] / most), 2),
            "width": round(step - 2, 2),
            "height": round(HEIGHT * entry["records"] / most, 2),
            "title": f"{bin_title(entry)}: {entry['records']} {unit}",
        }
        for number, entry in enumerate(bins)
    ]
    every = max(1, -(-len(bins) // LABELS))
    ticks = [{"x": round(n * step, 2), "text": str(bins[n]["from"])} for n in range(0, last + 1, every)]
    return {"bars": bars, "ticks": ticks, "most": most, "unit": unit, "median_x": marker(bins, lengths["median"], step)}


def bin_title(entry: dict) -> str:
    """Say which lengths a bin holds."""
    low, high = entry["from"], entry["to"] - 1
    return str(low) if low == high else f"{low}-{high}"


def marker(bins: list[dict], value: float, step: float) -> float:
    """Return where on the axis a value stands."""
    for number, entry in enumerate(bins):
        if entry["from"] <= value < entry["to"]:
            inside = (value - entry["from"] + 0.5) / (entry["to"] - entry["from"])
            return round((number + inside) * step, 2)
    return 0.0


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
