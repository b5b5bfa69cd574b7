"""The estimate of GPU memory against traced training steps at the size of the recipes' models.

python -m tests.benchmarks.bench_memory

The traces run transformers and PEFT on tensors without contents (tests/support/traced_memory.py). They hold a base in
16 bits, for bitsandbytes can't be traced, and run neither output layer nor vision tower: the same parts are left out
of the estimate. What only a GPU shows (CUDA's context, gaps of the allocator, 4-bit kernels) is not in here.
"""

from pathlib import Path

import yaml

from scripts.config.load import load_config
from scripts.config.runs import Run
from scripts.workflow.memory.estimate import GIB, training_memory
from scripts.workflow.memory.fit import changed
from scripts.workflow.memory.shapes import KNOWN, Shape
from tests.support.traced_memory import traced_peak

RECIPES = Path(__file__).resolve().parents[2] / "config" / "recipes"


def traceable(run: Run) -> Run:
    """Return the run with a 16-bit base, as a trace has it."""
    sixteen = {"method": "lora"} if run.method == "qlora" else {}
    return changed(run, {**sixteen, "training": {"optimizer": "adamw_torch"}})


def counted(shape: Shape, run: Run) -> float:
    """Return the estimate without what a trace leaves out: output layer, logits, vision tower, reserve."""
    found = training_memory(shape, run)
    head = 2 * shape.vocabulary * shape.hidden if run.task != "token_classification" else 0
    return found.total - found.reserve - found.logits - head


def main() -> None:
    """Print a table of estimate and trace for every trained run of the recipes, each with and without checkpointing."""
    print("| recipe: run | rows x tokens | checkpointing | traced GiB | estimated GiB | estimated / traced |")
    print("|---|---|---|---|---|---|")
    for path in sorted(RECIPES.glob("*.yaml")):
        config = load_config(yaml.safe_load(path.read_text(encoding="utf-8")))
        for name, written in config.runs.items():
            if written.method == "prompt" or path.stem == "captions-sweep":
                continue
            shape = KNOWN[config.models[written.model].hub.id]
            # The vision tower is not traced: the language model alone is looked at.
            shape = Shape(**{**shape.__dict__, "tower": None})
            for checkpointing in (True, False) if written.method != "head" else (False,):
                run = changed(traceable(written), {"training": {"gradient_checkpointing": checkpointing}})
                traced, estimated = traced_peak(shape, run), counted(shape, run)
                size = f"{run.training.micro_batch} x {run.tokens.max_length:,}"
                print(
                    f"| {path.stem}: {name} | {size} | {'yes' if checkpointing else 'no'} | {traced / GIB:.1f} | "
                    f"{estimated / GIB:.1f} | {estimated / traced:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
