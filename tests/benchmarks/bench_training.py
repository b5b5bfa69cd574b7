"""The training step against other trainers: tokens per second of the loop, the whole process, and peak memory.

python -m tests.benchmarks.bench_training
python -m tests.benchmarks.bench_training --bases mistral-60m --lengths 75-144 --rows 96 --rounds 1

Both sides train a LoRA of rank 16 on all linear layers of the same base with random weights, for one epoch over the
same tokenized rows (half of each is a prompt, which is not trained on), 16 rows an optimizer step, in the format that
the CPU computes natively. Tokens are those without padding, in the steps after the first. TRL runs without gradient
checkpointing where not said otherwise, which is its fastest way; `default` has its own default, which
takes less memory.
"""

import argparse
import json
import math
import random
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from scripts.common.chat import IGNORED
from scripts.common.files import read_json, read_jsonl
from scripts.common.number_format import is_native_on_cpu
from scripts.config.runs import Run
from scripts.train.tokenize_conversations import COLUMNS, write_arrow
from scripts.workflow.memory.shapes import Shape
from tests.benchmarks.compare import ROOT, compare, run
from tests.benchmarks.peers import PINS, peer
from tests.support.random_base import write_random_base

BASES = {
    "mistral-60m": ("mistral", Shape(32000, 512, 1536, 8, 8, 4, 64)),
    "smollm2-135m": ("llama", Shape(49152, 576, 1536, 30, 9, 3, 64, tied=True)),
}
MICRO_BATCH, ACCUMULATION, LEARNING_RATE, THREADS = 8, 2, 1e-3, 2
CLOSE = 0.05  # of the loss per trained token over the second half of the steps, relative
WORDS = 300  # ids that rows are made of: the model learns them within a few steps
TRL_MODES = {
    "plain": {"gradient_checkpointing": False},
    "grouped": {"gradient_checkpointing": False, "train_sampling_strategy": "group_by_length"},
    "packed": {"gradient_checkpointing": False, "packing": True},
    "default": {},
}


def make_rows(shortest: int, longest: int, count: int) -> list[dict]:
    """Return rows {id, input_ids, labels} of a Markov chain's ids; the first half of each has no labels."""
    source = random.Random(0)
    following = [[source.randrange(WORDS) for _ in range(4)] for _ in range(WORDS)]
    rows = []
    for number in range(count):
        length, word, ids = source.randint(shortest, longest), source.randrange(WORDS), []
        for _ in range(length):
            ids.append(1000 + word)
            word = source.choice(following[word])
        half = length // 2
        rows.append({"id": str(number), "input_ids": ids, "labels": [IGNORED] * half + ids[half:]})
    return rows


def make_data(folder: Path, shortest: int, longest: int, count: int) -> None:
    """Write rows for our step (train.arrow, validation.arrow) and for peers (rows.jsonl)."""
    rows = make_rows(shortest, longest, count)
    write_arrow(folder / "train.arrow", iter(rows), COLUMNS)
    write_arrow(folder / "validation.arrow", iter([]), COLUMNS)
    lines = [json.dumps({key: row[key] for key in ("input_ids", "labels")}) + "\n" for row in rows]
    (folder / "rows.jsonl").write_text("".join(lines), encoding="utf-8")


