"""Write records.jsonl: texts in English and French with personal data of nobody, and where they stand.

python data/pii/make_records.py --output data/pii/records.jsonl

The same file comes out each time: values are drawn by a fixed seed, and Faker's version is pinned in the locks. In a
template `[[a|b]]` is a choice, `{kind}` a value, `{kind:key}` one that comes back, and `~` a no-break space.
"""

import argparse
import random
import re
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np

from data.pii.fillers import Fillers
from data.pii.values import Person, Values
from scripts.common.files import write_jsonl
from scripts.dataset.compared import folded
from scripts.dataset.deduplicate import distinct, jaccard
from scripts.dataset.sketches import shingle_hashes

HERE = Path(__file__).parent
RECORDS = 1000  # of each language
SEED = 20261120
LANGUAGES = {"en": ("english", ("en_US", "en_GB")), "fr": ("french", ("fr_FR",))}
ALIKE = 0.8  # two texts of one template are less similar than this, so that none counts as a near duplicate
CHOICE = re.compile(r"\[\[([^\[\]]*)\]\]")
SLOT = re.compile(r"\{(\w+)(?::(\w+))?\}")
OF_PERSON = ("person", "first", "last", "email", "user", "title", "title_long", "e")
LABELS = {
    "person": "PERSON", "first": "PERSON", "last": "PERSON", "email": "EMAIL", "user": "USERNAME", "phone": "PHONE",
    "address": "ADDRESS", "city": "CITY", "postcode": "POSTCODE", "company": "COMPANY", "date": "DATE",
    "birth": "DATE", "isodate": "DATE", "iban": "IBAN", "card": "CREDIT_CARD", "ssn": "SSN", "ip": "IP", "url": "URL",
    "plate": "LICENSE_PLATE", "passport": "PASSPORT",
}  # fmt: skip


def templates(language: str) -> dict[str, str]:
    """Return the templates of a language by name, such as `en-mail-refund`."""
    content = (HERE / "templates" / f"{LANGUAGES[language][0]}.txt").read_text(encoding="utf-8")
    parts = re.split(r"^=== (\S+)\n", content, flags=re.MULTILINE)[1:]
    return {f"{language}-{name}": text.rstrip("\n") for name, text in zip(parts[::2], parts[1::2], strict=True)}


class Text:
    """One text in the making: people and values that have a key come back as they were, and later dates are later."""

    def __init__(self, values: Values, rng: random.Random):
        self.values, self.rng = values, rng
        self.fillers = Fillers(values.locale, rng)
        self.day = values.day(2021, 2025)
        self.numeric = rng.random() < 0.35
        self.people: dict[str, Person] = {}
        self.kept: dict[tuple[str, str], str] = {}

    def person(self, key: str | None) -> Person:
        """Return the person of a key, or a new one; no two in a text share a name."""
        if key in self.people:
            return self.people[key]
        others = {name for person in self.people.values() for name in (person.first, person.last)}
        while {(person := self.values.person()).first, person.last} & others:
            pass
        self.people[key or f"_{len(self.people)}"] = person
        return person

    def value(self, kind: str, key: str | None) -> str:
        """Return a slot's value."""
        if key is not None and (kind, key) in self.kept:
            return self.kept[kind, key]
        value = self.of_person(kind, key) if kind in OF_PERSON else self.drawn(kind)
        if key is not None:
            self.kept[kind, key] = value
        return value

    def of_person(self, kind: str, key: str | None) -> str:
        """Return a value that belongs to a person."""
        if kind == "email" and key is None and self.rng.random() < 0.3:
            return self.values.email(None)
        person = self.person(key)
        match kind:
            case "person":
                return person.name
            case "first" | "last":
                return getattr(person, kind)
            case "email":
                return self.values.email(person)
            case "user":
                return self.values.username(person)
        return self.fillers.of_gender(kind, person.feminine)

    def drawn(self, kind: str) -> str:
        """Return a value that belongs to nobody in particular."""
        if kind == "birth":
            return self.values.written(self.values.day(1938, 2007), self.numeric)
        if kind in ("date", "isodate"):
            self.day += timedelta(days=self.rng.randint(1, 150))
            return self.values.written(self.day, self.numeric) if kind == "date" else self.day.isoformat()
        return getattr(self.values, kind)() if kind in LABELS else self.fillers.value(kind)

    def filled(self, template: str) -> tuple[str, list[list]]:
        """Return a template's text and its spans [start, end, label]."""
        while CHOICE.search(template):
            template = CHOICE.sub(lambda match: self.rng.choice(match[1].split("|")), template)
        text, spans, end = "", [], 0
        template = template.replace("~", "\u00a0")
        for slot in SLOT.finditer(template):
            text += template[end : slot.start()]
            value = self.value(slot[1], slot[2])
            if slot[1] in LABELS:
                spans.append([len(text), len(text) + len(value), LABELS[slot[1]]])
            text, end = text + value, slot.end()
        return text + template[end:], spans


def records(language: str, count: int) -> Iterator[dict]:
    """Yield `count` records of a language, template after template, again and again."""
    known: dict[str, list[np.ndarray]] = {}
    named = list(templates(language).items())
    locales = LANGUAGES[language][1]
    values = {place: Values(place, random.Random(f"{SEED} {place}")) for place in locales}
    for number in range(count):
        name, template = named[number % len(named)]
        rng = random.Random(f"{SEED} {language} {number}")
        for _ in range(1000):
            text, spans = Text(values[rng.choice(locales)], rng).filled(template)
            grams = distinct(shingle_hashes(folded([text]), 5, np.uint64)[0])
            if all(jaccard(grams, other) < ALIKE for other in known.get(name, [])):
                break
        else:
            raise RuntimeError(f"{name}: too few choices for {count // len(named) + 1} different texts")
        known.setdefault(name, []).append(grams)
        yield {"text": text, "spans": spans, "language": language, "template": name}


def all_records() -> Iterator[dict]:
    """Yield the records of both languages in turn."""
    for pair in zip(*(records(language, RECORDS) for language in LANGUAGES), strict=True):
        yield from pair


def main(argv: list[str] | None = None) -> int:
    """Write the file; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=HERE / "records.jsonl", help="JSONL file to write")
    write_jsonl(parser.parse_args(argv).output, all_records(), part=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
