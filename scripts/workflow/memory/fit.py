"""Find settings with which a run fits on a GPU, with the same batches and results if possible."""

from collections.abc import Iterator
from typing import NamedTuple

from scripts.config.expand import merged
from scripts.config.runs import Run
from scripts.tasks import TASKS
from scripts.workflow.memory.estimate import prediction_memory, training_memory
from scripts.workflow.memory.shapes import Shape


class Gpu(NamedTuple):
    """A class of GPUs: its folder under config/gpu, its usual name, and the GiB that a job may use."""

    name: str
    title: str
    gib: float


# Memory as the driver reports it; a 24 GB GPU may also drive a screen.
GPUS = (
    Gpu("t4", "16 GB (T4)", 14.5),
    Gpu("24gb", "24 GB", 22.5),
    Gpu("80gb", "80 GB", 79.0),
)
# 1,444 image tokens instead of 3,025, with 28 pixels per token; an A4 page then has 91 dots per inch.
SMALLER_IMAGES = {"vision": {"longest_edge": 1064}, "tokens": {"max_length": 2048}}


def changed(run: Run, settings: dict) -> Run:
    """Return a run with some settings replaced."""
    return Run.model_validate(merged(run.model_dump(exclude_unset=True), settings))


def batch_shapes(run: Run) -> Iterator[dict]:
    """Yield micro-batch and accumulation, the largest micro-batch first; their product, the batch size, is constant."""
    batch = run.training.micro_batch * run.training.accumulation
    for micro_batch in sorted({size for size in range(1, batch + 1) if batch % size == 0}, reverse=True):
        yield {"micro_batch": micro_batch, "accumulation": batch // micro_batch}


def training_ways(run: Run) -> Iterator[dict]:
    """Yield settings of training in the order of preference, from fast to memory-saving.

    First come smaller micro-batches, without and then with gradient checkpointing, which do not change the result. Then
    comes a base in 4 bits, which changes it slightly, and last a lower resolution of images.
    """
    savings: list[dict] = [{}]
    if run.method == "lora" and not TASKS[run.task].classifies:
        savings.append({"method": "qlora"})
    if TASKS[run.task].reads_images:
        savings.append({"method": "qlora", **SMALLER_IMAGES})
    for saving in savings:
        for checkpointing in (False, True) if run.method != "head" else (run.training.gradient_checkpointing,):
            for shape in batch_shapes(run):
                yield {**saving, "training": {**shape, "gradient_checkpointing": checkpointing}}
    if run.method == "head":
        yield from ({"training": shape, "head": {"load_in_4bit": True}} for shape in batch_shapes(run))


def prediction_ways(run: Run) -> Iterator[dict]:
    """Yield settings of prediction, the largest batch first; then the same with the base in 4 bits."""
    size = run.generation.batch_size
    sizes = [size // 2**halvings for halvings in range(size.bit_length()) if size // 2**halvings]
    for batch_size in sizes:
        yield {"generation": {"batch_size": batch_size}}
    if run.method != "full" and not TASKS[run.task].classifies:
        for batch_size in sizes:
            yield {"generation": {"batch_size": batch_size, "load_in_4bit": "yes"}}


def fitting_settings(shape: Shape, run: Run, gib: float) -> dict | None:
    """Return the first settings with which training and prediction of a run fit into `gib`, or None."""
    for training in training_ways(run) if run.method != "prompt" else [{}]:
        trained = changed(run, training)
        if run.method != "prompt" and training_memory(shape, trained).gib > gib:
            continue
        for way in prediction_ways(trained):
            if prediction_memory(shape, changed(trained, way)).gib <= gib:
                return merged(training, way)
    return None
