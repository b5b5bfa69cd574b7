"""Minutes of the commands that a user types, in a fresh clone; writes docs/benchmarks.json, then docs/benchmarks.md.

    python -m tests.benchmarks.bench_times                        # all rows, as this machine is
    python -m tests.benchmarks.bench_times --avx2 demo again      # these rows, in the clone that is there
    python -m tests.benchmarks.bench_times --page                 # the page from the measurements, nothing measured

The clone is of the last commit of this checkout and stays in --folder for rows that are measured later. `setup` and
`ci` begin with a new one and an empty cache of pip, so that llama.cpp is built; downloads count. Nothing else should
run beside. `ci` installs Apptainer and Slurm as root unless they are there.
"""

import argparse
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MEASUREMENTS = ROOT / "docs/benchmarks.json"
# With these a CPU with AVX-512 chooses and computes as one without: torch's own kernels, oneDNN (bf16), MKL (fp32), and
# llama.cpp's build.
AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "CMAKE_ARGS": "-DGGML_NATIVE=OFF",
}
SETUP = ["make", ".venv/installed"]
ROWS = {
    "setup": ("set-up: `make .venv/installed`", SETUP),
    "demo": ("`make demo`, after set-up", ["make", "demo"]),
    "again": ("a second `make demo`", ["make", "demo"]),
    "test": ("`make test`, after set-up", ["make", "test"]),
    "ci": ("`.ci/run`, set-up included", [".ci/run"]),
}
SAID = ("commit", "date", "note")  # `note` is added by hand, for what a measurement does not meet
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
HEAD = """\
## Whole commands

Made by `python -m tests.benchmarks.bench_times`. Minutes in a fresh clone with nothing else running. Downloads count;
pip's cache is empty at first, so llama.cpp is compiled. "Limited to AVX2" means under
`ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2`, with which torch chooses and computes
as on a CPU without AVX-512, and with a llama.cpp for AVX2.
"""


def processor() -> str:
    """Return the CPU's name, the number of cores that this process may use, and the flags that decide on speed."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    name = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)[1]
    found = set(re.search(r"^flags\s*: (.*)$", text, re.MULTILINE)[1].split())
    return f"{len(os.sched_getaffinity(0))} cores of {name}: {', '.join(flag for flag in FLAGS if flag in found)}"


def clone(folder: Path) -> Path:
    """Clone the last commit of this checkout into a folder, which is emptied first, as is pip's cache beside it."""
    for old in (folder, folder.with_name("pip")):
        shutil.rmtree(old, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    return folder


def minutes(command: list[str], folder: Path, log: Path, avx2: bool) -> float:
    """Run a command in a folder, its output in a log; return the minutes it took. A failure ends this program."""
    env_vars = {**os.environ, "PIP_CACHE_DIR": str(folder.with_name("pip")), **(AVX2 if avx2 else {})}
    for name in ("VIRTUAL_ENV", "PYTHONPATH", "MAKEFLAGS", "MAKELEVEL"):
        env_vars.pop(name, None)
    started = time.monotonic()
    with open(log, "wb") as output:
        done = subprocess.run(command, cwd=folder, env=env_vars, stdout=output, stderr=subprocess.STDOUT)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed after {(time.monotonic() - started) / 60:.1f} minutes; see {log}")
    return (time.monotonic() - started) / 60


def measure(row: str, folder: Path, avx2: bool) -> dict:
    """Measure a row; return the measurement."""
    place = folder / ("ci" if row == "ci" else "clone")
    if row in ("setup", "ci") or not place.exists():
        clone(place)
    if row not in ("setup", "ci"):
        minutes(SETUP, place, folder / "setup.log", avx2)
    if row == "again":
        minutes(ROWS["demo"][1], place, folder / "demo.log", avx2)
    if row == "demo":
        subprocess.run(["make", "clean"], cwd=place, check=False, capture_output=True)
    taken = minutes(ROWS[row][1], place, folder / f"{row}.log", avx2)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=place, capture_output=True, text=True)
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    measured = {"row": row, "processor": processor(), "avx2": avx2, "minutes": round(taken, 1)}
    return {**measured, "commit": commit.stdout.strip(), "date": day}


def section(measurements: list[dict]) -> str:
    """Return the section of the page: a column for each processor, as it is and limited to AVX2."""
    columns = list(dict.fromkeys((found["processor"], found["avx2"]) for found in measurements))
    processors = list(dict.fromkeys(name for name, _ in columns))
    cells = {(found["row"], found["processor"], found["avx2"]): found for found in measurements}
    heads = [f"CPU {processors.index(name) + 1}{', limited to AVX2' if avx2 else ''}" for name, avx2 in columns]
    lines = ["| minutes of |" + "".join(f" {head} |" for head in heads), "|---|" + "---|" * len(columns)]
    for row, (what, _) in ROWS.items():
        found = [cells.get((row, *column)) for column in columns]
        text = [each and f"{each['minutes']} ({', '.join(each[key] for key in SAID if key in each)})" for each in found]
        lines.append(f"| {what} |" + "".join(f" {cell or ''} |" for cell in text))
    named = [f"- CPU {number}: {name}" for number, name in enumerate(processors, 1)]
    return HEAD + "\n" + "\n".join([*lines, "", *named]).rstrip() + "\n"


def main(argv=None) -> int:
    """Measure rows, keep the measurements, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; all by default")
    parser.add_argument("--avx2", action="store_true", help="under the variables that limit a CPU to AVX2")
    parser.add_argument("--page", action="store_true", help="measure nothing")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), "snaketune-times"))
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.rows) - ROWS.keys():
        parser.error(f"no row {', '.join(sorted(unknown))}; there are: {', '.join(ROWS)}")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    measurements = json.loads(MEASUREMENTS.read_text(encoding="utf-8"))
    for row in [] if arguments.page else arguments.rows or ROWS:
        new = measure(row, arguments.folder, arguments.avx2)
        print(f"{row}: {new['minutes']} minutes", flush=True)
        same = ("row", "processor", "avx2")
        measurements = [old for old in measurements if any(old[key] != new[key] for key in same)] + [new]
        MEASUREMENTS.write_text(json.dumps(measurements, indent=2) + "\n", encoding="utf-8")
    subprocess.run([sys.executable, "-m", "tests.benchmarks.page"], cwd=ROOT, check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
