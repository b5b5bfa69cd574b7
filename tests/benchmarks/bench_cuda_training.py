"""The training step on a CUDA GPU: against plain TRL on an 8B, and the recipes' memory against the estimate.

python -m tests.benchmarks.bench_cuda_training                              # ours and TRL, about 20 minutes
python -m tests.benchmarks.bench_cuda_training --cases lora-4096 --rounds 1
python -m tests.benchmarks.bench_cuda_training --recipes --output tests/benchmarks/results/cuda_recipes.md

Bases have the real shape and random weights: nothing is downloaded. It needs a GPU that nothing else uses, 16 to 52 GB
of disk at a time, and the packages of envs/train.in. `--scale tiny` runs the same code with small shapes, on a CPU as
well, and keeps no figures. Without a GPU nothing is measured.

Against TRL: rows of 128 to 1,024 tokens, half of each a prompt, are packed into 2,048 or 4,096; LoRA of rank 16 on all
linear layers in bf16, or over a base in nf4; 16,384 tokens an optimizer step. Both sides have the largest micro-batch
that our estimate lets the GPU hold, without gradient checkpointing if possible; a side that runs out of memory
takes gradient checkpointing. Tokens are those without padding, in the steps after the first. MFU counts 4 FLOP a
parameter and token, as published for Llama 3 8B with LoRA at 4,096 tokens on an H100: 12,473 tokens/s, 402 TFLOP/s.
That is 41 % of its peak.

With `--recipes`, the runs of the recipes train for a few dozen steps on rows of `tokens.max_length` tokens, with the
recipe's own settings or, with `--gpu 24gb`, those of config/gpu/24gb. What fits neither disk nor GPU is left out, and
named.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from scripts.common.files import read_json, read_jsonl
from scripts.config.runs import Run
from scripts.workflow.memory.estimate import GIB, training_memory
from scripts.workflow.memory.fit import GPUS, changed, training_ways
from scripts.workflow.memory.shapes import KNOWN, Shape
from tests.benchmarks import compare as harness
from tests.benchmarks.bench_training import LEARNING_RATE, check_learned_the_same, make_data
from tests.benchmarks.cuda_cases import RECIPES, ROOT, Case, cases, device, needed_disk, tiny, train
from tests.benchmarks.cuda_recipes import COLUMNS, heading, measure
from tests.benchmarks.peers import PINS, peer

BASE, ARCHITECTURE = "meta-llama/Llama-3.1-8B-Instruct", "llama"
COMPARED = {f"{method}-{length}": (method, length) for method in ("lora", "qlora") for length in (2048, 4096)}
PEER_TRL = ROOT / "tests/benchmarks/peer_trl.py"
STEP_TOKENS = 16_384
SHARE = 0.92  # of the GPU's memory for the estimate
# Dense bf16 FLOP/s of NVIDIA's data sheets, by a part of the GPU's name; the first that fits.
PEAKS = {
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H200": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
}
NF4 = {
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "bnb_4bit_compute_dtype": "bfloat16",
    "quant_method": "bitsandbytes",
}
# What a user of plain TRL may set, and the package that it needs.
TRL_MODES: dict[str, tuple[dict, str | None]] = {
    "TRL": ({"attn_implementation": "sdpa"}, None),
    "TRL, FlashAttention": ({"attn_implementation": "flash_attention_2"}, "flash_attn"),
}


def compared_run(shape: Shape, method: str, length: int, card: dict | None) -> Run:
    """Return the run of a comparison with the fastest settings whose estimate fits the GPU; SystemExit if none does."""
    rows = max(STEP_TOKENS // length, 1) if card else 4
    run = Run.model_validate(
        {
            "dataset": "d",
            "model": "m",
            "method": method,
            "lora": {"r": 16, "alpha": 32, "dropout": 0},
            "tokens": {"max_length": length, "packing": True},
            "training": {
                "epochs": 1, "learning_rate": LEARNING_RATE, "warmup_ratio": 0, "scheduler": "cosine",
                "logging_steps": 1, "micro_batch": rows, "accumulation": 1, "gradient_checkpointing": False,
                "precision": "bf16",
            },
        }
    )  # fmt: skip
    for way in training_ways(run):
        fitting = changed(run, way)
        if fitting.method == method and (not card or training_memory(shape, fitting).total <= SHARE * card["bytes"]):
            return fitting
    raise SystemExit(f"{method} with {length} tokens fits no GPU with {card['bytes'] / GIB:.0f} GiB")


def mfu(tokens_per_second: float, shape: Shape, name: str) -> float | None:
    """Return the share of a GPU's peak at 4 FLOP a parameter and token, in per cent; None for an unknown GPU."""
    peak = next((peak for part, peak in PEAKS.items() if part in name), None)
    return peak and 100 * 4 * shape.parameters * tokens_per_second / peak


