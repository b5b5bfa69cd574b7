"""A small dataset of texts with spans, for tests of token classification."""

import json
import random
from pathlib import Path

from scripts.common.records import Record, content_id
from scripts.config.runs import Run
from scripts.dataset.entities import entities_json
from tests.support.training import precision_of_tests

NAMES = ["Zoé Müller", "Jean Petit", "Anne-Marie Dupré", "Bob Ross", "Éloïse 🦊 Roy", "Ngọc Lan"]
CITIES = ["Lens", "Brest", "Metz", "Saint-Étienne", "Nantes"]
TEMPLATES = [
    "But de {PERSON} à {CITY} !",
    "{PERSON} ({PERSON}) écrit à {EMAIL}.",
    "Le gardien de {CITY},\n{PERSON}, était battu : {EMAIL}",
    "Carton jaune à la {MINUTE}e minute.",
]


def filled(template: str, random_number: random.Random) -> tuple[str, list[list]]:
    """Return a template's text with its gaps filled, and the spans of the gaps."""
    text, spans = "", []
    for part in template.replace("}", "{").split("{"):
        values = {
            "PERSON": random_number.choice(NAMES),
            "CITY": random_number.choice(CITIES),
            "EMAIL": f"x{random_number.randrange(999)}@mail{random_number.randrange(9)}.fr",
        }
        if part == "MINUTE":
            part = str(random_number.randrange(10**6))
        if part in values:
            spans.append([len(text), len(text) + len(values[part]), part])
        text += values.get(part, part)
    return text, spans


def span_record(number: int) -> Record:
    """Return a record that its number decides."""
    random_number = random.Random(number)
    text, spans = filled(TEMPLATES[number % len(TEMPLATES)], random_number)
    answer = entities_json(text, spans)
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
    return Record(content_id(messages, spans), messages, answer, spans, label="fr", origin=f"raw.jsonl:{number + 1}")


def make_span_dataset(folder: Path, train: int = 24, validation: int = 6, test: int = 6) -> Path:
    """Write the splits of a dataset of texts with spans; return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    for split, count in (("train", train), ("validation", validation), ("test", test)):
        rows = [span_record(number + i).to_row() for i in range(count)]
        number += count
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def head_settings(method: str = "head", **sections) -> dict:
    """Return a run's settings, JSON-ready, with quick defaults; sections are merged over them."""
    training = {"epochs": 2, "learning_rate": 1e-2, "micro_batch": 2, "accumulation": 2, "logging_steps": 1}
    training |= {"gradient_checkpointing": False, "precision": precision_of_tests()} | sections.pop("training", {})
    tokens = {"max_length": 48, "window_overlap": 16} | sections.pop("tokens", {})
    run = Run.model_validate(
        {
            "dataset": "d",
            "model": "m",
            "task": "token_classification",
            "method": method,
            "tokens": tokens,
            "training": training,
            **sections,
        }
    )
    return run.model_dump(mode="json")


def answer_settings(
    max_length: int, window_overlap: int, batch_size: int = 4, precision: str = "fp32", load_in_4bit: str = "auto"
) -> dict:
    """Return the settings that a `SpanModel` needs."""
    return {
        "tokens": {"max_length": max_length, "window_overlap": window_overlap},
        "training": {"precision": precision},
        "generation": {"batch_size": batch_size, "load_in_4bit": load_in_4bit},
    }
