"""The table of estimated GPU memory that a dry run prints."""

from collections.abc import Callable, Iterator
from pathlib import Path

from scripts.config.root import Config
from scripts.workflow.memory.estimate import prediction_memory, training_memory
from scripts.workflow.memory.fit import GPUS
from scripts.workflow.memory.shapes import Shape, shape_of_gguf, shape_of_model

HEAD = "GPU memory, estimated (GiB)"


def model_shape(config: Config, name: str, results: str, located: Callable[[str], str]) -> Shape | None:
    """Return the shape of a model of the configuration: from its config.json or GGUF file, else by its hub id."""
    model = config.models[name]
    folders = [Path(results) / "models" / name, *([Path(located(model.path))] if model.path else [])]
    shape = shape_of_model(model.hub.id if model.hub else None, folders)
    if shape is None and model.gguf:
        file = Path(results) / "models" / f"{name}.gguf" if model.gguf.package else Path(located(model.gguf.file))
        return shape_of_gguf(file)
    return shape


def memory_lines(config: Config, located: Callable[[str], str]) -> Iterator[str]:
    """Yield the lines of a table of runs: memory of training and prediction, and the smallest GPU for both.

    Runs with equal values, such as many of a sweep, share a row. For a training in several processes, the memory is
    that of each process, which has its own GPU; prediction is one process. Models on the CPU are left out. A model of
    unknown shape has a row without an estimate.
    """
    results = config.pathvars.get("results", "results")
    alike: dict[tuple[str, str, str], list[str]] = {}
    for name, run in config.runs.items():
        if config.models[run.model].on_cpu:
            continue
        shape = model_shape(config, run.model, results, located)
        if shape is None:
            fits = f"the shape of '{run.model}' is not known before its config.json is here"
            alike.setdefault(("?", "?", fits), []).append(name)
            continue
        training = training_memory(shape, run).gib if run.method != "prompt" else 0
        prediction = prediction_memory(shape, run).gib
        shown = f"{training:.1f}" if training else "–"
        each = f"{run.training.num_processes} x " if run.training.num_processes > 1 else ""
        fits = next((gpu.title for gpu in GPUS if max(training, prediction) <= gpu.gib), f"more than {GPUS[-1].title}")
        row = (shown, f"{prediction:.1f}", each + fits)
        alike.setdefault(row, []).append(name)
    if not alike:
        return
    rows = [(name + (f" and {len(more)} more" if more else ""), *row) for row, (name, *more) in alike.items()]
    width = max(len(HEAD), *(len(row[0]) for row in rows))
    yield f"{HEAD:<{width}}  training  prediction  fits"
    yield from (f"{name:<{width}}  {train:>8}  {predict:>10}  {fits}" for name, train, predict, fits in rows)
