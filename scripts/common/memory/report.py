"""What a run's GPU memory is estimated at, as a dry run prints it."""

from collections.abc import Callable, Iterator
from pathlib import Path

from scripts.common.config.root import Config
from scripts.common.memory.estimate import prediction_memory, training_memory
from scripts.common.memory.fit import GPUS
from scripts.common.memory.shapes import Shape, shape_of_model

HEAD = "GPU memory, estimated (GiB)"


def model_shape(config: Config, name: str, results: str, located: Callable[[str], str]) -> Shape | None:
    """Return the shape of a model of the configuration: from its config.json where that is there, else by its id."""
    model = config.models[name]
    folders = [Path(results) / "models" / name, *([Path(located(model.path))] if model.path else [])]
    return shape_of_model(model.hub.id if model.hub else None, folders)


def smallest_gpu(gib: float) -> str:
    """Return the smallest class of GPUs that a job of so many GiB fits."""
    return next((gpu.title for gpu in GPUS if gib <= gpu.gib), f"more than {GPUS[-1].title}")


def memory_lines(config: Config, located: Callable[[str], str]) -> Iterator[str]:
    """Yield a table of the runs whose models want a GPU: training, prediction, and the smallest GPU for both.

    Of a training in several processes it is what each wants, on a GPU of its own; prediction is one process.

    Embedded models want none; of a model that is neither known nor there yet nothing can be said.
    """
    results = config.pathvars.get("results", "results")
    rows = []
    for name, run in config.runs.items():
        if config.models[run.model].embedded:
            continue
        shape = model_shape(config, run.model, results, located)
        if shape is None:
            rows.append((name, "?", "?", f"the shape of '{run.model}' is not known before its config.json is here"))
            continue
        training = training_memory(shape, run).gib if run.method != "prompt" else 0
        prediction = prediction_memory(shape, run).gib
        shown = f"{training:.1f}" if training else "–"
        each = f"{run.training.world} x " if run.training.world > 1 else ""
        rows.append((name, shown, f"{prediction:.1f}", each + smallest_gpu(max(training, prediction))))
    if not rows:
        return
    width = max(len(HEAD), *(len(row[0]) for row in rows))
    yield f"{HEAD:<{width}}  training  prediction  fits"
    yield from (f"{name:<{width}}  {train:>8}  {predict:>10}  {fits}" for name, train, predict, fits in rows)
