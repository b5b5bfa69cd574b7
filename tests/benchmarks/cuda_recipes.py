"""The table of bench_cuda_training.py: memory and speed of the recipes' training steps, against the estimate."""

import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path

from scripts.common.files import read_json, read_jsonl
from scripts.config.runs import Run
from scripts.workflow.memory.estimate import GIB, training_memory
from scripts.workflow.memory.shapes import KNOWN
from tests.benchmarks.cuda_cases import Case, measured_run, needed_disk, tiny, train

WARM_UP = 3  # steps left out of the speed
IMAGE_SIZE = {"real": 1540, "tiny": 112}  # longest edge in pixels
COLUMNS = (
    "recipe: run", "rows x tokens", "checkpointing", "estimated GiB", "allocated GiB", "reserved GiB", "taken GiB",
    "estimated / taken", "s / step", "tokens / s",
)  # fmt: skip


def speed(run: Run, curve: list[dict], facts: dict) -> tuple[float, float]:
    """Return seconds a step and tokens a second of a finished run, whose rows are all of `max_length` tokens.

    The median of the steps after the first few. Of a head, whose steps take next to nothing, tokens a second are those
    of the pass that computes its hidden states.
    """
    points = [row["seconds"] for row in curve if "loss" in row]
    seconds = statistics.median(points[WARM_UP:] or points)
    if "features" in facts:
        rows = facts["rows"] + run.training.micro_batch  # those of the validation split go through as well
        return seconds, rows * run.tokens.max_length / max(facts["features"]["pass_seconds"], 1e-9)
    return seconds, run.training.micro_batch * run.training.accumulation * run.tokens.max_length / max(seconds, 1e-9)


def table_row(case: Case, run: Run, estimate: float, taken: dict, curve: list[dict], facts: dict) -> list[str]:
    """Return the cells of a finished run; `estimate` in GiB, `taken` as measured_program.py writes it."""
    seconds, tokens = speed(run, curve, facts)
    rows = f"{run.training.micro_batch} x {run.tokens.max_length:,}"
    if facts["attempt"] > 1:
        rows += f", ran out of memory, then {facts['micro_batch']} x {run.tokens.max_length:,}"
    gib = {key: value / GIB for key, value in taken.items()}
    memory = [f"{gib[key]:.1f}" if gib else "–" for key in ("allocated", "reserved", "taken")]
    ratio = f"{estimate / gib['taken']:.2f}" if gib else "–"
    checkpointing = "yes" if run.training.gradient_checkpointing and run.method != "head" else "no"
    return [
        case.title, rows, checkpointing, f"{estimate:.1f}", *memory, ratio, f"{seconds:.2f}", f"{tokens:,.0f}"
    ]  # fmt: skip


def measure(chosen: list[Case], steps: int, folder: Path, scale: str, card: dict | None) -> Iterator[list[str] | str]:
    """Yield a row of the table for each case, or a line that says why there is none; a base is there for its runs only.

    `card` is the GPU, as `device` returns it.
    """
    from tests.support.full_rows import write_full_rows
    from tests.support.random_base import write_random_base

    base, written = None, None
    for case in chosen:
        if base and written != case.base:
            shutil.rmtree(base.parent)
            base = None
        shape, run = KNOWN[case.base], measured_run(case, steps, scale)
        shape = tiny(shape) if scale == "tiny" else shape
        estimate = training_memory(shape, run).gib
        free = shutil.disk_usage(folder).free + (2 * shape.parameters if base else 0)
        if card and estimate * GIB > card["bytes"]:
            yield f"{case.title}: not run, {estimate:.1f} GiB are estimated and the GPU has {card['bytes'] / GIB:.1f}"
            continue
        if needed_disk(shape, run) > free:
            needed = needed_disk(shape, run) / GIB
            yield f"{case.title}: not run, {needed:.1f} GiB of disk are needed and {free / GIB:.1f} are free"
            continue
        if base is None:
            positions = max(4096, run.tokens.max_length)
            base = write_random_base(folder / "base", case.architecture, shape, positions, IMAGE_SIZE[scale])
            written = case.base
        place = folder / case.name
        rows = steps * run.training.micro_batch * run.training.accumulation
        write_full_rows(place / "tokens", base, place, run, shape.vocabulary, rows)
        fault = train(case, run, base, place)
        if fault:
            yield f"{case.title}: failed: {fault}"
        else:
            curve, facts = list(read_jsonl(place / "curve.jsonl")), read_json(place / "training.json")
            yield table_row(case, run, estimate, read_json(place / "taken.json"), curve, facts)
        shutil.rmtree(place)
    if base:
        shutil.rmtree(base.parent)


def heading(card: dict | None, steps: int, scale: str, command: str) -> str:
    """Return the text above the table: what was measured, with which versions, and how to measure it again."""
    from importlib.metadata import version

    packages = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate")
    where = f"{card['name']}, {card['bytes'] / GIB:.1f} GiB" if card else "no GPU: nothing but the way is tried"
    shapes = "of the real shapes" if scale == "real" else "of tiny shapes"
    return (
        f"# Training steps on a GPU\n\nMade by `{command}`:\n{steps} optimizer steps of each run, over bases {shapes} "
        f"with random weights, every row as long as `tokens.max_length`.\n\n- device: {where}\n"
        f"- versions: {', '.join(f'{package} {version(package)}' for package in packages)}\n\n"
        "`allocated` and `reserved` are the peaks of PyTorch’s allocator; `taken` is `reserved` and what lies beside\n"
        "it (CUDA’s context, libraries), which the estimate counts as well. Tokens a second of a head are those of\n"
        "the pass that computes its hidden states.\n\n"
    )
