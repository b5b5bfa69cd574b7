"""Seconds of a dry run of the demo and of a wide sweep, beside those of a workflow with one rule.

python tests/benchmarks/bench_dry_run.py --output tests/benchmarks/results/dry_run.md
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.support.project import ROOT, Project, run_snakemake

SMALLEST = 'rule all:\n    output: "done.txt"\n    shell: "touch {output}"\n'
SWEEP = "    sweep: {lora.r: [4, 8, 16, 32, 64], seed: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]}\n"


def seconds(folder: Path, repeats: int) -> str:
    """Return the median of the seconds that a dry run takes, and the range."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        done = run_snakemake(folder, "-n", "--quiet", "host", "reason", "rules")
        times.append(time.perf_counter() - start)
        assert done.returncode == 0, done.stdout
    return f"{statistics.median(times):.2f} | {min(times):.2f} to {max(times):.2f}"


def main(argv=None) -> int:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        smallest, wide = Path(name, "smallest"), Path(name, "wide")
        smallest.mkdir()
        (smallest / "Snakefile").write_text(SMALLEST, encoding="utf-8")
        wide.mkdir()
        project = Project.made_in(wide)
        text = (wide / "config/config.yaml").read_text(encoding="utf-8")
        project.write("config/config.yaml", text.replace("    lora: {", SWEEP + "    lora: {", 1))
        rows = [
            ("a workflow with one rule", smallest),
            ("the demo", ROOT),
            ("a sweep of 50 runs", wide),
        ]
        table = ["| dry run of | seconds, median | range |", "|---|---|---|"]
        table += [f"| {what} | {seconds(folder, arguments.repeats)} |" for what, folder in rows]
    text = "# Dry runs\n\n" + "\n".join(table) + "\n"
    print(text)
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
