"""How often a sweep promotes a run although no run is better than the base.

    python -m tests.benchmarks.statistics.bench_sweep

The gate is a mean difference from the base above 0, judged by its 95 % interval. A run's difference is 0 on average,
and independent of those of the other runs. "Each on test" judges every run on the test split, "chosen first" only the
best one on the validation split.
"""

import math

import numpy as np

from scripts.score.bootstrap import difference
from scripts.score.choose_run import best

RUNS = 30
METRIC = "rouge_l"  # a mean over records of which higher is better
LINE = "{:>5} {:>12} {:>8} {:>18} {:>18}"


def is_promoted(differences: np.ndarray, resamples: int) -> bool:
    """Return whether the interval of the mean of a run's differences, [records], lies above 0."""
    rows = differences[:, None].tolist()
    found = difference("mean", rows, [[0.0]] * len(rows), resamples)
    return found is not None and found.low is not None and found.low > 0


def sweep(generator: np.random.Generator, runs: int, validation: int, test: int, resamples: int) -> tuple[bool, bool]:
    """Simulate a sweep; return whether a run is promoted if each is judged on test, and if one is chosen first.

    `validation` and `test` are the numbers of records of the splits.
    """
    on_validation = generator.normal(size=(runs, validation)).mean(axis=1)
    promoted = [is_promoted(run, resamples) for run in generator.normal(size=(runs, test))]
    return any(promoted), promoted[best(on_validation.tolist(), METRIC)]


def promotion_rates(
    sweeps: int, runs: int = RUNS, validation: int = 50, test: int = 50, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Return the share of sweeps that promote a run: each judged on test, and one chosen on validation."""
    generator = np.random.default_rng(seed)
    each, chosen = np.mean([sweep(generator, runs, validation, test, resamples) for _ in range(sweeps)], axis=0)
    return float(each), float(chosen)


def main(sweeps: int = 1000) -> None:
    """Print the table."""
    print(f"{sweeps} sweeps without a better run: how often one is promoted, with the standard error")
    print(LINE.format("runs", "validation", "test", "each on test", "chosen first"))
    for runs, validation, test in ((2, 50, 50), (12, 50, 50), (RUNS, 50, 50), (RUNS, 50, 200)):
        rates = promotion_rates(sweeps, runs, validation, test)
        shown = [f"{100 * rate:.1f} % ± {100 * math.sqrt(rate * (1 - rate) / sweeps):.1f}" for rate in rates]
        print(LINE.format(runs, validation, test, *shown))


if __name__ == "__main__":
    main()
