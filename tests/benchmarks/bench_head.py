"""A head on a frozen backbone: the epochs after the first beside one pass of the backbone over the data.

python -m tests.benchmarks.bench_head

The base has the shape of SmolLM2-135M and random weights; small bases are the hard ones, because the head's epochs cost
about the same under any base. The step writes the hidden states of all rows once; its own facts say how long that took.
It runs once with the epochs of the demo and once with five times as many, over the same states: the difference gives
the seconds of an epoch with its evaluation and its checkpoint.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from scripts.common.files import read_json, write_json
from scripts.config.runs import Run
from scripts.train.row_files import COLUMNS, write_arrow
from scripts.workflow.memory.shapes import Shape
from tests.benchmarks.compare import ROOT, Goal, compare, run
from tests.support.random_base import write_random_base

SHAPE = Shape(49152, 576, 1536, 30, 9, 3, 64, tied=True)
LABELS = ["O", "B-PERSON", "I-PERSON", "B-CITY", "I-CITY", "B-EMAIL", "I-EMAIL"]
EPOCHS, MORE, THREADS = 8, 5, 2


def make_rows(folder: Path, count: int, tokens: int) -> None:
    """Write the splits of labelled rows of random ids, a quarter of them for validation."""
    source = random.Random(0)
    for split, rows in (("train", count), ("validation", count // 4)):
        ids = [[source.randrange(1000) for _ in range(source.randint(tokens // 2, tokens))] for _ in range(rows)]
        made = (
            {"id": str(number), "input_ids": row, "labels": [token % len(LABELS) for token in row]}
            for number, row in enumerate(ids)
        )
        write_arrow(folder / f"{split}.arrow", made, COLUMNS)
    write_json(folder / "labels.json", LABELS)


class Step:
    """The training step on one set of rows; hidden states are made anew in each round."""

    def __init__(self, folder: Path, layers: int, rows: int, tokens: int):
        shape = replace(SHAPE, layers=layers)
        self.folder, self.base = folder, write_random_base(folder / "base", "llama", shape, 512)
        (folder / "tokens").mkdir()
        make_rows(folder / "tokens", rows, tokens)
        self.seconds_of_pass = 0.0

    def train(self, epochs: int) -> tuple[dict, float]:
        """Run the step; return its facts of the features, and its peak in MiB."""
        training = {"epochs": epochs, "learning_rate": 3e-3, "micro_batch": 8, "accumulation": 1}
        settings = Run.model_validate(
            {"task": "token_classification", "dataset": "d", "model": "m", "method": "head", "training": training}
        ).model_dump(mode="json")
        out = self.folder / "out"
        command = [
            sys.executable, ROOT / "scripts/train/train_head.py", self.folder / "tokens", "--base", self.base,
            "--threads", THREADS, "--checkpoints", out / "checkpoints", "--output", out / "adapter",
            "--curve", out / "curve.jsonl", "--facts", out / "training.json", "--log", out / "log",
            "--settings", json.dumps(settings),
        ]  # fmt: skip
        ran = run([str(word) for word in command], cwd=ROOT)
        return read_json(out / "training.json")["features"], ran.mib

    def epochs(self) -> dict[str, float]:
        """Return the seconds of the epochs after the first."""
        shutil.rmtree(self.folder / "out", ignore_errors=True)
        first, mib = self.train(EPOCHS)
        more, _ = self.train(MORE * EPOCHS)
        self.seconds_of_pass = first["pass_seconds"]
        one = (more["training_seconds"] - first["training_seconds"]) / ((MORE - 1) * EPOCHS)
        return {"s": (EPOCHS - 1) * one, "ms an epoch": 1000 * one, "MiB": mib}


def main(argv=None) -> None:
    """Measure the epochs, and keep the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=SHAPE.layers)
    parser.add_argument("--rows", type=int, default=150, help="for training; a quarter more for validation")
    parser.add_argument("--tokens", type=int, default=180, help="most tokens of a row, half as many the fewest")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="snaketune-head-") as folder:
        step = Step(Path(folder), arguments.layers, arguments.rows, arguments.tokens)
        compare(
            Goal("head", f"head on a frozen backbone, epochs 2 to {EPOCHS} together", "s", "<= 0.02"),
            {"ours": step.epochs, "one pass of the backbone over the data": lambda: {"s": step.seconds_of_pass}},
            rounds=arguments.rounds, versions=["torch", "transformers"],
            note=f"{arguments.rows} rows of {arguments.tokens // 2} to {arguments.tokens} tokens",
        )  # fmt: skip


if __name__ == "__main__":
    main()
