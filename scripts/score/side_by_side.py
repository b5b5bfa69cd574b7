"""Prompts with the answers of every variant, for the report."""

from pathlib import Path

from scripts.score.entity_pages import marked, notes_of
from scripts.score.entity_rows import entity_row
from scripts.score.metric_list import METRICS
from scripts.score.pictures import pictures_of
from scripts.score.shown import shown

PROMPTS = 12
NOTED = {"entities": "entity_f1", "exact": "character_error_rate", "text": "chrf"}


def question(messages: list[dict]) -> tuple[str, str]:
    """Return (system message, other text) of a prompt; turns before the last one are prefixed with their role."""
    system = "\n".join(content_text(message) for message in messages if message["role"] == "system")
    turns = [message for message in messages if message["role"] != "system"]
    if len(turns) == 1:
        return system, content_text(turns[0])
    return system, "\n".join(f"{message['role']}: {content_text(message)}" for message in turns)


def content_text(message: dict) -> str:
    """Return a message's text; for content in parts, the text parts."""
    content = message["content"]
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", f"[{part.get('type', 'part')}]") for part in content)


def in_turn(rows: list[dict], limit: int) -> list[int]:
    """Return positions of rows, alternating between labels, up to the limit."""
    by_label: dict[str | None, list[int]] = {}
    for index, row in enumerate(rows):
        by_label.setdefault(row["label"], []).append(index)
    queues = list(by_label.values())
    chosen: list[int] = []
    while len(chosen) < limit and any(queues):
        for queue in queues:
            if queue and len(chosen) < limit:
                chosen.append(queue.pop(0))
    return chosen


def grouped(answers: list[tuple[str, dict, str]]) -> list[dict]:
    """Group (variant, row, note) triples by answer text, in the order of the variants.

    If only some of the equal texts were cut, a note names their variants.
    """
    by_text: dict[str, list[tuple[str, dict, str]]] = {}
    for answer in answers:
        by_text.setdefault(answer[1]["answer"], []).append(answer)
    entries = []
    for text, equal in by_text.items():
        _, row, note = equal[0]
        found = entity_row(row)
        notes = [note, *cut_notes(equal), *(notes_of(found) if found else [])]
        entries.append(
            {
                "variants": [variant for variant, _, _ in equal],
                "text": text,
                "pieces": found and found.valid and marked(found.text, found.found),
                "note": ", ".join(filter(None, notes)),
            }
        )
    return entries


def cut_notes(answers: list[tuple[str, dict, str]]) -> list[str]:
    """Return a note if answers were cut at the length limit; it names the variants unless all were cut."""
    cut = [variant for variant, row, _ in answers if row["stop"] != "end"]
    if not cut:
        return []
    return ["cut at the limit" + ("" if len(cut) == len(answers) else f": {', '.join(cut)}")]


def samples(
    answers: dict[str, dict[str, list[dict]]],
    scores: dict[str, dict],
    left_out: tuple[str, ...] = (),
    images: Path | None = None,
) -> list[dict]:
    """Return some prompts with every variant's answer for each prompt set that is not left out.

    `answers` maps variant to prompt set to rows, which are in the same order in every variant. `images` is the folder
    of the questions' images.
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
        if rows and name not in left_out
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
    values = scores.get("per_record", {}).get(NOTED[kind]) or []
    value = values[index] if index < len(values) else None
    return "" if value is None else f"{METRICS[NOTED[kind]].title} {shown(NOTED[kind], value)}"
