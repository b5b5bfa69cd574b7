"""Entities on a run's page: marked texts, the table of classes, the confusion matrix, errors by kind."""

from pathlib import Path

from scripts.common.files import read_jsonl
from scripts.score.board import interval_text
from scripts.score.entity_errors import KINDS
from scripts.score.entity_rows import EntityRow, Span
from scripts.score.entity_tables import shares
from scripts.score.shown import shown
from scripts.score.whiskers import whiskers

EXAMPLES = 5
CUT = {"text": "…", "label": None}
TITLES = {
    "missed": "Missed",
    "false_positive": "False positives",
    "wrong_type": "Wrong type",
    "wrong_boundary": "Wrong boundary",
    "not_in_text": "Not in the text",
    "invalid_json": "Not JSON of entities",
}


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


def class_rows(classes: dict[str, dict]) -> list[dict]:
    """Return the rows of the table of classes, most frequent class first."""
    order = sorted(classes, key=lambda label: (-classes[label]["support"], label))
    chart = whiskers([classes[label]["f1"] for label in order], [])
    return [
        {
            "label": label,
            "support": classes[label]["support"],
            "found": classes[label]["found"],
            "scores": [score_text(classes[label][name]) for name in ("precision", "recall", "f1")],
            "chart": chart["rows"][index],
        }
        for index, label in enumerate(order)
    ]


def untested_rows(untested: dict[str, int]) -> list[dict]:
    """Return the rows of classes without test records, which have no scores."""
    return [{"label": label, "support": 0, "found": found, "scores": None} for label, found in untested.items()]


def classes_by_label(scores: dict) -> dict | None:
    """Return scores of each class among the records of each label, such as a language; None without labels."""
    labels = {label: row["classes"] for label, row in scores["by_label"].items() if "classes" in row}
    if not labels:
        return None
    return {
        "labels": list(labels),
        "rows": [
            {"label": name, "cells": [label_cell(classes.get(name)) for classes in labels.values()]}
            for name in (row["label"] for row in class_rows(scores["entities"]["classes"]))
        ],
    }


def label_cell(scores: dict | None) -> dict:
    """Return the table cell of a class in the records of a label."""
    if scores is None:
        return {"text": "–", "spread": "none in these records", "more": ""}
    precision, recall = (score_text(scores[name])["text"] for name in ("precision", "recall"))
    more = f"precision {precision}, recall {recall}, support {scores['support']}"
    return {**score_text(scores["f1"]), "more": more}


def score_text(score: dict | None) -> dict:
    """Return the display texts of a share and its interval."""
    if score is None:
        return {"text": "–", "spread": "not defined"}
    return {"text": shown("entity_f1", score["value"]), "spread": interval_text("entity_f1", score)}


def confusion_rows(matrix: dict) -> list[dict]:
    """Return the rows of the confusion matrix: the cells of each expected class, with a share for the shading."""
    return [
        {
            "label": label,
            "cells": [
                {"count": count, "percent": round(100 * share), "title": f"{label} taken for {column}: {count}"}
                for count, share, column in zip(counts, row, matrix["columns"], strict=True)
            ],
        }
        for label, counts, row in zip(matrix["labels"], matrix["counts"], shares(matrix["counts"]), strict=True)
    ]


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
    return [{"title": TITLES[kind], "rows": list(rows.values())} for kind, rows in by_kind.items() if rows]


def entity_section(scores: dict[str, dict], errors: dict[str, Path], shipped: str) -> dict | None:
    """Return the page's section on entities; None for records without spans.

    `scores` and `errors` are by variant; each variant has tables, those of `shipped` are unfolded.
    """
    found = {variant: row["entities"] for variant, row in scores.items() if "entities" in row}
    if not found:
        return None
    return {
        "variants": [
            {
                "name": variant,
                "open": variant == shipped,
                "classes": class_rows(entities["classes"]) + untested_rows(entities["untested"]),
                "columns": entities["confusion"]["columns"],
                "confusion": confusion_rows(entities["confusion"]),
                "examples": error_examples(errors[variant]),
                "picture": f"confusion/{variant}.svg",
                "table": f"confusion/{variant}.csv",
            }
            for variant, entities in found.items()
        ],
        "kinds": [
            {"title": TITLES[kind], "counts": [entities["errors"][kind] for entities in found.values()]}
            for kind in KINDS
        ],
        "names": list(found),
        "by_label": classes_by_label(scores[shipped]) if shipped in found else None,
    }
