"""The training steps that are measured on a GPU, at the size of real models with random weights.

A case is a run and its base; `train` runs its training step in a process of its own. Used by bench_cuda_training.py.
"""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import yaml

from scripts.config.expand import merged
from scripts.config.load import load_config
from scripts.config.runs import Run
from scripts.workflow.memory.estimate import GIB
from scripts.workflow.memory.fit import changed
from scripts.workflow.memory.shapes import Shape, Tower

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ("football", "stories", "captions", "pii", "titles")
LOG_LINES = 40  # shown of a training that failed
TINY = {"vocabulary": 1024, "hidden": 256, "intermediate": 512, "layers": 2, "heads": 4, "head_size": 64}
TINY_TOWER = Tower(128, 256, 2, 14, 2)
TINY_LENGTH = 64


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
    states = 0
    if run.method == "head":
        rows = run.training.max_steps * run.training.micro_batch * run.training.accumulation
        states = rows * run.tokens.max_length * shape.hidden * 2
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
