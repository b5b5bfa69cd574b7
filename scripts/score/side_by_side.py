"""Prompts with the answers of the variants, for the report: three telling ones, and some of each prompt set."""

from itertools import zip_longest
from pathlib import Path

from scripts.common.html import image_names, thumbnail
from scripts.common.records import images_of, text_of
from scripts.score.columns import MAIN
from scripts.score.entity_pages import marked, notes_of
from scripts.score.entity_rows import entity_row
from scripts.score.metrics import METRICS
from scripts.score.shown import shown
from scripts.score.word_diff import word_diff

PROMPTS = 12
LONGEST = 320  # pixels of an image's longer side


def question(messages: list[dict]) -> tuple[str, str]:
    """Return (system message, other text) of a prompt; turns before the last one are prefixed with their role."""
    texts = [(message["role"], text_of(message["content"])) for message in messages]
    turns = [(role, text) for role, text in texts if role != "system"]
    asked = turns[0][1] if len(turns) == 1 else "\n".join(f"{role}: {text}" for role, text in turns)
    return "\n".join(text for role, text in texts if role == "system"), asked


class Pictures:
    """The images of a dataset, in its result folder (None: there are none)."""

    def __init__(self, folder: Path | None):
        self.folder, self.names = folder, image_names(folder) if folder else {}

    def of(self, messages: list[dict]) -> list[dict]:
        """Return {"name", "source"} of the images of a question.

        The name is that in the data, the source the reduced image as a data URI, or None if it is missing.
        """
        paths = {name: self.folder / name if self.folder else None for name in images_of(messages)}
        return [
            {
                "name": self.names.get(name, name),
                "source": thumbnail(path, LONGEST) if path and path.is_file() else None,
            }
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
                "diff": None,
                "note": ", ".join(filter(None, notes)),
            }
        )
    return entries


def telling(answers: dict, scores: dict[str, dict], shipped: str, pictures: Pictures) -> list[dict]:
    """Return the best and the worst answer of the shipped variant and the one most changed from base, with base's.

    They are chosen by the main metric of the single records. Without any value it is the first record. Each answer has
    its `diff` from the expected one.
    """
    rows, kind = answers[shipped]["test"], scores[shipped]["answer_kind"]
    metric = MAIN[kind]
    values, before = (
        dict(enumerate(scores.get(name, {}).get("per_record", {}).get(metric) or [])) for name in (shipped, "base")
    )
    sign = -1 if METRICS[metric].direction == "lower" else 1
    order = sorted((place for place in values if values[place] is not None), key=lambda place: -sign * values[place])
    picked: dict[int, str] = {}
    if order and values[order[0]] == values[order[-1]]:
        alike = f"First answer; all of {shipped} have the same value"
        picked[order[0]] = alike if len(order) > 1 else "The only answer"
    elif order:
        picked = {order[0]: "Best", order[-1]: "Worst"}
    moved = {place: abs(values[place] - before[place]) for place in order if before.get(place) is not None}
    if shipped != "base" and (left := [place for place in moved if place not in picked and moved[place] > 0]):
        picked[max(left, key=moved.get)] = "Most changed from base"
    if not picked and rows:
        picked[0] = "First record: without a value for each answer there is no best or worst"
    shown_answers = {name: answers[name] for name in dict.fromkeys(("base", shipped)) if name in answers}
    found = []
    for place, title in picked.items():
        prompt = sample(shown_answers, scores, "test", place, rows[place], pictures)
        for answer in prompt["answers"]:
            if prompt["expected"] is not None and not prompt["pieces"]:
                answer["diff"] = word_diff(answer["text"], prompt["expected"], scores[shipped]["language"])
        found.append({"title": title, "differs": any(answer["diff"] for answer in prompt["answers"]), **prompt})
    return found


def samples(answers: dict, scores: dict[str, dict], pictures: Pictures) -> list[dict]:
    """Return some prompts with every variant's answer for each prompt set.

    `answers` maps variant to prompt set to rows, in the same order in every variant.
    """
    first = next(iter(answers.values()))
    return [
        {
            "name": name,
            "total": len(rows),
            "labels": len({row["label"] for row in rows}) > 1,
            "prompts": [
                sample(answers, scores, name, place, rows[place], pictures) for place in in_turn(rows, PROMPTS)
            ],
        }
        for name, rows in first.items()
        if rows
    ]


def sample(answers: dict, scores: dict[str, dict], name: str, index: int, asked: dict, pictures: Pictures) -> dict:
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
        "images": pictures.of(asked["messages"]),
        "label": asked["label"],
        "expected": asked["expected"],
        "answers": grouped(given),
    }


def noted(scores: dict, kind: str, index: int) -> str:
    """Return name and value of the main metric of one answer; empty without a value."""
    value = dict(enumerate(scores.get("per_record", {}).get(MAIN[kind]) or [])).get(index)
    return "" if value is None else f"{METRICS[MAIN[kind]].title} {shown(MAIN[kind], value)}"
