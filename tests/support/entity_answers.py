"""Texts with entities, and answers of which some are wrong, as the predict stage writes them."""

import random

from scripts.dataset.entities import entities_json

LABELS = ("CITY", "DATE", "EMAIL", "PERSON")


def text_row(text: str, gold: list[list], found: list[list] | None, **fields) -> dict:
    """Return an answer's row: that of a classifier where `found` are entities, else JSON with the right ones."""
    row = {
        "prompt_set": "test",
        "id": "0" * 16,
        "messages": [{"role": "user", "content": text}],
        "expected": entities_json(text, gold),
        "label": None,
        "spans": gold,
        "answer": entities_json(text, gold),
        "stop": "end",
        "seconds": 0.25,
        "tokens": 12,
        **fields,
    }
    return row if found is None else as_classified(row, found)


def as_classified(row: dict, found: list[list]) -> dict:
    """Return a row as a classifier's, with these entities."""
    return {**row, "entities": found, "answer": entities_json(row["messages"][-1]["content"], found)}


def random_rows(seed: int, records: int) -> list[dict]:
    """Return classified texts of different words, with entities of one to three words, some of them wrong."""
    random.seed(seed)
    rows = []
    for record in range(records):
        words = [f"w{record}x{index}" for index in range(random.randint(12, 24))]
        text = " ".join(words)
        starts = [text.index(word) for word in words]
        gold, found, index = [], [], random.randint(0, 2)
        while index < len(words):
            last = min(index + random.randint(0, 2), len(words) - 1)
            span = [starts[index], starts[last] + len(words[last]), random.choice(LABELS)]
            chance = random.random()
            if chance > 0.12:
                gold.append(span)
            if chance < 0.55:
                found.append([*span, 0.9])  # with a score, as classifiers have it
            elif chance < 0.7:
                found.append([span[0], span[1], random.choice(LABELS)])
            elif chance < 0.85:
                found.append([span[0], starts[index] + len(words[index]), span[2]])
            index = last + random.randint(1, 4)
        rows.append(text_row(text, gold, found, id=f"{record:016x}"))
    return rows


def entity_answers(records: int, wrong: float, written: bool = False, seed: int = 0) -> list[dict]:
    """Return answers of which a share is wrong: those of a classifier, or written as JSON, of which some is broken."""
    random.seed(seed)
    rows = []
    for record in range(records):
        name, city = random.choice(["Anna Berg", "Léo Petit", "Mai Tran"]), random.choice(["Lyon", "Oslo", "Huế"])
        text = f"{name} <{record}@x.org> moved to {city} in 20{record % 90 + 10}."
        gold = [
            [start, start + len(part), label]
            for part, label in (
                (name, "PERSON"), (f"{record}@x.org", "EMAIL"), (city, "CITY"), (f"20{record % 90 + 10}", "DATE")
            )
            for start in [text.rindex(part)]
        ]  # fmt: skip
        found = [list(span) for span in gold]
        if random.random() < wrong:
            found[record % 4] = [*found[record % 4][:2], LABELS[record % 3]]
            del found[(record + 1) % 4]
        row = text_row(text, gold, None, id=f"{record:016x}", label=("en", "fr")[record % 2])
        row = {**as_classified(row, found), "seconds": 0.01 + record / 1000}
        if written:
            del row["entities"]
            row["answer"] = row["answer"] if random.random() > wrong / 2 else "I can't help with that."
        rows.append(row)
    return rows
