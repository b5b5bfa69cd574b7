"""Prompts with the answers of every variant, for the report."""

from itertools import zip_longest
from pathlib import Path

from scripts.common.html import thumbnail
from scripts.common.records import images_of, text_of
from scripts.score.columns import MAIN
from scripts.score.entity_pages import marked, notes_of
from scripts.score.entity_rows import entity_row
from scripts.score.metrics import METRICS
from scripts.score.shown import shown

PROMPTS = 12
LONGEST = 320  # pixels of an image's longer side


def question(messages: list[dict]) -> tuple[str, str]:
    """Return (system message, other text) of a prompt; turns before the last one are prefixed with their role."""
    texts = [(message["role"], text_of(message["content"])) for message in messages]
    turns = [(role, text) for role, text in texts if role != "system"]
    asked = turns[0][1] if len(turns) == 1 else "\n".join(f"{role}: {text}" for role, text in turns)
    return "\n".join(text for role, text in texts if role == "system"), asked


def pictures_of(messages: list[dict], folder: Path | None) -> list[dict]:
    """Return {"name", "source"} of the images of a question: each reduced, as a data URI, or None if it is missing."""
    paths = {name: folder / name for name in images_of(messages)} if folder else dict.fromkeys(images_of(messages))
    return [
        {"name": name, "source": thumbnail(path, LONGEST) if path and path.is_file() else None}
        for name, path in paths.items()
    ]


def in_turn(rows: list[dict], limit: int) -> list[int]:
    """Return positions of rows, alternating between labels, up to the limit."""
    by_label: dict[str | None, list[int]] = {}
    for index, row in enumerate(rows):
        by_label.setdefault(row["label"], []).append(index)
    turns = zip_longest(*by_label.values())
    return [index for turn in turns for index in turn if index is not None][:limit]


def grouped(answers: list[tuple[str, dict, str]]) -> list[dict]:
    """Group (variant, row, note) triples by answer text, in the order of the variants."""
    by_text: dict[str, list[tuple[str, dict, str]]] = {}
    for answer in answers:
        by_text.setdefault(answer[1]["answer"], []).append(answer)
    entries = []
    for text, equal in by_text.items():
        _, row, note = equal[0]
        found = entity_row(row)
        cut = [variant for variant, row, _ in equal if row["stop"] != "end"]
        limit = "cut at the limit" + ("" if len(cut) == len(equal) else f": {', '.join(cut)}")
        notes = [note, *([limit] if cut else []), *(notes_of(found) if found else [])]
        entries.append(
            {
                "variants": [variant for variant, _, _ in equal],
                "text": text,
                "pieces": found and found.valid and marked(found.text, found.found),
                "note": ", ".join(filter(None, notes)),
            }
        )
    return entries


def samples(answers: dict, scores: dict[str, dict], images: Path | None) -> list[dict]:
    """Return some prompts with every variant's answer for each prompt set.

    `answers` maps variant to prompt set to rows, in the same order in every variant; `images` is the images' folder.
    """
    first = next(iter(answers.values()))
    return [
        {
            "name": name,
            "total": len(rows),
            "labels": len({row["label"] for row in rows}) > 1,
            "prompts": [sample(answers, scores, name, index, rows[index], images) for index in in_turn(rows, PROMPTS)],
        }
        for name, rows in first.items()
        if rows
    ]


def sample(answers: dict, scores: dict[str, dict], name: str, index: int, asked: dict, images: Path | None) -> dict:
    """Return one prompt with every variant's answer to it."""
    system, text = question(asked["messages"])
    given = []
    for variant, sets in answers.items():
        rows = sets.get(name, [])
        if index < len(rows) and rows[index]["id"] == asked["id"]:
            part = scores[variant] if name == "test" else scores[variant]["prompt_sets"].get(name, {})
            given.append((variant, rows[index], noted(part, scores[variant]["answer_kind"], index)))
    entities = entity_row(asked)
    return {
        "system": system,
        "asked": text,
        "pieces": entities and marked(entities.text, entities.gold),
        "reworded": entities and text != entities.text,
        "images": pictures_of(asked["messages"], images),
        "label": asked["label"],
        "expected": asked["expected"],
        "answers": grouped(given),
    }


def noted(scores: dict, kind: str, index: int) -> str:
    """Return name and value of the main metric of one answer; empty without a value."""
    value = dict(enumerate(scores.get("per_record", {}).get(MAIN[kind]) or [])).get(index)
    return "" if value is None else f"{METRICS[MAIN[kind]].title} {shown(MAIN[kind], value)}"
