"""Token rows that are as long as they may be, of random tokens; for measuring."""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

from scripts.common.chat import IGNORED
from scripts.common.files import write_json
from scripts.common.vision import VisionTokenizer, cell_size, image_text
from scripts.train import tokenize_spans
from scripts.train.row_files import COLUMNS, VISION_COLUMNS, write_arrow

LEAST_IMAGE = 64  # tokens; what is left of a row below that is text
ENTITIES = 18  # kinds of entities in the recipe `pii`


def random_ids(source: random.Random, tokenizer_size: int, vocabulary: int, length: int) -> list[int]:
    """Return random ids of a vocabulary, none of them the tokenizer's own: those may mean images or ends."""
    return [source.randrange(tokenizer_size, vocabulary) for _ in range(length)]


def text_rows(tokenizer, vocabulary: int, length: int, rows: int) -> Iterator[dict]:
    """Yield rows {id, input_ids, labels} of `length` tokens, all of them trained on."""
    source = random.Random(0)
    for number in range(rows):
        ids = [tokenizer.bos_token_id, *random_ids(source, len(tokenizer), vocabulary, length - 1)]
        yield {"id": str(number), "input_ids": ids, "labels": [IGNORED, *ids[1:]]}


def span_rows(tokenizer, vocabulary: int, length: int, rows: int, labels: int) -> Iterator[dict]:
    """Yield rows as tokenize_spans.py writes them, with a random label on every token but the first."""
    source = random.Random(0)
    for row in text_rows(tokenizer, vocabulary, length, rows):
        marks = [IGNORED, *(source.randrange(labels) for _ in range(length - 1))]
        place = {"window": 0, "start": 0, "starts": list(range(length - 1)), "ends": list(range(1, length))}
        yield {**row, **place, "labels": marks}


def grids_that_fill(length: int, largest: int) -> list[tuple[int, int]]:
    """Return the grids (rows, columns) of the square images that fill a row of `length` tokens, the largest first.

    An image of n x n cells has n (n + 1) tokens, of which n end its rows; none has more than `largest` rows.
    """
    grids = []
    while length >= LEAST_IMAGE or not grids:
        edge = min(largest, int(((4 * length + 1) ** 0.5 - 1) / 2))
        grids.append((edge, edge))
        length -= edge * (edge + 1)
    return grids


def write_noise(path: Path, edge: int, seed: int) -> None:
    """Write a square picture of coloured spots, `edge` pixels wide."""
    import numpy
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    cells = numpy.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=numpy.uint8)
    Image.fromarray(cells).resize((edge, edge), Image.Resampling.NEAREST).save(path)


def image_rows(processor, folder: Path, vocabulary: int, length: int, rows: int) -> Iterator[dict]:
    """Yield rows {id, input_ids, labels, images} of `length` tokens: images as long as there is room, then text.

    Images are written to images/ of the folder; the processor, which the real path uses as well, says how many tokens
    each becomes.
    """
    source, tokenizer = random.Random(0), processor.tokenizer
    pictures, cell = VisionTokenizer(processor, folder), cell_size(processor)
    largest = processor.image_processor.size["longest_edge"] // cell
    names = []
    for number, (edge, _) in enumerate(grids_that_fill(length - 8, largest)):
        names.append(f"images/{number}.png")
        write_noise(folder / names[-1], edge * cell, number)
    seen = "".join(image_text(processor, pictures.grid(name)) for name in names)
    images = tokenizer(seen, add_special_tokens=False)["input_ids"]
    for number in range(rows):
        text = random_ids(source, len(tokenizer), vocabulary, length - 1 - len(images))
        ids = [tokenizer.bos_token_id, *images, *text]
        labels = [IGNORED] * (1 + len(images)) + text
        yield {"id": str(number), "input_ids": ids, "labels": labels, "images": names}


def write_splits(folder: Path, rows: list[dict], evaluated: int, task: str) -> None:
    """Write rows as the splits of a token folder: all for training, the first `evaluated` of them for validation."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, part in (("train", rows), ("validation", rows[:evaluated]), ("test", [])):
        columns = {"token_classification": tokenize_spans.COLUMNS, "vision": VISION_COLUMNS}.get(task, COLUMNS)
        write_arrow(folder / f"{split}.arrow", iter(part), columns)


def write_full_rows(folder: Path, base: Path, images: Path, run, vocabulary: int, rows: int) -> None:
    """Write a token folder for a run, every row of which has `tokens.max_length` tokens.

    `base` is the manifest of the model's folder, `images` the folder in which a vision run finds its images.
    """
    from scripts.common.base_model import load_tokenizer
    from scripts.common.vision import load_processor

    length = run.tokens.max_length
    if run.task == "vision":
        found = image_rows(load_processor(base, run.vision.longest_edge), images, vocabulary, length, rows)
    elif run.task == "token_classification":
        kinds = [f"{mark}-KIND_{number}" for number, mark in itertools.product(range(ENTITIES), "BI")]
        write_json(folder / "labels.json", ["O", *kinds])
        found = span_rows(load_tokenizer(base), vocabulary, length, rows, 1 + len(kinds))
    else:
        found = text_rows(load_tokenizer(base), vocabulary, length, rows)
    write_splits(folder, list(found), run.training.micro_batch, run.task)
