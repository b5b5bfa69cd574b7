"""How waiting threads slow down jobs that share cores: several training loops at once, threads that spin or that sleep.

python tests/benchmarks/bench_threads.py --jobs 1 2 4
"""

import argparse
import os
import subprocess
import sys
import time

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


def seconds(jobs: int, policy: str) -> float:
    """Return how long `jobs` loops of two threads each take at once, start-up included."""
    environment = {**os.environ, "OMP_WAIT_POLICY": policy}
    started = time.monotonic()
    running = [subprocess.Popen([sys.executable, "-c", LOOP], env=environment) for _ in range(jobs)]
    if any(process.wait() for process in running):
        raise SystemExit("a loop failed")
    return time.monotonic() - started


def main() -> None:
    """Print a table of ratios, made in one run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2, 4])
    print(f"{os.cpu_count()} cores\n\n| jobs of 2 threads at once | spinning / sleeping |\n|---|---|")
    for jobs in parser.parse_args().jobs:
        sleeping, spinning = seconds(jobs, "PASSIVE"), seconds(jobs, "ACTIVE")
        print(f"| {jobs} | {spinning / sleeping:.1f} |", flush=True)


if __name__ == "__main__":
    main()
