"""The files of a vision run, and questions with images of all shapes; for tests of serving."""

import json
from dataclasses import dataclass
from pathlib import Path

SIZES = {"square": (112, 112), "wide": (100, 40), "tall": (30, 95), "large": (301, 203), "tiny": (9, 5)}


@dataclass(frozen=True)
class VisionRun:
    """The files of a vision run; `data` is the dataset's folder, in which images lie."""

    merged: Path
    gguf: Path
    mmproj: Path
    data: Path

    @property
    def test(self) -> Path:
        """The records of the test split."""
        return self.data / "test.jsonl"


def write_images(folder: Path) -> dict[str, str]:
    """Write an image of each size into `images/` of a dataset's folder; return their names in records."""
    import numpy
    from PIL import Image

    (folder / "images").mkdir(parents=True, exist_ok=True)
    found = {}
    for seed, (name, (width, height)) in enumerate(SIZES.items()):
        cells = numpy.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=numpy.uint8)
        found[name] = f"images/{name}.png"
        Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC).save(folder / found[name])
    return found


def image_question(*parts: str, system: str | None = None) -> list[dict]:
    """Return the messages of a question; a part that begins with `images/` is an image."""
    content = [
        {"type": "image", "image": part} if part.startswith("images/") else {"type": "text", "text": part}
        for part in parts
    ]
    before = [{"role": "system", "content": system}] if system else []
    return [*before, {"role": "user", "content": content}]


def write_image_records(path: Path, images: dict[str, str]) -> Path:
    """Write the records of a vision test split."""
    questions = {
        "a": image_question(images["square"], "Le titre ?"),
        "b": image_question("Décris : ", images["wide"], system="Réponds en un mot."),
        "c": image_question("Compare ", images["tall"], " et ", images["large"], " !"),
        "d": [{"role": "user", "content": "Sans image ?"}],
    }
    rows = [
        {"id": name, "messages": [*messages, {"role": "assistant", "content": "Le but, à la 23e minute."}]}
        for name, messages in questions.items()
    ]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path
