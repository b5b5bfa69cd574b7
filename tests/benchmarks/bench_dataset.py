"""Speed and peak memory of the dataset stage at several sizes: memory that barely grows means that it streams.

python -m tests.benchmarks.bench_dataset --rows 20000 200000 --output tests/benchmarks/results/dataset.md
"""

import argparse
import json
import os
import random
import sys
import tempfile
from pathlib import Path

from tests.support.dataset_steps import settings_of

ROOT = Path(__file__).parents[2]
SYLLABLES = ["ba", "do", "ri", "men", "tal", "vo", "sé", "qui", "lo", "gar", "né", "par", "tu", "fi", "chan", "ro"]
NEAR_DUPLICATES = 0.05
SETTINGS = settings_of(label="type")


def write_raw(path: Path, rows: int) -> None:
    """Write so many chats of about 350 characters, some of which nearly repeat the one before."""
    rng = random.Random(rows)
    text = ""
    with open(path, "w", encoding="utf-8") as file:
        for number in range(rows):
            if number and rng.random() < NEAR_DUPLICATES:
                text += " !"
            else:
                text = " ".join("".join(rng.choices(SYLLABLES, k=rng.randint(1, 3))) for _ in range(50))
            turns = [{"role": "user", "content": f"Raconte {number}."}, {"role": "assistant", "content": text}]
            record = {"messages": turns, "type": rng.choice(["but", "carton", "commentaire"])}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def measured(script: str, arguments: list[str]) -> tuple[float, float]:
    """Run a step in a process of its own; return seconds of CPU time and peak resident memory in MiB."""
    command = [sys.executable, str(ROOT / "scripts" / "dataset" / script), *arguments]
    child = os.posix_spawn(sys.executable, command, os.environ | {"PYTHONPATH": str(ROOT)})
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"{script} failed")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def measure_stage(rows: int, folder: Path) -> dict[str, tuple[float, float]]:
    """Run the three steps on so many rows; return CPU seconds and MiB of each."""
    write_raw(folder / "raw.jsonl", rows)

    def files(end: str, *names: str) -> list[str]:
        return [word for name in names for word in (f"--{name}", f"{folder}/{name}.{end}")]

    name, settings, records = ["--name", "bench"], ["--settings", json.dumps(SETTINGS)], files("parquet", "records")
    counts, facts, ingested = files("json", "counts"), files("json", "facts"), f"{folder}/ingested.parquet"
    quarantine, duplicates = files("jsonl", "quarantine"), files("jsonl", "duplicates")
    splits, ledger = files("jsonl", "train", "validation", "test"), files("ledger", "json", "html")
    words = {
        "ingest_records": [f"{folder}/raw.jsonl", *name, *settings, "--records", ingested, *counts, *quarantine],
        "split_records": [ingested, *settings, *counts, *records, *facts, *duplicates, *splits],
        "write_dataset_ledger": [
            *name,
            *settings,
            *records,
            *counts,
            *facts,
            *duplicates,
            *quarantine,
            *ledger,
        ],
    }
    return {step: measured(f"{step}.py", arguments) for step, arguments in words.items()}


def result_table(results: dict[int, dict[str, tuple[float, float]]]) -> str:
    """Return the results as a Markdown page with the ratio of the largest to the smallest size."""
    small, large = min(results), max(results)
    command = f"python -m tests.benchmarks.bench_dataset --rows {' '.join(map(str, results))}"
    lines = [
        "# The dataset stage: speed and memory",
        "",
        f"Made by `{command}`:",
        f"chats of about 350 characters, {NEAR_DUPLICATES:.0%} of them near duplicates; each step is its own process.",
        "Seconds are of CPU time; peak memory is the resident set, libraries included.",
        "",
        "| step | rows | CPU s | rows/CPU s | peak MiB |",
        "|---|---:|---:|---:|---:|",
    ]
    for rows, steps in results.items():
        for step, (seconds, mib) in steps.items():
            lines.append(f"| {step} | {rows} | {seconds:.1f} | {rows / seconds:.0f} | {mib:.0f} |")
    lines += ["", f"From {small} to {large} rows (x {large / small:.0f}):", ""]
    for step in results[small]:
        (before, low), (after, high) = results[small][step], results[large][step]
        added = (high - low) * 2**20 / max(large - small, 1)
        growth = f"peak memory x {high / low:.2f}, {max(added, 0):.0f} bytes a further row"
        lines.append(f"- {step}: CPU time x {after / before:.1f}, {growth}")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 200_000], help="sizes")
    parser.add_argument("--output", type=Path, help="Markdown file to write")
    arguments = parser.parse_args()
    results = {}
    for rows in arguments.rows:
        with tempfile.TemporaryDirectory(prefix="snaketune-") as folder:
            results[rows] = measure_stage(rows, Path(folder))
    table = result_table(results)
    print(table)
    if arguments.output:
        arguments.output.write_text(table, encoding="utf-8")


if __name__ == "__main__":
    main()