def measured(seconds: float, tokens: float, padding: float, losses: list[float], ran) -> dict[str, float]:
    """Return a side's numbers by unit."""
    return {
        "tokens/s": tokens / seconds,
        "s": ran.seconds,
        "MiB": ran.mib,
        "% padding": 100 * padding,
        "loss": statistics.fmean(losses[len(losses) // 2 :]),
    }


def ours(base: Path, data: Path, folder: Path, **training) -> dict[str, float]:
    """Run our step, and return its numbers."""
    settings = Run.model_validate(
        {
            "dataset": "d",
            "model": "m",
            "method": "lora",
            "seed": 1,
            "lora": {"r": 16, "alpha": 32, "dropout": 0},
            "training": {
                "epochs": 1,
                "learning_rate": LEARNING_RATE,
                "warmup_ratio": 0,
                "scheduler": "cosine",
                "micro_batch": MICRO_BATCH,
                "accumulation": ACCUMULATION,
                "logging_steps": 1,
                **training,
            },
        }
    ).model_dump(mode="json")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    command = [
        sys.executable, ROOT / "scripts/train/train_model.py", data, "--base", base, "--threads", THREADS,
        "--checkpoints", folder / "checkpoints", "--output", folder / "adapter", "--curve", folder / "curve.jsonl",
        "--facts", folder / "training.json", "--settings", json.dumps(settings),
    ]  # fmt: skip
    ran = run([str(word) for word in command], cwd=ROOT)
    curve, facts = read_jsonl(folder / "curve.jsonl"), read_json(folder / "training.json")
    steps = [row for row in curve if "loss" in row]
    seconds = sum(row["seconds"] for row in steps[1:])
    tokens = sum(row["seconds"] * row["tokens_per_second"] for row in steps[1:])
    return measured(seconds, tokens, math.nan if facts["padded"] else 0.0, [row["loss"] for row in steps], ran)


def trl(mode: str, base: Path, data: Path, folder: Path, longest: int, mean: float) -> dict[str, float]:
    """Run TRL in a mode, and return its numbers; packs hold as many tokens a step as the rows of other modes."""
    options = {
        "per_device_train_batch_size": MICRO_BATCH,
        "gradient_accumulation_steps": ACCUMULATION,
        "max_length": longest,
        **TRL_MODES[mode],
    }
    if options.get("packing"):
        options |= {"max_length": round(mean * MICRO_BATCH / 2), "per_device_train_batch_size": 2}
    spec = {
        "base": str(base.parent), "rows": str(data / "rows.jsonl"), "output": str(folder), "threads": THREADS,
        "learning_rate": LEARNING_RATE, "bf16": is_native_on_cpu("bf16"), "options": options,
    }  # fmt: skip
    shutil.rmtree(folder, ignore_errors=True)
    ran = run([str(peer("trl")), str(ROOT / "tests/benchmarks/peer_trl.py"), json.dumps(spec)])
    found = json.loads(ran.output.strip().splitlines()[-1])
    return measured(found["seconds"], found["tokens"], found["padding"], found["losses"], ran)


def compare_training(base: str, lengths: str, folder: Path, rows: int, rounds: int, modes: list[str]) -> None:
    """Measure all sides on a base and a set of rows, and keep three records: loop, whole process and memory."""
    shortest, longest = map(int, lengths.split("-"))
    data = folder / "rows"
    data.mkdir(parents=True)
    make_data(data, shortest, longest, rows)
    architecture, shape = BASES[base]
    manifest = write_random_base(folder / "base", architecture, shape, 512)
    mean = (shortest + longest) / 2
    work: dict[str, Callable[[], dict]] = {"ours": lambda: ours(manifest, data, folder / "ours")}
    for mode in modes:
        work[f"TRL, {mode}"] = lambda mode=mode: trl(mode, manifest, data, folder / "trl", longest, mean)
    found: dict[str, list[dict]] = {name: [] for name in work}

    def replay(name: str, unit: str) -> Callable[[], dict]:
        """Return a side that runs once a round for all three records."""
        asked = iter(range(rounds))

        def side() -> dict:
            number = next(asked)
            if len(found[name]) <= number:
                found[name].append(work[name]())
            kept = found[name][number]
            return {unit: kept[unit], **{key: value for key, value in kept.items() if key != unit}}

        return side

    what = f"LoRA on a CPU, {base}, rows of {lengths} tokens"
    versions = ["torch", "transformers", "peft", *(pin.replace("==", " ") for pin in PINS["trl"][1:2])]
    for row, unit, goal, about in (
        ("loop", "tokens/s", ">= 1.25", "training loop"),
        ("whole", "s", f"<= {1 / 1.2:.3f}", "whole process"),
        ("memory", "MiB", "<= 1", "peak memory"),
    ):
        compare(
            f"training_{row}_{base}_{lengths}", f"{about}: {what}", unit,
            {name: replay(name, unit) for name in work},
            goal=goal, rounds=rounds, more_is_better=unit == "tokens/s", versions=versions,
            note=f"{rows} rows, {'bf16' if is_native_on_cpu('bf16') else 'fp32'}, {THREADS} threads",
        )  # fmt: skip
    own = statistics.median(each["loss"] for each in found["ours"])
    for name, values in found.items():
        other = statistics.median(each["loss"] for each in values)
        if "packed" not in name and abs(own - other) > CLOSE * other:
            raise SystemExit(f"{what}: our loss is {own:.3f}, that of {name} {other:.3f}")


def main(argv=None) -> None:
    """Measure each base on each set of rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bases", nargs="+", choices=BASES, default=list(BASES))
    parser.add_argument("--lengths", nargs="+", default=["75-144", "75-420"], help="shortest-longest, in tokens")
    parser.add_argument("--rows", type=int, default=192, help="a multiple of 16")
    parser.add_argument("--modes", nargs="+", choices=TRL_MODES, default=list(TRL_MODES))
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args(argv)
    for base in arguments.bases:
        for lengths in arguments.lengths:
            with tempfile.TemporaryDirectory() as folder:
                compare_training(base, lengths, Path(folder), arguments.rows, arguments.rounds, arguments.modes)


if __name__ == "__main__":
    main()
