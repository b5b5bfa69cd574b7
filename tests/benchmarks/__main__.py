"""Run the benchmarks that need no accelerator, one after the other, and write docs/benchmarks.md.

python -m tests.benchmarks            # all
python -m tests.benchmarks scoring    # bench_scoring only
"""

import argparse
import subprocess
import sys
from pathlib import Path

# Programs of this folder that end with `compare`, in the order in which they run.
PROGRAMS = (
    "training", "tokenize", "dataset", "near_duplicates", "head", "merge", "gguf", "llama_answers",
    "transformers_answers", "scoring", "dry_run", "noop", "demo",
)  # fmt: skip


def main(argv=None) -> int:
    """Run programs and write the page; return 1 if a program ended with an error. A missed goal is not an error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", nargs="*", metavar="NAME", help=f"of {', '.join(PROGRAMS)}; all by default")
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.programs) - set(PROGRAMS):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(PROGRAMS)}")
    failed = []
    for name in arguments.programs or PROGRAMS:
        command = [sys.executable, "-m", f"tests.benchmarks.bench_{name}"]
        print(f"== {name}", flush=True)
        if subprocess.run(command, cwd=Path(__file__).parents[2]).returncode:
            failed.append(name)
    subprocess.run([sys.executable, "-m", "tests.benchmarks.page"], cwd=Path(__file__).parents[2], check=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
