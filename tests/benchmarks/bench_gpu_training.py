"""Memory and speed of the recipes' training steps on a GPU, at the size of the real models, against the estimate.

python -m tests.benchmarks.bench_gpu_training --output tests/benchmarks/results/gpu_training.md

For each trained run a base of the real shape is written with random weights (nothing is downloaded), and rows of
`tokens.max_length` random tokens; then the training step itself runs, scripts/train/train_model.py or train_head.py
with the recipe's own settings, for a few dozen optimizer steps. It wants a GPU of its own, 16 to 52 GB of disk at a
time, and the packages of envs/train.in. What fits neither disk nor GPU is said and left out. `--gpu 24gb` measures the
settings of config/gpu/24gb. `--scale tiny` goes the same way with small shapes, on a CPU as well: it measures nothing,
and shows that the way is free.
"""

import argparse
import dataclasses
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from scripts.common.files import read_json, read_jsonl
from scripts.config.expand import merged
from scripts.config.load import load_config
from scripts.config.runs import Run
from scripts.workflow.memory.estimate import GIB, training_memory
from scripts.workflow.memory.fit import GPUS, changed
from scripts.workflow.memory.shapes import KNOWN, Shape, Tower

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ("football", "stories", "captions", "pii", "titles")
WARM_UP = 3  # steps left out of the speed
LOG_LINES = 40  # shown of a training that failed
IMAGE_SIZE = {"real": 1540, "tiny": 112}  # longest edge in pixels
TINY = {"vocabulary": 1024, "hidden": 256, "intermediate": 512, "layers": 2, "heads": 4, "head_size": 64}
TINY_TOWER = Tower(128, 256, 2, 14, 2)
TINY_LENGTH = 64
COLUMNS = (
    "recipe: run", "rows x tokens", "checkpointing", "estimated GiB", "allocated GiB", "reserved GiB", "taken GiB",
    "estimated / taken", "s / step", "tokens / s",
)  # fmt: skip


class Case(NamedTuple):
    """A run to measure: its recipe and name, the base's hub id and architecture, and the run's settings."""

    recipe: str
    name: str
    base: str
    architecture: str
    run: Run

    @property
    def title(self) -> str:
        """What the table calls it."""
        return f"{self.recipe}: {self.name}"


def cases(names: Iterable[str], gpu: str | None = None) -> list[Case]:
    """Return the trained runs of recipes, or runs by their own name or as recipe.run; those on one base together.

    `gpu` lays the settings of config/gpu over the recipe's; a recipe without a file for it is left out.
    """
    found: dict[str, Case] = {}
    configs = {path.stem: path for path in sorted((ROOT / "config" / "recipes").glob("*.yaml"))}
    wanted = set(names)
    for recipe in RECIPES:
        written = yaml.safe_load(configs[recipe].read_text(encoding="utf-8"))
        if gpu:
            profile = ROOT / "config" / "gpu" / gpu / f"{recipe}.yaml"
            if not profile.is_file():
                continue
            written = merged(written, yaml.safe_load(profile.read_text(encoding="utf-8")))
        config = load_config(written)
        for name, run in config.runs.items():
            if run.method != "prompt" and wanted & {recipe, name, f"{recipe}.{name}"}:
                model = config.models[run.model]
                found[name] = Case(recipe, name, model.hub.id, model.architecture, run)
    return sorted(found.values(), key=lambda case: case.base)


def tiny(shape: Shape) -> Shape:
    """Return a shape of the same kind that any machine trains."""
    kv_heads = TINY["heads"] if shape.kv_heads == shape.heads else 2
    return dataclasses.replace(shape, **TINY, kv_heads=kv_heads, tower=shape.tower and TINY_TOWER)


def measured_run(case: Case, steps: int, scale: str) -> Run:
    """Return a case's run as it is measured: its own settings, stopped after so many steps, each of them logged."""
    settings: dict = {"training": {"max_steps": steps, "logging_steps": 1}}
    if scale == "tiny":
        settings["tokens"] = {"max_length": TINY_LENGTH, "window_overlap": 8}
    return changed(case.run, settings)


