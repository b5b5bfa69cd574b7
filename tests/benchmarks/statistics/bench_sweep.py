"""How often a sweep promotes a run although no run is better than the base.

python -m tests.benchmarks.statistics.bench_sweep --trials 1000

The gate is a mean difference from the base above 0. A run's difference is 0 on average, and independent of those of the
other runs. "Each on test" judges every run on the test split, "chosen first" only the best one on the validation split.
"""

import argparse

import numpy as np

from scripts.score.choose_run import best
from scripts.score.intervals import interval
from tests.benchmarks.statistics.simulate import percent, print_table, rows

METRIC = "rouge_l"  # a mean over records of which higher is better


def is_promoted(differences: np.ndarray, resamples: int) -> bool:
    """Return whether the interval of the mean of a run's differences, [records], lies above 0."""
    return interval("mean", rows(differences), resamples=resamples).side(0.0) == 1


def promotions(runs: int, trials: int, records: int = 50, resamples: int = 2000) -> tuple[float, float]:
    """Return the share of sweeps that promote a run: with each judged on test, and with one chosen on validation."""
    each = chosen = 0
    for seed in range(trials):
        rng = np.random.default_rng([11, seed])
        on_validation, on_test = rng.normal(size=(2, runs, records))
        promoted = [is_promoted(run, resamples) for run in on_test]
        each += any(promoted)
        chosen += promoted[best(on_validation.mean(axis=1).tolist(), METRIC)]
    return each / trials, chosen / trials


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000, help="sweeps for each line")
    trials = parser.parse_args().trials
    lines = [[runs, *map(percent, promotions(runs, trials))] for runs in (2, 12, 30)]
    header = ["runs, none better than the base", "each on test: one promoted, %", "chosen first: promoted, %"]
    print_table(f"{trials} sweeps, 50 records in each split", header, lines)


if __name__ == "__main__":
    main()
