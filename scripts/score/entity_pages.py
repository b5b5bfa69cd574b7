"""Entities on a run's page: marked texts, the table of classes, the confusion matrix, errors by kind."""

from pathlib import Path

from scripts.common.files import read_jsonl
from scripts.score.entity_errors import KINDS
from scripts.score.entity_rows import EntityRow, Span
from scripts.score.entity_tables import shares
from scripts.score.pictures import whiskers

EXAMPLES = 5
CUT = {"text": "…", "label": None}


def marked(text: str, spans: list[Span]) -> list[dict]:
    """Return a text as pieces {"text", "label"}, label None outside of spans; of overlapping spans the first counts."""
    pieces, place = [], 0
    for start, end, label in sorted(spans):
        if start < place:
            continue
        pieces += [{"text": text[place:start], "label": None}, {"text": text[start:end], "label": label}]
        place = end
    return [piece for piece in [*pieces, {"text": text[place:], "label": None}] if piece["text"]]


def notes_of(row: EntityRow) -> list[str]:
    """Return notes on what can't be marked: entities that are not in the text, and an answer that is not JSON."""
    absent = [f"{label} “{text}” is not in the text" for label, text in row.absent]
    return absent if row.valid else ["not JSON of entities"]


def class_rows(entities: dict) -> list[dict]:
    """Return the rows of the table of classes, most frequent class first; those without test records have no scores."""
    classes = entities["classes"]
    order = sorted(classes, key=lambda label: (-classes[label]["support"], label))
    charts = whiskers([classes[label]["f1"] for label in order])["rows"]
    rows = [{"label": label, **classes[label], "chart": chart} for label, chart in zip(order, charts, strict=True)]
    return rows + [{"label": label, "support": 0, "found": found} for label, found in entities["untested"].items()]


def example(row: dict) -> dict:
    """Return one error for the page: its text with the expected entity, and with the found one."""
    excerpt = row["excerpt"]

    def pieces(entity: dict | None) -> list[dict] | None:
        if entity is None or "start" not in entity:
            return None
        start = entity["start"] - excerpt["start"]
        found = marked(excerpt["text"], [(start, start + len(entity["text"]), entity["label"])])
        cut = excerpt["start"] > 0, excerpt["start"] + len(excerpt["text"]) < excerpt["of"]
        return [CUT] * cut[0] + found + [CUT] * cut[1]

    absent = row["predicted"] if row["predicted"] and "start" not in row["predicted"] else None
    return {
        "label": row["label"],
        "right": pieces(row["gold"]),
        "found": pieces(row["predicted"]),
        "absent": absent and f"{absent['label']} “{absent['text']}”",
        "answer": row.get("answer"),
    }


def error_examples(path: Path) -> list[dict]:
    """Return examples of each kind of error on the test split, from a file of errors: at most one per record."""
    by_kind: dict[str, dict[str, dict]] = {kind: {} for kind in KINDS}
    for row in read_jsonl(path):
        shown_rows = by_kind[row["kind"]]
        if row["prompt_set"] == "test" and len(shown_rows) < EXAMPLES and row["id"] not in shown_rows:
            shown_rows[row["id"]] = example(row)
    return [{"title": KINDS[kind], "rows": list(rows.values())} for kind, rows in by_kind.items() if rows]


def entity_section(scores: dict[str, dict], errors: dict[str, Path], shipped: str) -> dict | None:
    """Return the page's section on entities; None for records without spans."""
    found = {variant: row["entities"] for variant, row in scores.items() if "entities" in row}
    if not found:
        return None
    labels = scores[shipped]["by_label"] if shipped in found else {}
    return {
        "variants": {
            variant: {
                "classes": class_rows(entities),
                "confusion": entities["confusion"],
                "shares": shares(entities["confusion"]["counts"]),
                "examples": error_examples(errors[variant]),
            }
            for variant, entities in found.items()
        },
        "shipped": shipped,
        "kinds": {KINDS[kind]: [entities["errors"][kind] for entities in found.values()] for kind in KINDS},
        "by_label": {label: row["classes"] for label, row in labels.items() if "classes" in row},
    }