def needed_disk(shape: Shape, run: Run) -> int:
    """Return the bytes of disk that a base takes, with the checkpoints or the hidden states of a run."""
    rows = run.training.max_steps * run.training.micro_batch * run.training.accumulation
    states = rows * run.tokens.max_length * shape.hidden * 2 if run.method == "head" else 0
    return int(2 * shape.parameters + states + 2 * GIB)


def device() -> dict | None:
    """Return name and bytes of the first GPU, asked for in another process so that this one takes nothing of it."""
    program = (
        "import json, torch\n"
        "g = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None\n"
        "print(json.dumps(g and {'name': g.name, 'bytes': g.total_memory}))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    return json.loads(answer)


def train(case: Case, run: Run, base: Path, folder: Path) -> str | None:
    """Run the training step of a case in a process of its own; return the last line of what went wrong, if it did."""
    script = "train_head.py" if case.run.task == "token_classification" else "train_model.py"
    words = [
        "-m", "tests.support.measured_program", folder / "taken.json", ROOT / "scripts" / "train" / script,
        folder / "tokens", "--base", base, "--checkpoints", folder / "checkpoints", "--output", folder / "adapter",
        "--curve", folder / "curve.jsonl", "--facts", folder / "training.json", "--log", folder / "train.log",
        "--threads", min(os.cpu_count() or 1, 8), "--settings", run.model_dump_json(),
        *(["--images", folder] if run.task == "vision" else []),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.getenv("PYTHONPATH")])])}
    done = subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, env=environment, stderr=subprocess.PIPE)
    if not done.returncode:
        return None
    log = folder / "train.log"
    print("".join(log.open(encoding="utf-8").readlines()[-LOG_LINES:]) if log.is_file() else "", file=sys.stderr)
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return (lines or [f"status {done.returncode}"])[-1]


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


def command_of(arguments: argparse.Namespace) -> str:
    """Return the command line that measures the same again."""
    words = [f"--recipes {' '.join(arguments.recipes)}"] if arguments.recipes != list(RECIPES) else []
    words += [f"--gpu {arguments.gpu}"] if arguments.gpu else []
    words += ["--scale tiny"] if arguments.scale == "tiny" else []
    return " ".join(["python -m tests.benchmarks.bench_gpu_training", f"--steps {arguments.steps}", *words])


def main(argv=None) -> int:
    """Print the table row by row and, where asked, write it; return 1 when a run failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), help="recipes, runs, or recipe.run")
    parser.add_argument("--steps", type=int, default=30, help="optimizer steps of each run")
    parser.add_argument("--folder", type=Path, help="where bases and results lie meanwhile (default: a temporary one)")
    parser.add_argument("--scale", choices=("real", "tiny"), default="real", help="shapes of the models")
    parser.add_argument("--gpu", choices=[gpu.name for gpu in GPUS], help="the settings of config/gpu/GPU")
    parser.add_argument("--output", type=Path, help="Markdown file for the table")
    arguments = parser.parse_args(argv)
    known = set(RECIPES).union(*({case.name, f"{case.recipe}.{case.name}"} for case in cases(RECIPES)))
    for name in arguments.recipes:
        if name not in known:
            parser.error(f"'{name}' is no recipe and no trained run of one; there are: {', '.join(sorted(known))}")
    card = device()
    if arguments.scale == "real" and card is None:
        parser.error("there is no CUDA GPU; --scale tiny goes the same way without one")
    table = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    notes: list[str] = []
    print("\n".join(table), flush=True)
    if arguments.folder:
        arguments.folder.mkdir(parents=True, exist_ok=True)
    above = heading(card, arguments.steps, arguments.scale, command_of(arguments))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        chosen = cases(arguments.recipes, arguments.gpu)
        for result in measure(chosen, arguments.steps, Path(folder), arguments.scale, card):
            line = result if isinstance(result, str) else f"| {' | '.join(result)} |"
            (notes if isinstance(result, str) else table).append(line)
            print(line, flush=True)
            if arguments.output:  # after each run, so that what is measured is kept whatever comes
                below = "".join(f"\n- {note}" for note in notes)
                arguments.output.write_text(
                    above + "\n".join(table) + "\n" + (f"{below}\n" if below else ""), encoding="utf-8"
                )
    return int(any(": failed: " in note for note in notes))


if __name__ == "__main__":
    sys.exit(main())
