"""The training step against other trainers: tokens per second of the loop, the whole process, and peak memory.

python -m tests.benchmarks.bench_training
python -m tests.benchmarks.bench_training --bases smollm2-135m --rounds 1
python -m tests.benchmarks.bench_training --bases mistral-60m --lengths 75-144 --rows 64 --rounds 1 --modes all

All sides train a LoRA of rank 16 on all linear layers of the same base with random weights, for one epoch over the
same tokenized rows (half of each is a prompt, which is not trained on), 16 rows an optimizer step, in the format that
the CPU computes natively. Tokens are those without padding, in the steps after the first. Other trainers run without
gradient checkpointing where not said otherwise, which is their fastest way; TRL's `default` has its own default, which
takes less memory. By default the mode of each trainer runs that was its fastest in a run of all modes; one of them also
took the least memory of all.

A record is kept only if all sides trained on the same tokens, and learned the same: the loss falls by at least FALL,
and that of the last third of the steps differs by less than CLOSE of the other's fall. Their steps hold other rows.
"""

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from safetensors.torch import load_file, save_file

from scripts.common.chat import IGNORED
from scripts.common.files import read_json, read_jsonl
from scripts.common.number_format import is_native_on_cpu
from scripts.config.runs import Run
from scripts.train.row_files import COLUMNS, write_arrow
from scripts.workflow.memory.shapes import Shape
from tests.benchmarks.compare import ROOT, Goal, compare, run
from tests.benchmarks.peers import BARE, PINS, peer
from tests.support.random_base import write_random_base

BASES = {
    "mistral-60m": ("mistral", Shape(32000, 512, 1536, 8, 8, 4, 64)),
    "smollm2-135m": ("llama", Shape(49152, 576, 1536, 30, 9, 3, 64, tied=True)),
}
MICRO_BATCH, ACCUMULATION, LEARNING_RATE, THREADS = 8, 2, 5e-3, 2
FALL, CLOSE = 0.3, 0.15  # nats per trained token; relative
WORDS = 300  # ids that rows are made of: the model learns them within a few steps
SHAPE = {"per_device_train_batch_size": MICRO_BATCH, "gradient_accumulation_steps": ACCUMULATION}
GROUPED = {"train_sampling_strategy": "group_by_length"}
TRL = SHAPE | {"gradient_checkpointing": False}
LLAMAFACTORY = SHAPE | {"disable_gradient_checkpointing": True}
AXOLOTL = {"micro_batch_size": 8, "gradient_accumulation_steps": ACCUMULATION, "gradient_checkpointing": False}
MODES = {
    "TRL, plain": ("trl", TRL),
    "TRL, grouped": ("trl", TRL | GROUPED),
    "TRL, packed": ("trl", TRL | {"packing": True, "per_device_train_batch_size": 2}),
    "TRL, default": ("trl", SHAPE),
    "LLaMA-Factory, plain": ("llamafactory", LLAMAFACTORY),
    "LLaMA-Factory, grouped": ("llamafactory", LLAMAFACTORY | GROUPED),
    "Axolotl, plain": ("axolotl", AXOLOTL),
    "Axolotl, grouped": ("axolotl", AXOLOTL | {"group_by_length": True}),
}
LENGTHS = ("75-144", "75-420")
BEST = ("TRL, packed", "LLaMA-Factory, grouped", "Axolotl, grouped")


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
    for row in rows:
        row["attention_mask"] = [1] * len(row["input_ids"])
    lines = [json.dumps({key: row[key] for key in ("input_ids", "labels", "attention_mask")}) + "\n" for row in rows]
    (folder / "rows.jsonl").write_text("".join(lines), encoding="utf-8")


