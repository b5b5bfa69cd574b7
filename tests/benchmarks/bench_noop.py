"""`snakemake` on the finished demo, where nothing is to be done, beside Snakemake on finished trivial rules.

python -m tests.benchmarks.bench_noop

The demo's outputs are empty files that `snakemake --touch` records as made: what decides that nothing is to be done are
times, settings and code, not content. The trivial rules have the same jobs and files (see trivial_workflow.py).
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.compare import ROOT, Goal, compare, run
from tests.benchmarks.trivial_workflow import outputs_of, trivial_rules

SNAKEMAKE = Path(sys.executable).with_name("snakemake")
PARTS = ("rules", "scripts", "envs", "containers", "profiles", "config", "data", "docs")


def snakemake(folder: Path, *words: str):
    """Run snakemake in a folder with the modules of that folder, and measure it."""
    return run([SNAKEMAKE, "--cores", "2", *words], cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)})


def finish(folder: Path, outputs: list[str]) -> None:
    """Make the outputs as empty files, and let Snakemake record them."""
    for path in (folder / output for output in outputs):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    snakemake(folder, "--touch")


def idle(folder: Path) -> dict[str, float]:
    """Measure a call that finds nothing to do."""
    done = snakemake(folder)
    assert "Nothing to be done" in done.output, done.output
    return {"s": done.seconds, "CPU s": done.cpu_seconds, "MiB": done.mib}


def main(argv=None) -> int:
    """Measure both, in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="snaketune-noop-") as name:
        demo, trivial = Path(name, "demo"), Path(name, "trivial")
        demo.mkdir()
        trivial.mkdir()
        shutil.copy(ROOT / "Snakefile", demo)
        for part in PARTS:
            shutil.copytree(ROOT / part, demo / part)
        plan = snakemake(demo, "-n", "-p").output
        (trivial / "Snakefile").write_text(trivial_rules(plan), encoding="utf-8")
        (trivial / "data").symlink_to(demo / "data")
        for folder in (demo, trivial):
            finish(folder, outputs_of(plan))
        compare(
            Goal("noop", "`snakemake` on the finished demo, with nothing to be done", "s", "<= 1.5"),
            {"ours": lambda: idle(demo), "Snakemake, trivial rules": lambda: idle(trivial)},
            rounds=arguments.rounds,
            versions=["snakemake"],
            note="The same jobs and files, without functions, parameters and environments.",
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