def numbers(tokens: float, seconds: float, padding: float, losses: list[float], taken: Path) -> dict[str, float]:
    """Return a side's numbers by unit; `taken` is the file that measured_program.py wrote."""
    found = {"tokens/s": tokens / max(seconds, 1e-9), "% padding": 100 * padding, "first loss": losses[0]}
    found["loss"] = statistics.fmean(losses[-max(len(losses) // 3, 1) :])
    memory = read_json(taken)
    return {**found, "GiB": memory["taken"] / GIB} if memory else found


def ours(shape: Shape, base: Path, data: Path, run: Run, folder: Path) -> dict[str, float]:
    """Run our step on packed rows, and return its numbers."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "tokens").symlink_to(data)
    if fault := train(Case("compared", run.method, BASE, ARCHITECTURE, run), run, base, folder):
        raise SystemExit(f"our step failed: {fault}")
    facts, curve = read_json(folder / "training.json"), read_jsonl(folder / "curve.jsonl")
    steps = [row for row in curve if "loss" in row]
    tokens = sum(row["seconds"] * row["tokens_per_second"] for row in steps[1:])
    whole = sum(len(json.loads(row)["input_ids"]) for row in (data / "rows.jsonl").open(encoding="utf-8"))
    padding = max(1 - whole / (facts["rows"] * run.tokens.max_length), 0) if facts["packing"] == "on" else 0
    found = numbers(
        tokens, sum(row["seconds"] for row in steps[1:]), padding, [row["loss"] for row in steps], folder / "taken.json"
    )
    return {
        **found,
        "GiB estimated": training_memory(shape, run).gib,
        "rows at once": facts["micro_batch"],
        "of them packed": float(facts["packing"] == "on"),
        "checkpointing": float(run.training.gradient_checkpointing),
    }


def trl(python: Path, mode: str, base: Path, data: Path, run: Run, folder: Path) -> dict[str, float]:
    """Run TRL in a mode on the same rows, and return its numbers; out of memory, with gradient checkpointing."""
    options = {"dtype": "bfloat16", **TRL_MODES[mode][0]}
    if run.method == "qlora":
        options["quantization_config"] = NF4
    training, checkpointing = run.training, run.training.gradient_checkpointing
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        spec = {
            "base": str(base.parent), "rows": str(data / "rows.jsonl"), "output": str(folder / "output"),
            "threads": min(os.cpu_count() or 1, 8), "learning_rate": training.learning_rate, "bf16": True,
            "options": {
                "packing": True, "max_length": run.tokens.max_length, "gradient_checkpointing": checkpointing,
                "per_device_train_batch_size": training.micro_batch,
                "gradient_accumulation_steps": training.accumulation, "model_init_kwargs": options,
            },
        }  # fmt: skip
        command = [python, "-m", "tests.support.measured_program", folder / "taken.json", PEER_TRL, json.dumps(spec)]
        try:
            ran = harness.run([str(word) for word in command], cwd=ROOT)
        except SystemExit as error:
            if "out of memory" not in str(error) or checkpointing:
                raise
            checkpointing = True
            continue
        found = json.loads(ran.output.strip().splitlines()[-1])
        result = numbers(found["tokens"], found["seconds"], found["padding"], found["losses"], folder / "taken.json")
        return {**result, "rows at once": training.micro_batch, "checkpointing": float(checkpointing)}


def trl_python() -> Path:
    """Return an interpreter with TRL: this one if it has it, else that of the peer's environment."""
    return Path(sys.executable) if importlib.util.find_spec("trl") else peer("trl")


def compare_with_trl(names: list[str], steps: int, rounds: int, folder: Path, scale: str, card: dict | None) -> None:
    """Measure all sides of each comparison and keep a record of each."""
    from tests.support.random_base import write_random_base

    shape = KNOWN[BASE] if scale == "real" else dataclasses.replace(tiny(KNOWN[BASE]), vocabulary=2048)
    real = scale == "real"
    runs = {}
    for name in names:
        method, length = COMPARED[name]
        length = length if real else length // 32
        runs[name] = compared_run(shape, method, length, card)
    needed, free = max(needed_disk(shape, run) for run in runs.values()), shutil.disk_usage(folder).free
    if needed > free:
        raise SystemExit(f"{needed / GIB:.1f} GiB of disk are needed in {folder} and {free / GIB:.1f} are free")
    base, python = write_random_base(folder / "base", ARCHITECTURE, shape, 8192), trl_python()
    for name, run in runs.items():
        data, shortest, longest = folder / f"{name}-rows", *((128, 1024) if real else (8, 32))
        data.mkdir()
        step_tokens = run.training.micro_batch * run.training.accumulation * run.tokens.max_length
        make_data(data, shortest, longest, steps * step_tokens * 2 // (shortest + longest))
        work: dict[str, Callable[[], dict[str, float]]] = {
            "ours": lambda run=run, data=data: ours(shape, base, data, run, folder / "ours")
        }
        for mode, (_, package) in TRL_MODES.items():
            if package is None or importlib.util.find_spec(package):
                work[mode] = lambda mode=mode, run=run, data=data: trl(python, mode, base, data, run, folder / "trl")
        compare_sides(name, work, shape, run, rounds, card)


def compare_sides(
    name: str, work: dict[str, Callable[[], dict]], shape: Shape, run: Run, rounds: int, card: dict | None
) -> None:
    """Measure the sides of one comparison in turn; SystemExit if their losses do not fall to the same, at real size."""
    where = card["name"] if card else "a CPU, tiny shapes"

    def with_mfu(side: Callable[[], dict]) -> Callable[[], dict]:
        def measured() -> dict:
            found = side()
            share = mfu(found["tokens/s"], shape, where)
            return {"tokens/s": found["tokens/s"], **({"% MFU": share} if share else {}), **found}

        return measured

    what = f"training an 8B with {run.method}, rows packed into {run.tokens.max_length:,} tokens"
    goals = [harness.Goal(f"cuda_{name}", what, "tokens/s", ">= 1", more_is_better=True)]
    if mfu(1.0, shape, where):
        goals.append(harness.Goal(f"cuda_{name}_mfu", f"{what}: MFU", "% MFU", ">= 1", True, limit=45))
    harness.compare(
        goals,
        {side: with_mfu(function) for side, function in work.items()},
        rounds=rounds,
        check=partial(check_learned_the_same, name) if card else None,
        versions=["torch", "transformers", "peft", "bitsandbytes", PINS["trl"][1].replace("==", " ")],
        note="`GiB` is the most that the process took of the GPU",
        device=where,
    )


def recipes_table(arguments: argparse.Namespace, folder: Path, card: dict | None) -> int:
    """Print the table of the recipes row by row and, where asked, write it; return 1 when a run failed."""
    table = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    notes: list[str] = []
    print("\n".join(table), flush=True)
    above = heading(card, arguments.steps, arguments.scale, command_of(arguments))
    chosen = cases(arguments.recipes, arguments.gpu)
    for result in measure(chosen, arguments.steps, folder, arguments.scale, card):
        line = result if isinstance(result, str) else f"| {' | '.join(result)} |"
        (notes if isinstance(result, str) else table).append(line)
        print(line, flush=True)
        if arguments.output:  # after each run, so that what is measured is kept whatever comes
            below = "".join(f"\n- {note}" for note in notes)
            text = above + "\n".join(table) + "\n" + (f"{below}\n" if below else "")
            arguments.output.write_text(text, encoding="utf-8")
    return int(any(": failed: " in note for note in notes))


def command_of(arguments: argparse.Namespace) -> str:
    """Return the command line that measures the recipes' table again."""
    words = ["--recipes", *(arguments.recipes if arguments.recipes != list(RECIPES) else [])]
    words += [f"--steps {arguments.steps}", *([f"--gpu {arguments.gpu}"] if arguments.gpu else [])]
    words += ["--scale tiny"] if arguments.scale == "tiny" else []
    return " ".join(["python -m tests.benchmarks.bench_cuda_training", *words])


def main(argv=None) -> int:
    """Measure the comparisons or the recipes; return 1 when a run of a recipe failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=COMPARED, default=list(COMPARED), help="comparisons with TRL")
    parser.add_argument("--rounds", type=int, default=2, help="of each comparison")
    parser.add_argument("--recipes", nargs="*", help="measure recipes instead: recipes, runs, or recipe.run (all)")
    parser.add_argument("--gpu", choices=[gpu.name for gpu in GPUS], help="the recipes' settings of config/gpu/GPU")
    parser.add_argument("--output", type=Path, help="Markdown file for the recipes' table")
    parser.add_argument("--steps", type=int, help="optimizer steps of each run (12; recipes: 30)")
    parser.add_argument("--folder", type=Path, help="where bases and results lie meanwhile (default: a temporary one)")
    parser.add_argument("--scale", choices=("real", "tiny"), default="real", help="shapes of the models")
    arguments = parser.parse_args(argv)
    of_recipes = arguments.recipes is not None
    arguments.recipes = arguments.recipes or list(RECIPES)
    arguments.steps = arguments.steps or (30 if of_recipes else 12)
    known = set(RECIPES).union(*({case.name, f"{case.recipe}.{case.name}"} for case in cases(RECIPES)))
    for name in arguments.recipes:
        if name not in known:
            parser.error(f"'{name}' is no recipe and no trained run of one; there are: {', '.join(sorted(known))}")
    card = device()
    if arguments.scale == "real" and card is None:
        print("There is no CUDA GPU: nothing was measured. `--scale tiny` runs the same code without one.")
        return 0
    if arguments.folder:
        arguments.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        if of_recipes:
            return recipes_table(arguments, folder, card)
        if arguments.scale == "tiny":
            harness.MEASURED = folder / "measured"  # says nothing about the real size
        compare_with_trl(arguments.cases, arguments.steps, arguments.rounds, folder, arguments.scale, card)
    return 0


if __name__ == "__main__":
    sys.exit(main())