def in_float32(base: Path, folder: Path) -> Path:
    """Copy the model folder `base` with its weights in float32; return the copy."""
    shutil.copytree(base, folder)
    for file in folder.glob("*.safetensors"):
        save_file({name: tensor.float() for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    config = read_json(folder / "config.json") | {"dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def measured(seconds: float, tokens: float, padding: float, losses: list[float], ran) -> dict[str, float]:
    """Return a side's numbers by unit."""
    return {
        "tokens/s": tokens / seconds,
        "s": ran.seconds,
        "MiB": ran.mib,
        "% padding": 100 * padding,
        "first loss": losses[0],
        "loss": statistics.fmean(losses[-max(len(losses) // 3, 1) :]),
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
    tokens = [row["seconds"] * row["tokens_per_second"] for row in steps]
    expected = sum(len(row["input_ids"]) for row in read_jsonl(data / "rows.jsonl"))
    if facts["padded"]:
        raise SystemExit("our rows are padded")
    if abs(sum(tokens) - expected) > 0.01 * expected:
        raise SystemExit(f"ours trained on {sum(tokens):.0f} tokens, not {expected}")
    return measured(seconds, sum(tokens[1:]), 0.0, [row["loss"] for row in steps], ran)


def other(name: str, base: Path, data: Path, folder: Path, longest: int) -> dict[str, float]:
    """Run another trainer in a mode, and return its numbers; `base` is a model folder.

    Packs hold as many tokens a step as the rows of other modes, of mean length.
    """
    trainer, options = MODES[name]
    rows = list(read_jsonl(data / "rows.jsonl"))
    length = longest
    if options.get("packing"):
        length = round(sum(len(row["input_ids"]) for row in rows) / len(rows) * MICRO_BATCH / 2)
    dtype, bf16 = {"dtype": "bfloat16"}, is_native_on_cpu("bf16")
    further = {
        "trl": {"max_length": length} | ({"model_init_kwargs": dtype} if bf16 else {}),
        "axolotl": {"sequence_len": length},
    }
    spec = {
        "base": str(base), "rows": str(data / "rows.jsonl"), "output": str(folder), "threads": THREADS,
        "learning_rate": LEARNING_RATE, "bf16": bf16, "options": options | further.get(trainer, {}),
    }  # fmt: skip
    shutil.rmtree(folder, ignore_errors=True)
    ran = run([str(peer(trainer)), str(ROOT / f"tests/benchmarks/peer_{trainer}.py"), json.dumps(spec)])
    found = next(json.loads(line) for line in reversed(ran.output.splitlines()) if line.startswith('{"seconds"'))
    expected = sum(label != IGNORED for row in rows for label in row["labels"][1:])
    if found["trained"] != expected and not options.get("packing"):  # the first token of each pack but the first
        raise SystemExit(f"{name} trained on {found['trained']} tokens, not {expected}")
    return measured(found["seconds"], found["tokens"], found["padding"], found["losses"], ran)


def installed(modes: list[str]) -> list[str]:
    """Return the modes of trainers that can be installed; say which can't."""
    missing = set()
    for trainer in sorted({MODES[mode][0] for mode in modes}):
        try:
            peer(trainer)
        except subprocess.CalledProcessError as error:
            print(f"{trainer} is not measured, because it could not be installed: {error}", flush=True)
            missing.add(trainer)
    return [mode for mode in modes if MODES[mode][0] not in missing]


def check_learned_the_same(what: str, found: dict[str, list[dict]]) -> None:
    """Raise SystemExit unless the losses of all sides fall clearly, and to the same value; see this file's top."""
    middle = {
        name: {key: statistics.median(each[key] for each in values) for key in ("first loss", "loss")}
        for name, values in found.items()
    }
    for name, losses in middle.items():
        fall = losses["first loss"] - losses["loss"]
        if fall < FALL:
            raise SystemExit(f"{what}: the loss of {name} falls by {fall:.3f} only: add rows")
        if abs(middle["ours"]["loss"] - losses["loss"]) > CLOSE * fall:
            raise SystemExit(
                f"{what}: our last loss is {middle['ours']['loss']:.3f}, that of {name} {losses['loss']:.3f}"
            )


def compare_training(base: str, lengths: str, folder: Path, rows: int, rounds: int, modes: list[str]) -> None:
    """Measure all sides on a base and a set of rows, and keep three records: loop, whole process and memory."""
    shortest, longest = map(int, lengths.split("-"))
    data = folder / "rows"
    data.mkdir(parents=True)
    make_data(data, shortest, longest, rows)
    architecture, shape = BASES[base]
    manifest, bf16 = write_random_base(folder / "base", architecture, shape, 512), is_native_on_cpu("bf16")
    model = manifest.parent if bf16 else in_float32(manifest.parent, folder / "float32")
    sides = {"ours": lambda: ours(manifest, data, folder / "ours")}
    for mode in modes:
        sides[mode] = lambda mode=mode: other(mode, model, data, folder / "other", longest)
    what = f"LoRA on a CPU, {base}, rows of {lengths} tokens"
    trainers = sorted({MODES[mode][0] for mode in modes})
    pins = [BARE.get(trainer, PINS[trainer][1]).replace("==", " ") for trainer in trainers]
    compare(
        [
            Goal(f"training_loop_{base}_{lengths}", f"training loop: {what}", "tokens/s", ">= 1.25", True),
            Goal(f"training_whole_{base}_{lengths}", f"whole process: {what}", "s", f"<= {1 / 1.2:.3f}"),
            Goal(f"training_memory_{base}_{lengths}", f"peak memory: {what}", "MiB", "<= 1"),
        ],
        sides,
        rounds=rounds,
        check=partial(check_learned_the_same, what),
        versions=["torch", "transformers", "peft", *pins],
        note=f"{rows} rows, {'bf16' if bf16 else 'fp32'}, {THREADS} threads",
    )


def main(argv=None) -> None:
    """Measure each base on each set of rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bases", nargs="+", choices=BASES, default=["mistral-60m"])
    parser.add_argument("--lengths", nargs="+", default=LENGTHS, help="shortest-longest, in tokens")
    parser.add_argument("--rows", type=int, default=96, help="a multiple of 16")
    parser.add_argument("--modes", nargs="+", choices=[*MODES, "all"], help="default: the best of each trainer")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args(argv)
    for base in arguments.bases:
        for lengths in arguments.lengths:
            modes = arguments.modes or BEST
            modes = installed(list(MODES) if "all" in modes else modes)
            with tempfile.TemporaryDirectory() as folder:
                compare_training(base, lengths, Path(folder), arguments.rows, arguments.rounds, modes)


if __name__ == "__main__":
    main()
