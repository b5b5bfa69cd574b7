"""Run what needs a GPU within ten minutes, the most important first; it installs nothing.

python -m tests.gpu.run_all --folder gpu_results

Each part has seconds of its own and writes its output to the folder; what it wrote before it was cut off stays.
`--scale tiny` runs the same parts on a CPU.
"""

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Name, seconds, and the recipe's run that is measured (none: the tests).
PARTS = (
    ("qlora_7b", 130, "football.football"),
    ("qlora_8b", 130, "captions.captions"),
    ("tests", 120, None),
    ("head_7b", 90, "pii.pii"),
    ("bf16_24b", 120, "titles.titles"),
)


def command_of(run: str | None, table: Path, scale: str) -> list[str]:
    """Return the command of a part: a recipe's run, or the tests."""
    if run is None:
        return [sys.executable, "-m", "pytest", "-q", "tests/gpu"]
    words = ["--recipes", run, "--steps", "8", "--scale", scale, "--output", str(table)]
    return [sys.executable, "-m", "tests.benchmarks.bench_gpu_training", *words]


def run_part(command: list[str], log: Path, seconds: float) -> str:
    """Run a command in a process group of its own, which is ended after so many seconds; return how it ended."""
    with open(log, "wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, start_new_session=True)
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"cut off after {seconds} s"
    return "done" if status == 0 else f"failed with status {status}"


def main(argv=None) -> int:
    """Run all parts and print how each ended; return 1 unless all are done."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="where outputs and tables go")
    parser.add_argument("--scale", choices=("real", "tiny"), default="real")
    arguments = parser.parse_args(argv)
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    ends = []
    for name, seconds, run in PARTS:
        command = command_of(run, folder / f"{name}.md", arguments.scale)
        ends.append(run_part(command, folder / f"{name}.log", seconds))
        print(f"{name}: {ends[-1]}", flush=True)
    return int(any(end != "done" for end in ends))


if __name__ == "__main__":
    sys.exit(main())
