"""Exact intervals of counts, and how many records a test of a count needs.

Clopper and Pearson (1934, Biometrika 26(4)) for one proportion; McNemar's exact test (1947, Psychometrika 12(2)) and
Tango's score interval (1998, Statistics in Medicine 17(8)) for the difference of two proportions of the same records.
"""

import math

import numpy as np
from scipy.special import bdtr, bdtrc, betaincinv, ndtri

POWER = 0.8
MOST_RECORDS = 10_000_000


def clopper_pearson(hits: float, trials: float, level: float) -> tuple[float, float]:
    """Return the exact limits of a proportion. `hits` and `trials` may be fractions, as an effective sample is."""
    tail = (1 - level) / 2
    low = 0.0 if hits <= 0 else float(betaincinv(hits, trials - hits + 1, tail))
    high = 1.0 if hits >= trials else float(betaincinv(hits + 1, trials - hits, 1 - tail))
    return low, high


def mcnemar(gained: int, lost: int) -> float:
    """Return the two-sided p-value of McNemar's exact test, from the records that only one side has right."""
    pairs = gained + lost
    return 1.0 if not pairs else min(1.0, 2 * float(bdtr(min(gained, lost), pairs, 0.5)))


def tango(gained: int, lost: int, records: int, level: float) -> tuple[float, float]:
    """Return Tango's score limits of the difference (gained - lost) / records of paired proportions."""
    z = float(ndtri((1 + level) / 2))

    def score(delta: float) -> float:
        """Return the score statistic of the hypothesis that the difference is `delta`."""
        linear = -gained - lost + (2 * records - gained + lost) * delta
        constant = -lost * delta * (1 - delta)
        share = (math.sqrt(max(linear**2 - 8 * records * constant, 0)) - linear) / (4 * records)
        variance = records * (2 * share + delta * (1 - delta))
        distance = gained - lost - records * delta
        return distance / math.sqrt(variance) if variance > 1e-12 else math.copysign(math.inf, distance)

    found = (gained - lost) / records
    return bisected(lambda d: score(d) <= z, -1.0, found), bisected(lambda d: score(d) <= -z, found, 1.0)


def bisected(is_reached, low: float, high: float) -> float:
    """Return where a condition that is false at `low` becomes true; `high` if it never does."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if is_reached(middle) else (middle, high)
    return high


def rejection_power(trials: np.ndarray, threshold: float, truth: float, level: float) -> np.ndarray:
    """Return the probability that an exact test shows that a proportion lies beyond the threshold, on truth's side.

    Shapes: [sizes]. The test rejects when the limit of Clopper and Pearson lies beyond the threshold.
    """
    if truth < threshold:
        return rejection_power(trials, 1 - threshold, 1 - truth, level)
    tail = (1 - level) / 2
    # The smallest number of hits with P(at least that many | threshold) below the tail.
    low, high = np.zeros_like(trials), trials + 1
    while np.any(low < high):
        middle = (low + high) // 2
        is_enough = np.where(middle > 0, bdtrc(middle - 1, trials, threshold), 1.0) < tail
        low, high = np.where(is_enough, low, middle + 1), np.where(is_enough, middle, high)
        low = np.minimum(low, high)
    return np.where(high <= trials, np.where(high > 0, bdtrc(high - 1, trials, truth), 1.0), 0.0)


def records_for(threshold: float, truth: float, level: float) -> int | None:
    """Return the smallest number of records from which an exact test has 80 % power; None for more than 10 million."""
    size = 8
    while rejection_power(np.array([size]), threshold, truth, level)[0] < POWER:
        size *= 2
        if size > MOST_RECORDS:
            return None
    # The power goes up and down with the size; beyond the last size that lacks it, all have it.
    sizes = np.unique(np.linspace(1, 2 * size, 4000).astype(int))
    lacking = sizes[rejection_power(sizes, threshold, truth, level) < POWER]
    last = int(lacking[-1]) if len(lacking) else 0
    nearby = np.arange(last + 1, last + 2 + (2 * size) // 4000 + 1)
    still = nearby[rejection_power(nearby, threshold, truth, level) < POWER]
    return int(still[-1] if len(still) else last) + 1


def detectable(threshold: float, records: int, is_above: bool, level: float) -> float | None:
    """Return the smallest distance from the threshold that an exact test of this size shows with 80 % power."""
    room = 1 - threshold if is_above else threshold

    def is_shown(distance: float) -> bool:
        truth = threshold + distance if is_above else threshold - distance
        return rejection_power(np.array([records]), threshold, truth, level)[0] >= POWER

    return bisected(is_shown, 0.0, room) if room > 0 and is_shown(room) else None


def mcnemar_power(records: int, gained: float, lost: float, level: float) -> float:
    """Return the probability that McNemar's exact test shows a gain, from the shares of gained and lost records."""
    differing = np.arange(records + 1)
    # The most lost records of m differing ones with a p-value of at most 1 - level.
    most = binomial_quantile(differing, (1 - level) / 2)
    chance = np.where(most >= 0, bdtr(np.maximum(most, 0), differing, lost / (gained + lost)), 0.0)
    below = bdtr(differing, records, min(gained + lost, 1.0))
    return float((np.diff(below, prepend=0.0) * chance).sum())


def binomial_quantile(trials: np.ndarray, tail: float) -> np.ndarray:
    """Return the largest k with P(at most k of n coins show heads) <= tail, -1 for none; [sizes]."""
    low, high = np.full_like(trials, -1), trials.copy()
    while np.any(low < high):
        middle = (low + high + 1) // 2
        fits = bdtr(middle, trials, 0.5) <= tail
        low, high = np.where(fits, middle, low), np.where(fits, high, middle - 1)
    return low


def paired_detectable(records: int, opposite: float, level: float) -> float | None:
    """Return the smallest difference that McNemar's exact test shows with 80 % power, beside `opposite` changes."""

    def is_shown(distance: float) -> bool:
        return mcnemar_power(records, opposite + distance, opposite, level) >= POWER

    most = 1 - 2 * opposite
    return bisected(is_shown, 0.0, most) if most > 0 and is_shown(most) else None
