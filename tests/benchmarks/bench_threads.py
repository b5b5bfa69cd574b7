"""How waiting threads slow down jobs that share cores: several training loops at once, threads that spin or that sleep.

python -m tests.benchmarks.bench_threads --jobs 1 2 3
"""

import argparse
import os
import subprocess
import sys
import time

from scripts.common.threads import OPENMP

LOOP = """
import torch
torch.set_num_threads(2)
layers = [layer for _ in range(4) for layer in (torch.nn.Linear(256, 512), torch.nn.GELU(), torch.nn.Linear(512, 256))]
model = torch.nn.Sequential(*layers)
optimizer = torch.optim.AdamW(model.parameters())
rows = torch.randn(1024, 256)
for _ in range(60):
    model(rows).pow(2).mean().backward()
    optimizer.step()
    optimizer.zero_grad()
"""


SLEEPING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
SPINNING = {"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": "infinity"}


def seconds(jobs: int, variables: dict[str, str]) -> float:
    """Return how long `jobs` loops of two threads each take at once, start-up included."""
    environment = {**os.environ, **variables}
    started = time.monotonic()
    running = [subprocess.Popen([sys.executable, "-c", LOOP], env=environment) for _ in range(jobs)]
    if any(process.wait() for process in running):
        raise SystemExit("a loop failed")
    return time.monotonic() - started


def main() -> None:
    """Print a table of ratios, made in one run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2, 3])
    print(f"{os.cpu_count()} cores\n\n| jobs of 2 threads at once | ours / sleeping | spinning / sleeping |")
    print("|---|---|---|")
    for jobs in parser.parse_args().jobs:
        sleeping, ours, spinning = (seconds(jobs, variables) for variables in (SLEEPING, OPENMP, SPINNING))
        print(f"| {jobs} | {ours / sleeping:.2f} | {spinning / sleeping:.2f} |", flush=True)


if __name__ == "__main__":
    main()
