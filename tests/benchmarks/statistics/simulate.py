"""What the simulations share: data with a known truth, and how often intervals hold it."""

import math
from collections.abc import Callable

import numpy as np
from scipy.special import ndtr

from scripts.score.interval_kinds import Interval


def coverage(draw: Callable[[np.random.Generator], Interval | None], truth: float, trials: int) -> dict[str, float]:
    """Return the share of intervals that hold the truth, that lie above it, and their mean width.

    `draw` makes data and returns its interval. A limit that is missing is infinite.
    """
    held = above = 0
    widths = []
    for seed in range(trials):
        low, high = draw(np.random.default_rng(seed)).limits()
        low, high = -math.inf if low is None else low, math.inf if high is None else high
        held += low <= truth <= high
        above += low > truth
        widths.append(high - low)
    return {"held": held / trials, "above": above / trials, "width": float(np.mean(widths))}


def clustered(rng: np.random.Generator, groups: int, size: int, correlation: float) -> tuple[np.ndarray, list[str]]:
    """Return standard normal values with an intraclass correlation, [groups * size], and the group of each."""
    shared = rng.normal(size=(groups, 1)) * math.sqrt(correlation)
    values = shared + rng.normal(size=(groups, size)) * math.sqrt(1 - correlation)
    return values.ravel(), [f"g{group}" for group in range(groups) for _ in range(size)]


def yes_no(values: np.ndarray, share: float) -> list[list[int]]:
    """Return rows of 1 for the lowest `share` of standard normal values, else 0."""
    return [[int(below)] for below in ndtr(values) < share]


def rows(values) -> list[list[float]]:
    """Return a row of one number for each value."""
    return [[float(value)] for value in values]


def lengths(values) -> list[list[float]]:
    """Return the rows of the length variation."""
    return [[float(value), float(value) ** 2] for value in values]


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def print_table(title: str, header: list[str], lines: list[list]) -> None:
    """Print a table in Markdown."""
    print(f"\n{title}\n\n| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for line in lines:
        print(f"| {' | '.join(map(str, line))} |")
