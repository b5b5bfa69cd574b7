"""Settings with which a run fits a GPU: the same batches and the same result wherever that is possible."""

from collections.abc import Iterator
from typing import NamedTuple

from scripts.config.expand import merged
from scripts.config.runs import Run
from scripts.workflow.memory.estimate import prediction_memory, training_memory
from scripts.workflow.memory.shapes import Shape


class Gpu(NamedTuple):
    """A class of GPUs: its folder under config/gpu, what people call it, and the GiB that a job may take."""

    name: str
    title: str
    gib: float


# A card's memory as the driver gives it; 24 GB cards may drive a screen as well.
GPUS = (
    Gpu("t4", "16 GB (T4)", 14.5),
    Gpu("24gb", "24 GB", 22.5),
    Gpu("80gb", "80 GB", 79.0),
)
# 1,444 image tokens instead of 3,025 at patches of 28 pixels; a page of A4 then has 91 dots per inch.
SMALLER_IMAGES = {"vision": {"longest_edge": 1064}, "tokens": {"max_length": 2048}}


def changed(run: Run, settings: dict) -> Run:
    """Return a run with settings laid over its own."""
    return Run.model_validate(merged(run.model_dump(exclude_unset=True), settings))


def batch_shapes(run: Run) -> Iterator[dict]:
    """Yield micro-batch and accumulation, the largest micro-batch first; their product, the batch, stays the same."""
    batch = run.training.micro_batch * run.training.accumulation
    for micro_batch in sorted({size for size in range(1, batch + 1) if batch % size == 0}, reverse=True):
        yield {"micro_batch": micro_batch, "accumulation": batch // micro_batch}


def training_ways(run: Run) -> Iterator[dict]:
    """Yield settings of training from the fastest to the most sparing: each falls back on less memory.

    First the batch is cut into smaller pieces, without checkpointing and then with it, which changes no result; then
    the base is held in 4 bits, which changes it a little; last, images are read at a lower resolution.
    """
    savings: list[dict] = [{}]
    if run.method == "lora" and run.task != "token_classification":
        savings.append({"method": "qlora"})
    if run.task == "vision":
        savings.append({"method": "qlora", **SMALLER_IMAGES})
    for saving in savings:
        for checkpointing in (False, True) if run.method != "head" else (run.training.gradient_checkpointing,):
            for shape in batch_shapes(run):
                yield {**saving, "training": {**shape, "gradient_checkpointing": checkpointing}}
    if run.method == "head":
        yield from ({"training": shape, "head": {"load_in_4bit": True}} for shape in batch_shapes(run))


def prediction_ways(run: Run) -> Iterator[dict]:
    """Yield settings of prediction, the largest batch first; then the base in 4 bits."""
    size = run.generation.batch_size
    sizes = [size // 2**halvings for halvings in range(size.bit_length()) if size // 2**halvings]
    for batch_size in sizes:
        yield {"generation": {"batch_size": batch_size}}
    if run.method != "full" and run.task != "token_classification":
        for batch_size in sizes:
            yield {"generation": {"batch_size": batch_size, "load_in_4bit": "yes"}}


def fitting_settings(shape: Shape, run: Run, gib: float) -> dict | None:
    """Return the settings with which training and prediction of a run fit so many GiB, or None when none do."""
    for training in training_ways(run) if run.method != "prompt" else [{}]:
        trained = changed(run, training)
        if run.method != "prompt" and training_memory(shape, trained).gib > gib:
            continue
        for way in prediction_ways(trained):
            if prediction_memory(shape, changed(trained, way)).gib <= gib:
                return merged(training, way)
    return None
