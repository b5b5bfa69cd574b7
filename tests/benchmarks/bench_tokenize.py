"""The tokenize step, with its ledger, against transformers' own way with `datasets.map`: same ids and labels.

    python -m tests.benchmarks.bench_tokenize
    python -m tests.benchmarks.bench_tokenize --rows 2000 --rounds 1 --tiny

Both sides read the same conversations of one to three answers and tokenize them with SmolLM2's tokenizer (a download of
100 MB, once) and a chat template with `{% generation %}`. The other side calls `apply_chat_template` with
`return_assistant_tokens_mask` in two processes, once for each row, as it is mostly written, and once for batches. Ours
also checks the prompt of each row and the end of its answer, and writes a ledger. That ids and labels are the same is
asserted.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

from scripts.common.files import write_json, write_manifest
from scripts.common.records import SPLITS, Record
from tests.benchmarks.compare import ROOT, Goal, compare, run

CACHE = Path.home() / ".cache/snaketune/smollm2"
PROCESSES = 2
SETTINGS = {
    "task": "chat",
    "tokens": {
        "max_length": 4096,
        "truncation": "fail",
        "max_truncated": 0.0,
        "max_untrained": 0.0,
        "train_on": "all_assistant_turns",
    },
}
HELD_OUT = 100  # rows of the validation and of the test split


def write_base(folder: Path, tiny: bool) -> Path:
    """Write a model folder without weights and return its manifest: SmolLM2's tokenizer, or a tiny one."""
    folder.mkdir(parents=True)
    if tiny:
        from tests.support.tiny_model import make_tiny_tokenizer

        make_tiny_tokenizer(folder)
    else:
        from scripts.gguf.base_tokenizer import write_tokenizer
        from scripts.gguf.reader import read_gguf
        from tests.support.smollm2 import fetch_smollm2

        CACHE.mkdir(parents=True, exist_ok=True)
        write_tokenizer(read_gguf(fetch_smollm2(CACHE)), folder)
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        settings.pop("chat_template", None)
        write_json(folder / "tokenizer_config.json", settings, part=True)
        shutil.copy(ROOT / "scripts/model/templates/chatml.jinja", folder / "chat_template.jinja")
    write_json(folder / "config.json", {"max_position_embeddings": 8192}, part=True)
    return write_manifest(folder, name="bench", source="embedded", id=None, revision=None, architecture="llama")


def write_dataset(folder: Path, rows: int) -> None:
    """Write splits of conversations with one to three answers, made of the sentences of the embedded model's text."""
    source = random.Random(rows)
    sentences = (ROOT / "scripts/model/sentences.txt").read_text(encoding="utf-8").splitlines()
    folder.mkdir(parents=True)

    def text(shortest: int, longest: int) -> str:
        return " ".join(source.choice(sentences) for _ in range(source.randint(shortest, longest)))

    for split, count in zip(SPLITS, (rows, HELD_OUT, HELD_OUT), strict=True):
        with open(folder / f"{split}.jsonl", "w", encoding="utf-8") as file:
            for number in range(count):
                turns = []
                for _ in range(source.choice((1, 1, 1, 2, 3))):
                    turns += [{"role": "user", "content": text(1, 2)}, {"role": "assistant", "content": text(2, 5)}]
                turns[0]["content"] = f"{number}. {turns[0]['content']}"
                record = Record(f"{split}{number:011}", turns, origin=f"raw.jsonl:{number + 1}")
                file.write(json.dumps(record.to_row(), ensure_ascii=False) + "\n")


def ours(folder: Path) -> dict[str, float]:
    """Run the step; return its wall and CPU seconds and its peak memory."""
    shutil.rmtree(folder / "tokens", ignore_errors=True)
    words = [folder / "dataset", "--base", folder / "base/manifest.json", "--folder", folder / "tokens"]
    words += ["--settings", json.dumps(SETTINGS), "--log", folder / "log"]
    command = [sys.executable, ROOT / "scripts/train/tokenize_conversations.py", *words]
    return measured([str(word) for word in command])


def theirs(folder: Path, mode: str) -> dict[str, float]:
    """Run transformers and datasets in a process of their own; return the same."""
    shutil.rmtree(folder / mode, ignore_errors=True)
    return measured([sys.executable, "-m", "tests.benchmarks.bench_tokenize", "--peer", str(folder), "--mode", mode])


def measured(command: list[str]) -> dict[str, float]:
    """Run a command where the workflow's folder is importable; return its numbers by unit."""
    found = run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"})
    return {"s": found.seconds, "CPU s": found.cpu_seconds, "MiB": found.mib}


def tokenize_plainly(folder: Path, mode: str) -> None:
    """Tokenize the training split as a user of transformers does, by rows or by batches, and save it."""
    from datasets import load_dataset
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "base")

    def tokenize(row: dict) -> dict:
        found = tokenizer.apply_chat_template(row["messages"], return_dict=True, return_assistant_tokens_mask=True)
        ids, masks = found["input_ids"], found["assistant_masks"]
        if mode == "rows":
            return {"input_ids": ids, "labels": labels_of(ids, masks)}
        return {"input_ids": ids, "labels": [labels_of(*pair) for pair in zip(ids, masks, strict=True)]}

    files = {"train": str(folder / "dataset/train.jsonl")}
    rows = load_dataset("json", data_files=files, split="train", cache_dir=str(folder / mode / "cache"))
    rows = rows.select_columns(["id", "messages"])
    tokenized = rows.map(tokenize, batched=mode == "batches", num_proc=PROCESSES, remove_columns=["messages"])
    tokenized.save_to_disk(folder / mode / "tokens")


def labels_of(ids: list[int], mask: list[int]) -> list[int]:
    """Return the labels of a row; tokens that are not trained on have -100."""
    return [token if use else -100 for token, use in zip(ids, mask, strict=True)]


def check(folder: Path) -> None:
    """Raise AssertionError unless all sides have the same ids and labels."""
    from datasets import Dataset, load_from_disk

    found = Dataset.from_file(str(folder / "tokens/train.arrow"))
    for mode in ("rows", "batches"):
        other = load_from_disk(str(folder / mode / "tokens"))
        for column in ("id", "input_ids", "labels"):
            assert found[column][:] == other[column][:], f"{column} of {mode} differ"


def main(argv=None) -> None:
    """Write the inputs, measure the sides in turn, and compare their rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="with a tiny tokenizer, which needs no download")
    parser.add_argument("--peer", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument("--mode", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.peer:
        tokenize_plainly(arguments.peer, arguments.mode)
        return
    with tempfile.TemporaryDirectory(prefix="snaketune-") as name:
        folder = Path(name)
        write_base(folder / "base", arguments.tiny)
        write_dataset(folder / "dataset", arguments.rows)
        compare(
            Goal("tokenize", f"tokenizing {arguments.rows:,} conversations, with a ledger", "s", "<= 0.667"),
            {
                "ours: with ledger and checks": lambda: ours(folder),
                "datasets.map by rows, 2 processes": lambda: theirs(folder, "rows"),
                "datasets.map by batches, 2 processes": lambda: theirs(folder, "batches"),
            },
            rounds=arguments.rounds,
            check=lambda _: check(folder),
            versions=["transformers", "tokenizers", "datasets"],
            note="goal: at least 1.5 times as fast as the faster of the two",
        )


if __name__ == "__main__":
    main()
