"""Milliseconds of a call of the monitor of production by durability, and rows lost through kill -9.

python -m tests.benchmarks.bench_monitor --folder /tmp
"""

import argparse
import random
import tempfile
import time
from pathlib import Path

import numpy as np

from scripts.deploy.quality_monitor import ABTestMonitor
from tests.support.monitor_writers import write_with_kills

PHRASES = (r"quel(le)? (match|but|action)", r"il faut dire que", r"l'ambiance est", r"au bout du suspense")


def texts() -> list[str]:
    """Return commentaries of about 30 words."""
    rng = random.Random(0)
    words = "le ballon passe devant la cage et l'arbitre siffle hors-jeu quand Koné frappe du gauche à la 45'+2"
    return [" ".join(rng.choices(words.split(), k=max(5, round(rng.gauss(30, 10))))) for _ in range(1000)]


def cost(folder: Path, synchronous: str, calls: int) -> list[float]:
    """Return the milliseconds of `log_metric`: median, 99th percentile; then the median of `decision`."""
    monitor = ABTestMonitor(
        folder / f"{synchronous}.sqlite", language="fr", generic_phrases=PHRASES, synchronous=synchronous
    )
    seconds, asked = [], []
    for call, text in zip(range(calls), texts() * (calls // 1000 + 1), strict=False):
        start = time.perf_counter()
        monitor.log_metric(model=monitor.assign(call), text=text, gen_time=0.5)
        between = time.perf_counter()
        monitor.decision()
        seconds.append(between - start)
        asked.append(time.perf_counter() - between)
    return [1000 * float(value) for value in (*np.quantile(seconds, [0.5, 0.99]), np.median(asked))]


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: that of temporary files")
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--rows", type=int, default=10_000, help="of each of the ten processes")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        print("| synchronous | median ms | 99 % | decision, median ms | after a power cut |\n|---|---|---|---|---|")
        for synchronous, lost in (
            ("OFF", "the file may be damaged"),
            ("NORMAL", "the last calls may be lost"),
            ("FULL", "nothing is lost"),
        ):
            values = " | ".join(f"{value:.2f}" for value in cost(Path(name), synchronous, arguments.calls))
            print(f"| {synchronous} | {values} | {lost} |", flush=True)
        found = write_with_kills(Path(name) / "killed.sqlite", 10, arguments.rows, 20)
        print(f"\n10 processes, 20 kills (SIGKILL): {found}")


if __name__ == "__main__":
    main()
