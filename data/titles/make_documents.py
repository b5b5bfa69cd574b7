"""Write documents/*.png and records.jsonl: pages with a title, in English and French, and what the title is.

python data/titles/make_documents.py --output data/titles

The same files come out each time: what is left to chance is drawn by the document's own name, and the versions of
Pillow and of matplotlib, whose fonts are used, are pinned in the locks.
"""

import argparse
import random
import sys
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from data.titles.layouts import FAMILIES_OF, LANDSCAPE, LAYOUTS, PORTRAIT, Page
from data.titles.texts import QUESTION, SYSTEM, TITLES
from scripts.common.files import atomic_path, write_jsonl

SHADES = 16


def documents() -> Iterator[dict]:
    """Yield name, language, layout, font and title of each document, in the order of the records."""
    places = dict.fromkeys(FAMILIES_OF, 0)
    for layout, titles in TITLES.items():
        for language, families in FAMILIES_OF.items():
            for number, title in enumerate(titles[language], 1):
                family = families[places[language] % len(families)]
                places[language] += 1
                yield {
                    "name": f"{language}-{layout}-{number}",
                    "language": language,
                    "layout": layout,
                    "font": family,
                    "title": title,
                }


def page_of(document: dict) -> Image.Image:
    """Return the picture of a document, 16 shades of grey as a palette."""
    rng = random.Random(document["name"])
    size = LANDSCAPE if document["layout"] == "slide" else PORTRAIT
    page = Page(size, document["font"], document["language"], rng)
    LAYOUTS[document["layout"]](page, document["title"])
    step = 255 // (SHADES - 1)
    shades = page.image.point([round(value / step) for value in range(256)])
    picture = Image.frombytes("P", size, shades.tobytes())
    picture.putpalette([shade * step for shade in range(SHADES) for _ in range(3)])
    return picture


def record_of(document: dict, number: int) -> dict:
    """Return the raw record of a document; the third of each three asks before it shows, every fourth has a system."""
    language = document["language"]
    content = [
        {"type": "image", "image": f"{document['name']}.png"},
        {"type": "text", "text": QUESTION[language]},
    ]
    system = [{"role": "system", "content": SYSTEM[language]}] if number % 4 == 0 else []
    return {
        "messages": [*system, {"role": "user", "content": content[::-1] if number % 3 == 0 else content}],
        "expected": document["title"],
        "language": language,
        "layout": document["layout"],
        "font": document["font"],
    }


def main(argv: list[str] | None = None) -> int:
    """Write the pictures and the records; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    output = parser.parse_args(argv).output
    records = []
    for number, document in enumerate(documents(), 1):
        with atomic_path(output / "documents" / f"{document['name']}.png", part=True) as beside:
            page_of(document).save(beside, "PNG", bits=4, optimize=True)
        records.append(record_of(document, number))
    write_jsonl(output / "records.jsonl", records, part=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
