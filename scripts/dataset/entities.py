"""Entities as generative models write them: a JSON list in the order of the text, and the way back to positions."""

import json


def entities_json(text: str, spans: list[list]) -> str:
    """Return the entities of a text as JSON: `[{"label": ..., "text": ...}, ...]`, in order of appearance."""
    ordered = sorted(spans, key=lambda span: (span[0], span[1], span[2]))
    entities = [{"label": label, "text": text[start:end]} for start, end, label, *_ in ordered]
    return json.dumps(entities, ensure_ascii=False)


def parse_entities(answer: str, text: str) -> tuple[list[list], int] | None:
    """Return the spans [start, end, label] that an answer names, and how many of its entities are not in the text.

    The answer has to be JSON as `entities_json` writes it and nothing else; None when it is not. Each entity is looked
    for after the one before it, and, when it is not there, at its first place that no other entity has taken: so
    equal texts get different places, and an answer in another order still counts.
    """
    entities = entities_of(answer)
    if entities is None:
        return None
    taken: list[tuple[int, int]] = []
    spans, missing, position = [], 0, 0
    for label, entity in entities:
        start = free_place(text, entity, position, taken)
        if start is None:
            start = free_place(text, entity, 0, taken)
        if start is None:
            missing += 1
            continue
        position = start + len(entity)
        taken.append((start, position))
        spans.append([start, position, label])
    return sorted(spans), missing


def entities_of(answer: str) -> list[tuple[str, str]] | None:
    """Return (label, text) of an answer's entities; None unless it is a JSON list of exactly such objects."""
    try:
        rows = json.loads(answer)
    except (ValueError, RecursionError):  # ValueError: no JSON, or a number of thousands of digits
        return None
    if not isinstance(rows, list):
        return None
    entities = []
    for row in rows:
        if not isinstance(row, dict) or set(row) != {"label", "text"}:
            return None
        if not all(isinstance(value, str) and value for value in row.values()):
            return None
        entities.append((row["label"], row["text"]))
    return entities


def free_place(text: str, entity: str, start: int, taken: list[tuple[int, int]]) -> int | None:
    """Return the first place of an entity in a text, from `start` on, that overlaps none of the taken ones."""
    while (found := text.find(entity, start)) >= 0:
        if all(found + len(entity) <= first or found >= last for first, last in taken):
            return found
        start = found + 1
    return None
