"""A dry run of a sweep beside Snakemake's dry run of trivial rules with the same jobs and files.

python -m tests.benchmarks.bench_dry_run                      # 50, 200 and 1,000 runs
python -m tests.benchmarks.bench_dry_run --runs 50 --rounds 1
"""

import argparse
import os
import re
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.compare import Goal, compare, run
from tests.benchmarks.trivial_workflow import sweep_project, trivial_sweep

SNAKEMAKE = Path(sys.executable).with_name("snakemake")


def planned(folder: Path, jobs: set[int]) -> dict[str, float]:
    """Measure a dry run in a folder, and add the number of its jobs without the target to `jobs`."""
    words = [SNAKEMAKE, "-n", "--cores", "2"]
    done = run(words, cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)})
    ours, trivial = re.search(r"(\d+) jobs would run", done.output), re.search(r"(?m)^total +(\d+)$", done.output)
    jobs.add(int(ours[1]) if ours else int(trivial[1]) - 1)
    return {"s": done.seconds, "CPU s": done.cpu_seconds, "MiB": done.mib}


def check_plans(jobs: set[int]) -> None:
    """Raise SystemExit unless all plans have the same number of jobs."""
    if len(jobs) != 1:
        raise SystemExit(f"the plans differ in their jobs: {jobs}")


def main(argv=None) -> int:
    """Measure each number of runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[50, 200, 1000], help="even numbers of runs of a sweep")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="snaketune-dry-run-") as name:
        plan = sweep_project(Path(name, "two"), 2).snakemake("-n", "-p").stdout
        for runs in arguments.runs:
            ours = sweep_project(Path(name, f"ours{runs}"), runs).folder
            trivial = trivial_sweep(Path(name, f"trivial{runs}"), plan, runs)
            for part in ("data", "review"):
                (trivial / part).symlink_to(ours / part)
            jobs: set[int] = set()
            compare(
                Goal(f"dry_run_{runs}", f"`snakemake -n` for a sweep of {runs:,} runs", "s", "<= 1.3"),
                {
                    "ours": lambda folder=ours, jobs=jobs: planned(folder, jobs),
                    "Snakemake, trivial rules": lambda folder=trivial, jobs=jobs: planned(folder, jobs),
                },
                rounds=arguments.rounds,
                check=lambda _, jobs=jobs: check_plans(jobs),
                versions=["snakemake"],
                note="The trivial rules have the same jobs, files, logs, benchmarks, threads, memory and time, "
                "without functions, parameters and environments.",
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
