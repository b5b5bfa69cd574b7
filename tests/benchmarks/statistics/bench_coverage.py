"""How often the 95 % intervals of scores hold the truth: groups, counts, skewed means, length variation, percentiles.

python -m tests.benchmarks.statistics.bench_coverage --trials 1000
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np

from scripts.score.intervals import difference, interval
from tests.benchmarks.statistics.simulate import clustered, coverage, lengths, percent, print_table, rows, yes_no

PII = Path(__file__).parents[3] / "data/pii/records.jsonl"
CELLS = [(20, 10), (4, 50), (10, 20), (40, 5)]


def grouped_mean(groups: int, size: int, trials: int, correlation: float = 0.3, counted: bool = True) -> dict:
    """Return the coverage of a mean of records in groups; `counted`: by groups, else as if there were none."""

    def draw(rng):
        values, names = clustered(rng, groups, size, correlation)
        return interval("mean", rows(values), names if counted else None)

    return coverage(draw, 0.0, trials)


def grouped_share(groups: int, size: int, share: float, trials: int, correlation: float = 0.3) -> dict:
    """Return the coverage of a proportion of records in groups."""

    def draw(rng):
        values, names = clustered(rng, groups, size, correlation)
        return interval("yes_no", yes_no(values, share), names, True)

    return coverage(draw, share, trials)


def pii_f1(templates: int, trials: int, counted: bool = True) -> dict:
    """Return the coverage of an F1 on texts of the pii data, of whose templates a sample is the test split.

    Whether an entity is found depends on its template (a Beta distribution of its share with mean 0.85), as it does for
    a model that knows some wordings and not others. The truth is that of all templates.
    """
    counts: dict[str, list[int]] = {}
    for line in PII.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        counts.setdefault(row["template"], []).append(len(row["spans"]))
    world = np.random.default_rng(0)
    skill = {name: world.beta(1.7, 0.3) for name in counts}
    found = sum(skill[name] * sum(each) for name, each in counts.items())
    total = sum(map(sum, counts.values()))
    # As many wrong entities as missed ones, so F1 is the share of found ones.
    names = sorted(counts)

    def draw(rng):
        drawn = rng.choice(len(names), size=templates, replace=True)
        table, members = [], []
        for number, place in enumerate(drawn):
            for size in counts[names[place]]:
                hits = int(rng.binomial(size, skill[names[place]]))
                table.append([hits, size - hits, size - hits])
                members.append(str(number))
        return interval("f1", table, members if counted else None, True)

    return coverage(draw, found / total, trials)


def length_variation(records: int, trials: int, sigma: float = 0.4) -> dict:
    """Return the coverage of the variation of lengths that are lognormal whole numbers around 20 words."""
    truth = np.maximum(1, np.round(np.random.default_rng(9).lognormal(3, sigma, 1_000_000)))

    def draw(rng):
        return interval("variation", lengths(np.maximum(1, np.round(rng.lognormal(3, sigma, records)))))

    return coverage(draw, float(truth.std() / truth.mean()), trials)


def skewed_mean(records: int, trials: int) -> dict:
    """Return the coverage of the mean of lognormal values (sigma 1)."""
    return coverage(lambda rng: interval("mean", rows(rng.lognormal(0, 1, records))), math.exp(0.5), trials)


def proportion(records: int, share: float, trials: int) -> dict:
    """Return the coverage of a proportion of independent records."""
    return coverage(lambda rng: interval("yes_no", rows(rng.random(records) < share), None, True), share, trials)


def paired_proportions(records: int, trials: int, gained: float = 0.15, lost: float = 0.1) -> dict:
    """Return the coverage of the difference of two proportions of the same records."""

    def draw(rng):
        kind = rng.choice(4, size=records, p=[gained, lost, 0.5, 0.5 - gained - lost])
        return difference("yes_no", rows((kind == 0) | (kind == 2)), rows((kind == 1) | (kind == 2)), None, True)

    return coverage(draw, gained - lost, trials)


def percentile(records: int, trials: int) -> dict:
    """Return the coverage of the 95th percentile of lognormal seconds."""
    return coverage(lambda rng: interval("p95", rows(rng.lognormal(0, 0.5, records))), math.exp(0.5 * 1.644854), trials)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000)
    trials = parser.parse_args().trials

    def line(what: str, found: dict) -> list:
        return [what, percent(found["held"]), percent(found["above"]), f"{found['width']:.3f}"]

    lines = []
    for groups, size in CELLS:
        cell = f"{groups} groups of {size}"
        lines.append(line(f"mean, {cell}, groups ignored", grouped_mean(groups, size, trials, counted=False)))
        lines.append(line(f"mean, {cell}", grouped_mean(groups, size, trials)))
        lines += [line(f"share of {p}, {cell}", grouped_share(groups, size, p, trials)) for p in (0.5, 0.8, 0.97)]
    for groups, size in ((6, 200), (13, 77)):
        what = f"share of 0.98, {groups} groups of {size}, intraclass correlation 0.5"
        lines.append(line(what, grouped_share(groups, size, 0.98, trials, 0.5)))
    header = ["intraclass correlation 0.3", "truth held, %", "interval above the truth, %", "mean width"]
    print_table("Groups", header, lines)
    lines = [line(f"{templates} templates", pii_f1(templates, trials)) for templates in (6, 13, 38)]
    lines += [line("13 templates, groups ignored", pii_f1(13, trials, counted=False))]
    print_table("F1 on the pii templates", ["test split", *header[1:]], lines)
    lines = []
    for n in (24, 50, 200):
        lines.append(line(f"length variation, n = {n}", length_variation(n, trials)))
        lines.append(line(f"mean of lognormal values, n = {n}", skewed_mean(n, trials)))
        lines.append(line(f"share of 0.95, n = {n}", proportion(n, 0.95, trials)))
        lines.append(line(f"paired shares, n = {n}", paired_proportions(n, trials)))
    lines += [line(f"95th percentile, n = {n}", percentile(n, trials)) for n in (50, 72, 200)]
    print_table("Single records", ["what", *header[1:]], lines)


if __name__ == "__main__":
    main()
