"""Run what needs a GPU within ten minutes, the most important first; it installs nothing.

python -m tests.gpu.run_all --folder gpu_results

Each part has seconds of its own and writes its output to the folder; what it wrote before it was cut off stays.
Figures against TRL are also kept in tests/benchmarks/measured. `--scale tiny` runs the same parts on a CPU.
"""

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.cuda_cases import ROOT, device

BENCHMARK = "tests.benchmarks.bench_cuda_training"
# Name, seconds, and the options of the benchmark (none: the tests).
PARTS: tuple[tuple[str, int, list[str]], ...] = (
    ("trl_8b", 190, ["--cases", "lora-4096", "--rounds", "1", "--steps", "8"]),
    ("qlora_7b", 90, ["--steps", "8", "--recipes", "football.football"]),
    ("tests", 120, []),
    ("head_7b", 80, ["--steps", "8", "--recipes", "pii.pii"]),
    ("bf16_24b", 110, ["--steps", "8", "--recipes", "titles.titles"]),
)


def command_of(options: list[str], table: Path, scale: str) -> list[str]:
    """Return the command of a part: the benchmark with its options, or the tests."""
    if not options:
        return [sys.executable, "-m", "pytest", "-q", "tests/gpu"]
    output = ["--output", str(table)] if "--recipes" in options else []
    return [sys.executable, "-m", BENCHMARK, *options, *output, "--scale", scale]


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
    if arguments.scale == "real" and device() is None:
        print("There is no CUDA GPU: nothing was run. `--scale tiny` runs the same parts without one.")
        return 0
    ends = []
    for name, seconds, options in PARTS:
        command = command_of(options, folder / f"{name}.md", arguments.scale)
        ends.append(run_part(command, folder / f"{name}.log", seconds))
        print(f"{name}: {ends[-1]}", flush=True)
    return int(any(end != "done" for end in ends))


if __name__ == "__main__":
    sys.exit(main())
