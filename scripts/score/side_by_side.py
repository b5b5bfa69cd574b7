"""The same prompts answered by every variant, as the report shows them."""

from scripts.score.catalogue import CATALOGUE, shown

PROMPTS = 12
NOTED = "chrf"


def question(messages: list[dict]) -> tuple[str, str]:
    """Return (system message, the rest) of a prompt; turns before the last one carry their role."""
    system = "\n".join(content_text(message) for message in messages if message["role"] == "system")
    turns = [message for message in messages if message["role"] != "system"]
    if len(turns) == 1:
        return system, content_text(turns[0])
    return system, "\n".join(f"{message['role']}: {content_text(message)}" for message in turns)


def content_text(message: dict) -> str:
    """Return a message's text; of content in parts, the text parts."""
    content = message["content"]
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", f"[{part.get('type', 'part')}]") for part in content)


def in_turn(rows: list[dict], limit: int) -> list[int]:
    """Return positions of rows, one of each label in turn and in order, until the limit."""
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


def grouped(answers: list[tuple[str, dict, float | None]]) -> list[dict]:
    """Return (variant, row, score) triples as one entry per different text, in the order of the variants."""
    entries: dict[str, dict] = {}
    for variant, row, score in answers:
        notes = [] if score is None else [f"{CATALOGUE[NOTED].title} {shown(NOTED, score)}"]
        notes += [] if row["stop"] == "end" else ["cut at the limit"]
        entry = entries.setdefault(row["answer"], {"variants": [], "text": row["answer"], "note": ", ".join(notes)})
        entry["variants"].append(variant)
    return list(entries.values())


def samples(answers: dict[str, dict[str, list[dict]]], scores: dict[str, dict]) -> list[dict]:
    """Return, for each prompt set, some prompts with every variant's answer.

    `answers` maps variant to prompt set to rows, which are in the same order in every variant.
    """
    first = next(iter(answers.values()))
    return [
        {
            "name": name,
            "total": len(rows),
            "labels": len({row["label"] for row in rows}) > 1,
            "prompts": [sample(answers, scores, name, index, rows[index]) for index in in_turn(rows, PROMPTS)],
        }
        for name, rows in first.items()
        if rows
    ]


def sample(answers: dict, scores: dict[str, dict], name: str, index: int, asked: dict) -> dict:
    """Return one prompt with every variant's answer to it."""
    system, text = question(asked["messages"])
    given = []
    for variant, sets in answers.items():
        rows = sets.get(name, [])
        if index < len(rows) and rows[index]["id"] == asked["id"]:
            part = scores[variant] if name == "test" else scores[variant]["prompt_sets"].get(name, {})
            values = part.get("per_record", {}).get(NOTED) or []
            given.append((variant, rows[index], values[index] if index < len(values) else None))
    return {
        "system": system,
        "asked": text,
        "label": asked["label"],
        "expected": asked["expected"],
        "answers": grouped(given),
    }
