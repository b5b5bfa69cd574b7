"""The dataset stage on many chat records, beside `datasets` that only loads the same file and applies a template.

    python -m tests.benchmarks.bench_dataset
    python -m tests.benchmarks.bench_dataset --rows 50000 --rounds 3
    python -m tests.benchmarks.bench_dataset --growth 10 --rounds 1

Ours are the three steps as the workflow runs them on two cores: checks and canonical records, duplicates, after whose
removal no near duplicates are in two splits, splits, ledger. `datasets` reads the JSON lines into its cache and renders
each chat by a template (ChatML) in two processes: no check, no duplicates, no split.

`--growth` compares ours with itself instead: so many times as many records with so many times the seconds.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from scripts.common.files import read_json
from scripts.common.records import SPLITS
from scripts.train.tokenize_conversations import lines_of
from tests.benchmarks.compare import Goal, compare, run
from tests.support.dataset_steps import settings_of

ROOT = Path(__file__).parents[2]
SYLLABLES = ["ba", "do", "ri", "men", "tal", "vo", "sé", "qui", "lo", "gar", "né", "par", "tu", "fi", "chan", "ro"]
NEAR_DUPLICATES = 0.05
LIMITED = 1_000_000  # records that have limits of time and memory
LABELS = ("but", "carton", "commentaire")
WORDS, BLOCK = 30_000, 5000  # words of the language; records made at once
SETTINGS = settings_of(label="type")
PEER = """
import sys
from datasets import load_dataset
from jinja2 import Template

template = Template(
    "{% for m in messages %}<|im_start|>{{ m.role }}\\n{{ m.content }}<|im_end|>\\n{% endfor %}"
)
rows = load_dataset("json", data_files=sys.argv[1], cache_dir=sys.argv[2], split="train")
texts = rows.map(lambda row: {"text": template.render(messages=row["messages"])}, num_proc=2)
print(len(texts))
"""


def write_raw(path: Path, rows: int) -> None:
    """Write so many chats of about 700 bytes, in words as frequent as a language's; some nearly repeat the last one."""
    rng = np.random.default_rng(rows)
    lengths = rng.choice((1, 2, 2, 3, 3, 4), WORDS)
    words = ["".join(rng.choice(SYLLABLES, length)) for length in lengths]
    shares = np.cumsum(1 / np.arange(5, WORDS + 5))
    question = answer = ""
    with open(path, "w", encoding="utf-8") as file:
        for start in range(0, rows, BLOCK):
            found = np.searchsorted(shares, rng.random((min(BLOCK, rows - start), 108)) * shares[-1]).tolist()
            counts, drawn = rng.integers(50, 101, len(found)), rng.random(len(found))
            labels = rng.integers(len(LABELS), size=len(found))
            for place, (numbers, count, chance) in enumerate(zip(found, counts, drawn, strict=True)):
                if answer and chance < NEAR_DUPLICATES:
                    answer += " encore"
                else:
                    question = " ".join(words[number] for number in numbers[:8])
                    answer = " ".join(words[number] for number in numbers[8 : 8 + count])
                asked = {"role": "user", "content": f"Raconte {start + place} : {question} ?"}
                record = {"messages": [asked, {"role": "assistant", "content": answer}], "type": LABELS[labels[place]]}
                file.write(json.dumps(record, ensure_ascii=False) + "\n")


def commands(raw: Path, folder: Path, processes: int) -> dict[str, list[str]]:
    """Return the three steps' command lines; their results go to `folder`."""

    def files(end: str, *names: str) -> list[str]:
        return [word for name in names for word in (f"--{name}", f"{folder}/{name}.{end}")]

    name, settings, records = ["--name", "bench"], ["--settings", json.dumps(SETTINGS)], files("parquet", "records")
    counts, facts, ingested = files("json", "counts"), files("json", "facts"), f"{folder}/ingested.parquet"
    quarantine, duplicates = files("jsonl", "quarantine"), files("jsonl", "duplicates")
    splits, ledger = files("jsonl", *SPLITS), files("ledger", "json", "html")
    words = {
        "ingest_records": [str(raw), *name, "--records", ingested, *counts, *quarantine],
        "split_records": [ingested, *counts, *records, *facts, *duplicates, *splits],
        "write_dataset_ledger": [*name, *records, *counts, *facts, *duplicates, *quarantine, *ledger],
    }
    common = [*settings, "--threads", str(processes)]
    return {
        step: [sys.executable, str(ROOT / "scripts/dataset" / f"{step}.py"), *arguments, *common]
        for step, arguments in words.items()
    }


