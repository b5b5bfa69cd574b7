"""Answer prompts in batches of similar length."""

import time
from collections.abc import Callable

from scripts.common.cli import Progress
from scripts.predict.answers import AnswerFile
from scripts.predict.prompts import Prompt


def batches_by_length(lengths: list[int], size: int) -> list[list[int]]:
    """Return batches of `size` positions of similar length, longest first; deterministic for the lengths."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    return [order[i : i + size] for i in range(0, len(order), size)]


def answer_batches(
    file: AnswerFile, prompts: list[Prompt], batches: list[list[int]], answer: Callable[[int, list[int]], list[dict]]
) -> None:
    """Add the missing answers; `answer(number, batch)` returns those of one batch of positions in `prompts`.

    Batches are made from all prompts, so that an interruption changes neither batches nor samples. `seconds` of an
    answer is its share of the batch's time.
    """
    bar = Progress(file.title, len(prompts))
    for number, batch in enumerate(batches):
        if not all(file.has(prompts[i]) for i in batch):
            started = time.monotonic()
            found = answer(number, batch)
            seconds = round((time.monotonic() - started) / len(batch), 6)
            for i, row in zip(batch, found, strict=True):
                if not file.has(prompts[i]):
                    file.add(prompts[i], {**row, "seconds": seconds})
        bar.advance(len(batch))
