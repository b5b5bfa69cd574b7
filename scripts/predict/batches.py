"""Answer prompts in batches of similar length."""

import time
from collections.abc import Callable, Iterable

from scripts.common.cli import Progress
from scripts.predict.answers import AnswerFile
from scripts.predict.prompts import Prompt


def batches_by_length(lengths: list[int], size: int) -> list[list[int]]:
    """Return batches of `size` positions of similar length, longest first; deterministic for the lengths."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    return [order[i : i + size] for i in range(0, len(order), size)]


def answer_batches(
    file: AnswerFile,
    prompts: list[Prompt],
    batches: list[list[int]],
    answer: Callable[[int, list[int]], Iterable[tuple[int, dict]]],
) -> None:
    """Add the missing answers; `answer(number, batch)` yields (position, row) of a batch's positions in `prompts`.

    Batches are made from all prompts, so that an interruption changes neither batches nor samples. An answer has
    `seconds` only if every prompt is asked alone: a batch's time divided by its size is not the time of an answer, and
    the last prompt, alone in its batch by chance, says nothing of the others.
    """
    bar, is_alone = Progress(file.title, len(prompts)), all(len(batch) == 1 for batch in batches)
    for number, batch in enumerate(batches):
        if all(file.has(prompts[i]) for i in batch):
            bar.advance(len(batch))
            continue
        started = time.monotonic()
        for i, row in answer(number, batch):
            times = {"seconds": round(time.monotonic() - started, 6)} if is_alone else {}
            if not file.has(prompts[i]):
                file.add(prompts[i], {**row, **times})
            bar.advance(1)