def ours(raw: Path, rows: int, processes: int) -> dict[str, float]:
    """Run the three steps; return their seconds, all and of each, CPU seconds and the peak of the largest."""
    with tempfile.TemporaryDirectory(prefix="snaketune-") as folder:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        steps = {
            name: run(command, env=environment) for name, command in commands(raw, Path(folder), processes).items()
        }
        facts = read_json(Path(folder, "facts.json"))
        kept = sum(lines_of(Path(folder, f"{split}.jsonl")) for split in SPLITS)
    removed = sum(facts["duplicates"].values())
    assert (facts["read"], facts["kept"], facts["read"]) == (rows, kept, kept + removed), "a record is lost"
    assert removed > 0.5 * NEAR_DUPLICATES * rows, "near duplicates are found"
    return {
        "s": sum(step.seconds for step in steps.values()),
        "CPU s": sum(step.cpu_seconds for step in steps.values()),
        "MiB": max(step.mib for step in steps.values()),
        **{f"s of {name}": step.seconds for name, step in steps.items()},
    }


def datasets_alone(raw: Path, rows: int) -> dict[str, float]:
    """Load and render with `datasets`; return seconds, CPU seconds and MiB."""
    with tempfile.TemporaryDirectory(prefix="snaketune-") as folder:
        done = run([sys.executable, "-c", PEER, str(raw), folder], env=os.environ | {"HF_DATASETS_OFFLINE": "1"})
    assert int(done.output.split()[-1]) == rows
    return {"s": done.seconds, "CPU s": done.cpu_seconds, "MiB": done.mib}


def measure_growth(rows: int, times: int, rounds: int, processes: int) -> None:
    """Measure our steps on `rows` records and on `times` as many, in turn."""
    with tempfile.TemporaryDirectory(prefix="snaketune-") as folder:
        few, many = Path(folder, "few.jsonl"), Path(folder, "many.jsonl")
        write_raw(few, rows)
        write_raw(many, times * rows)

        def expected() -> dict[str, float]:
            found = ours(few, rows, processes)
            return found | {"s": times * found["s"]}

        compare(
            Goal("dataset_growth", f"dataset stage, {times * rows:,} chat records", "s", "<= 1.1"),
            {
                "ours": lambda: ours(many, times * rows, processes),
                f"{times} times the seconds of {rows:,}": expected,
            },
            rounds=rounds,
            versions=("pyarrow", "rensa", "numpy"),
            note="The goal is growth by the number of records; the other numbers of the second side are of one run",
        )


def main(argv=None) -> None:
    """Measure both sides in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=LIMITED, help="chat records (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="times that each side runs (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="of our steps (default: %(default)s)")
    parser.add_argument("--growth", type=int, help="compare with so many times as many records")
    arguments = parser.parse_args(argv)
    if arguments.growth:
        measure_growth(arguments.rows, arguments.growth, arguments.rounds, arguments.processes)
        return
    with tempfile.TemporaryDirectory(prefix="snaketune-") as folder:
        raw = Path(folder, "raw.jsonl")
        write_raw(raw, arguments.rows)
        mib = raw.stat().st_size / 2**20
        what = (
            f"dataset stage, {arguments.rows:,} chat records ({mib:.0f} MiB): checks, duplicates, leaks, split, ledger"
        )
        goals = [Goal("dataset", what, "s", f"<= {60 / 32:.3f}")]
        if arguments.rows == LIMITED:
            goals.append(Goal("dataset_seconds", f"{what}: limit of time", "s", "<= 1", limit=60))
            goals.append(Goal("dataset_memory", f"{what}: limit of memory", "MiB", "<= 1", limit=1.5e9 / 2**20))
        compare(
            goals,
            {
                "ours": lambda: ours(raw, arguments.rows, arguments.processes),
                "datasets: load and template": lambda: datasets_alone(raw, arguments.rows),
            },
            rounds=arguments.rounds,
            versions=("datasets", "pyarrow", "rensa", "numpy"),
            note="The goal of the ratio is 60 s where `datasets` takes 32 s",
        )


if __name__ == "__main__":
    main()
