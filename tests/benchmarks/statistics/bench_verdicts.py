"""How often verdicts and marks are wrong where nothing differs, and whether the records asked for suffice.

python -m tests.benchmarks.statistics.bench_verdicts --trials 1000
"""

import argparse

import numpy as np

from scripts.score.board import shown_to_differ
from scripts.score.gates import judge_gates
from scripts.score.interval_kinds import Interval
from scripts.score.intervals import difference, interval
from tests.benchmarks.statistics.simulate import percent, print_table, rows

GATE = {"relative": False, "on_failure": "rollback", "looks": 1, "comparison": "above", "threshold": 0.0}


def rollbacks(gates: int, trials: int, records: int = 100) -> float:
    """Return how often a run that equals its baseline has a failed rollback gate, with so many gates."""

    def null(seed: int, number: int) -> Interval:
        rng = np.random.default_rng([seed, number])
        return difference("mean", rows(rng.normal(size=records)), rows(rng.normal(size=records)), resamples=2000)

    failed = 0
    for seed in range(trials):
        found = {f"gate{number}": null(seed, number) for number in range(gates)}
        failed += any(entry["outcome"] == "failed" for entry in judged(found))
    return failed / trials


def judged(found: dict[str, Interval]) -> list[dict]:
    """Return the entries of gates with these intervals."""
    gates = {name: {**GATE, "metric": "chrf", "variant": "q4_k_m", "baseline": "base"} for name in found}
    return judge_gates(gates, found)


def marked_pages(marks: int, trials: int, records: int = 100) -> float:
    """Return the share of pages with a wrong mark, where so many differences are marked and none exists."""
    wrong = 0
    for seed in range(trials):
        rng = np.random.default_rng([7, seed])
        base = rows(rng.normal(size=records))
        variants = [rows(rng.normal(size=records)) for _ in range(marks)]
        wrong += any(shown_to_differ([difference("mean", own, base, resamples=2000) for own in variants]))
    return wrong / trials


def promotions(looks: int, declared: int, trials: int, records: int = 50) -> float:
    """Return how often a run no better than its baseline passes its gate in one of so many looks at a growing split."""
    promoted = 0
    level = 1 - 0.05 / declared
    for seed in range(trials):
        values = np.random.default_rng([3, seed]).normal(size=records * looks)
        grown = (values[: records * (look + 1)] for look in range(looks))
        promoted += any(interval("mean", rows(seen), resamples=0).side(0.0, level) == 1 for seen in grown)
    return promoted / trials


def power_of_needed(kind: str, trials: int, pilot: int = 200) -> tuple[int, float]:
    """Return (records that a gate asks for, how often it then passes), for a pilot that found just the true value."""
    if kind == "mean 0.3 standard deviations above":
        first = np.random.default_rng(0).normal(size=30)
        first = 0.3 + (first - first.mean()) / first.std(ddof=1)
        needed = interval("mean", rows(first), resamples=2000).needed(0.0)
        draws = (interval("mean", rows(rng.normal(0.3, 1, needed)), resamples=2000) for rng in generators(trials))
        return needed, np.mean([found.side(0.0) == 1 for found in draws])
    if kind == "share of 0.85 above 0.8":
        needed = interval("yes_no", rows(np.arange(pilot) < 0.85 * pilot), None, True).needed(0.8)
        draws = (interval("yes_no", rows(rng.random(needed) < 0.85), None, True) for rng in generators(trials))
        return needed, np.mean([found.side(0.8) == 1 for found in draws])
    if kind == "paired shares, 15 % gained and 8 % lost":
        kinds = np.repeat([1, -1, 0], [0.15 * pilot, 0.08 * pilot, 0.77 * pilot + 0.5])
        needed = paired(kinds).needed(0.0)
        draws = (paired(rng.choice([1, -1, 0], size=needed, p=[0.15, 0.08, 0.77])) for rng in generators(trials))
        return needed, np.mean([found.side(0.0) == 1 for found in draws])
    if kind == "rare repetition, below 0.1":
        needed = interval("mean", rows([0.05] + [0.0] * 23), None, True, resamples=2000).needed(0.1)
        draws = (interval("mean", rows(0.05 * (rng.random(needed) < 1 / 24)), None, True) for rng in generators(trials))
        return needed, np.mean([found.side(0.1) == -1 for found in draws])
    first = np.array([1.0] * 97 + [9.0] * 3)  # 97 % of the answers take less than 5 s, wanted of 95 %
    needed = interval("p95", rows(first)).needed(5.0)
    draws = (interval("p95", rows(np.where(rng.random(needed) < 0.97, 1.0, 9.0))) for rng in generators(trials))
    return needed, np.mean([found.side(5.0) == -1 for found in draws])


POWERS = (
    "mean 0.3 standard deviations above",
    "share of 0.85 above 0.8",
    "paired shares, 15 % gained and 8 % lost",
    "rare repetition, below 0.1",
    "95th percentile below 5 s, which 97 % are",
)


def paired(turned: np.ndarray) -> Interval:
    """Return the difference of paired yes and no: 1 gained, -1 lost, 0 equal."""
    return difference("yes_no", rows(turned >= 0), rows(turned <= 0), None, True)


def generators(trials: int):
    return (np.random.default_rng([5, seed]) for seed in range(trials))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000)
    trials = parser.parse_args().trials
    lines = []
    for gates in (1, 10):
        lines.append([f"a run equal to its baseline, {gates} rollback gates", "rolled back", rollbacks(gates, trials)])
    for marks in (1, 12, 40):
        lines.append([f"a page of {marks} marks, nothing differs", "has a wrong mark", marked_pages(marks, trials)])
    for looks, declared in ((1, 1), (20, 1), (20, 20)):
        case = f"{looks} looks at a growing split, `looks: {declared}`"
        lines.append([case, "promoted once", promotions(looks, declared, trials)])
    lines = [[*line, percent(share)] for *line, share in lines]
    print_table("Nothing differs", ["case", "outcome", "%"], lines)
    lines = [[kind, *power_of_needed(kind, trials)] for kind in POWERS]
    lines = [[kind, needed, percent(power)] for kind, needed, power in lines]
    print_table("The records asked for, where 80 % was wanted", ["gate", "records", "passes, %"], lines)


if __name__ == "__main__":
    main()
