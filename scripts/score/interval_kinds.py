"""Kinds of intervals: each gives limits at any confidence level, and what it needs to show a difference.

`scripts/score/intervals.py` says which kind a metric has.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.special import bdtr, ndtri, stdtrit

from scripts.score import counts

LEVEL = 0.95
LEAST_IN_TAIL = 5  # resamples

Limits = tuple[float | None, float | None]


def identity(value: float) -> float:
    """Return a value unchanged."""
    return value


def exponential(value: float) -> float:
    """Return e^value, infinite if it is too large for a float."""
    return math.exp(value) if value < 709 else math.inf


@dataclass(frozen=True)
class Interval:
    """A value with limits at any confidence level; a limit is None if the records set none.

    `n` is the number of records, `groups` that of their groups (None without groups), `least` and `most` the possible
    values. `by_readers` says that readers differ so much that the interval is about other readers: more records alone
    don't narrow it.
    """

    value: float
    n: int
    groups: int | None = field(default=None, kw_only=True)
    least: float = field(default=-math.inf, kw_only=True)
    most: float = field(default=math.inf, kw_only=True)
    by_readers: bool = field(default=False, kw_only=True)

    def own_limits(self, level: float) -> Limits:
        """Return the limits at a confidence level, which may exceed the possible values."""
        return None, None

    def limits(self, level: float = LEVEL) -> Limits:
        """Return the limits at a confidence level, within the possible values."""
        ends = (None if end is None else float(min(max(end, self.least), self.most)) for end in self.own_limits(level))
        return tuple(None if end is None or math.isinf(end) else end for end in ends)

    def side(self, threshold: float, level: float = LEVEL) -> int:
        """Return 1 if the value is shown to be above the threshold, -1 if below, 0 if neither."""
        low, high = self.limits(level)
        return 1 if low is not None and low > threshold else -1 if high is not None and high < threshold else 0

    def p_value(self, threshold: float) -> float:
        """Return the two-sided p-value of the threshold: the smallest alpha whose interval excludes it."""
        if not self.side(threshold, 0.0001):
            return 1.0
        low, high = math.log(1e-9), 0.0
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (low, middle) if self.side(threshold, 1 - math.exp(middle)) else (middle, high)
        return math.exp(high)

    def needed(self, threshold: float, level: float = LEVEL) -> int | None:
        """Return the number of records from which the gate is decided with 80 % power, if the value stays the same."""
        return None

    def smallest(self, threshold: float, is_above: bool, level: float = LEVEL) -> float | None:
        """Return the smallest distance from the threshold that these records show with 80 % power."""
        return None

    def row(self) -> dict:
        """Return the value and its 95 % interval for JSON, rounded to 8 significant digits."""
        low, high = self.limits()
        ends = {"value": rounded(self.value), "low": rounded(low), "high": rounded(high)}
        return {**ends, "n": self.n, "groups": self.groups}


@dataclass(frozen=True)
class Constant(Interval):
    """The mean of equal values. If values have bounds, others of which n show none have a share of at most
    1 - 0.025^(1 / n), as for a count; else there are no limits."""

    units: int = 0

    def own_limits(self, level: float) -> Limits:
        if not (math.isfinite(self.least) and math.isfinite(self.most)):
            return None, None
        return contaminated(self.value, self.units, self.least, self.most, level)

    def needed(self, threshold: float, level: float = LEVEL) -> int | None:
        return unseen_needed(self, self.units, threshold, level)


def unseen_needed(found: Interval, units: int, threshold: float, level: float) -> int | None:
    """Return the number of records from which `contaminated` limits exclude a threshold; None if none do."""
    end = found.most if threshold > found.value else found.least
    if (
        threshold == found.value
        or not math.isfinite(end)
        or not 0 < (threshold - found.value) / (end - found.value) < 1
    ):
        return None
    share = (threshold - found.value) / (end - found.value)  # of other values that reaches the threshold
    return capped(math.log((1 - level) / 2) / math.log(1 - share) * found.n / units)


def capped(records: float) -> int | None:
    """Return a number of records as a whole number; None if it is too large to be of use."""
    return math.ceil(records) if records < counts.MOST_RECORDS else None


def contaminated(value: float, units: int, least: float, most: float, level: float) -> tuple[float, float]:
    """Return the limits of a mean if a share of units that no sample showed may have the least or the most value."""
    unseen = 1 - ((1 - level) / 2) ** (1 / units)
    return value - unseen * (value - least), value + unseen * (most - value)


@dataclass(frozen=True)
class Standard(Interval):
    """Limits by a standard error: Student's t, or the studentized bootstrap where `pivots` are given.

    `center`, `error` and `pivots` (sorted (mean - center) / error of the resamples) are on the scale of `scale`;
    `unscaled` leads back. `units` are the records or groups.
    """

    error: float = 0.0
    units: int = 0
    pivots: np.ndarray | None = None
    scale: Callable[[float], float] = identity
    unscaled: Callable[[float], float] = identity

    def own_limits(self, level: float) -> Limits:
        center = self.scale(self.value)
        pivots = (self.pivot(level, is_upper=True), self.pivot(level, is_upper=False))
        ends = [self.unscaled(center - each * self.error) if math.isfinite(each) else None for each in pivots]
        if None in ends and math.isfinite(self.least + self.most):
            bounds = contaminated(self.value, self.units, self.least, self.most, level)
            ends = [bound if end is None else end for end, bound in zip(ends, bounds, strict=True)]
        return tuple(ends)

    def pivot(self, level: float, is_upper: bool) -> float:
        """Return the upper or lower quantile of (mean - center) / error at a level.

        Beyond what the resamples can tell it is at least as far out as Student's t.
        """
        tail = (1 - level) / 2
        t = float(stdtrit(self.units - 1, 1 - tail if is_upper else tail))
        if self.pivots is None:
            return t
        found = float(self.pivots[round((1 - tail if is_upper else tail) * (len(self.pivots) - 1))])
        if tail * len(self.pivots) < LEAST_IN_TAIL:
            return max(found, t) if is_upper else min(found, t)
        return found

    def needed(self, threshold: float, level: float = LEVEL) -> int | None:
        distance = self.distance(threshold)
        if not distance or self.by_readers:
            return None
        # The limit that faces the threshold: the lower one if the value lies above it.
        pivot = abs(self.pivot(level, is_upper=self.value > threshold))
        if math.isinf(pivot):
            return unseen_needed(self, self.units, threshold, level)
        units = 2.0
        for _ in range(50):
            t = max(float(stdtrit(max(units - 1, 1), (1 + level) / 2)), 0 if self.pivots is None else pivot)
            units = (units + max(2.0, self.units * ((t + float(ndtri(counts.POWER))) * self.error / distance) ** 2)) / 2
        return capped(math.ceil(units) * self.n / self.units)

    def distance(self, threshold: float) -> float | None:
        try:
            distance = abs(self.scale(threshold) - self.scale(self.value))
        except ValueError:  # a logarithm of 0 or less
            return None
        return distance if math.isfinite(distance) else None

    def smallest(self, threshold: float, is_above: bool, level: float = LEVEL) -> float | None:
        pivot = max(abs(self.pivot(level, is_upper=is_above)), float(stdtrit(self.units - 1, (1 + level) / 2)))
        if math.isinf(pivot):
            return None
        reach = (pivot + float(ndtri(counts.POWER))) * self.error
        try:
            shown = self.unscaled(self.scale(threshold) + (reach if is_above else -reach))
        except ValueError:
            return None
        return abs(shown - threshold) if self.least <= shown <= self.most else None


@dataclass(frozen=True)
class Proportion(Interval):
    """Limits of Clopper and Pearson at the effective sample size. `trials` are the yes or no that were counted, and
    `effective` as many independent ones as have the same variance; `units` the records or groups."""

    trials: float = 0.0
    effective: float = 0.0
    units: int = 0

    def size(self, level: float) -> float:
        """Return the effective sample size, less for the variance's own uncertainty with few units."""
        if self.units >= self.trials:
            return self.effective
        ratio = stdtrit(self.trials - 1, (1 + level) / 2) / stdtrit(self.units - 1, (1 + level) / 2)
        return min(self.trials, self.effective * float(ratio) ** 2)

    def own_limits(self, level: float) -> Limits:
        size = self.size(level)
        return counts.clopper_pearson(self.value * size, size, level)

    def needed(self, threshold: float, level: float = LEVEL) -> int | None:
        if not 0 < threshold < 1 or self.value == threshold:
            return None
        found = counts.records_for(threshold, self.value, level)
        return found and capped(found * self.n / self.size(level))

    def smallest(self, threshold: float, is_above: bool, level: float = LEVEL) -> float | None:
        return counts.detectable(threshold, int(self.size(level)), is_above, level) if 0 < threshold < 1 else None


@dataclass(frozen=True)
class Votes(Proportion):
    """Limits of a rate of people's votes. `trials` are the votes on the `n` records, `clusters` the records or groups.

    No count is more certain than one vote on each record, all of them alike, would be: votes on one text agree.
    """

    clusters: int = 0

    def own_limits(self, level: float) -> Limits:
        (low, high), alike = super().own_limits(level), self.alike(level)
        return min(low, counts.clopper_pearson(alike, alike, level)[0]), max(
            high, counts.clopper_pearson(0, alike, level)[1]
        )

    def alike(self, level: float) -> float:
        """Return the effective number of single votes on each record, if all of them were alike."""
        return Proportion(self.value, self.n, trials=self.n, effective=self.n, units=self.clusters).size(level)

    def needed(self, threshold: float, level: float = LEVEL) -> int | None:
        if self.by_readers:
            return None
        found, share = super().needed(threshold, level), threshold if self.value > threshold else 1 - threshold
        least = found and math.log((1 - level) / 2) / math.log(share) * self.n / self.alike(level)
        return found and capped(max(found, least))

    def smallest(self, threshold: float, is_above: bool, level: float = LEVEL) -> float | None:
        size = int(min(self.size(level), self.alike(level)))
        return counts.detectable(threshold, size, is_above, level) if 0 < threshold < 1 else None


@dataclass(frozen=True)
class Percentile(Interval):
    """A percentile of single records with limits by order statistics. `ordered` are the sorted values, [n]."""

    ordered: np.ndarray | None = None
    share: float = 0.5

    def own_limits(self, level: float) -> Limits:
        tail, n = (1 - level) / 2, self.n
        below = bdtr(np.arange(n), n, self.share)  # P(at most k values lie below the percentile), k = 0 ... n - 1
        lows, highs = np.flatnonzero(below <= tail), np.flatnonzero(below >= 1 - tail)
        # The percentile lies below the k-th smallest value only if fewer than k values lie below it.
        return (
            float(self.ordered[lows[-1]]) if len(lows) else None,
            float(self.ordered[highs[0]]) if len(highs) else None,
        )

    def needed(self, threshold: float, level: float = LEVEL) -> int | None:
        within = float(np.mean(self.ordered < threshold))
        return None if within == self.share else counts.records_for(self.share, within, level)


@dataclass(frozen=True)
class Paired(Interval):
    """The difference of two proportions of the same records: `gained` records that only the first side has right, and
    `lost` ones that only the second has."""

    gained: int = 0
    lost: int = 0

    def own_limits(self, level: float) -> Limits:
        low, high = counts.tango(self.gained, self.lost, self.n, level)
        # Whether the interval contains 0 is the exact test's to say.
        is_shown = counts.mcnemar(self.gained, self.lost) <= 1 - level
        return (low, high) if is_shown else (min(low, 0.0), max(high, 0.0))

    def needed(self, threshold: float, level: float = LEVEL) -> int | None:
        distance, differing = abs(self.value - threshold), (self.gained + self.lost) / self.n
        if not distance:
            return None
        spread = self.z(level) * math.sqrt(max(differing - threshold**2, distance))
        spread += float(ndtri(counts.POWER)) * math.sqrt(max(differing - self.value**2, 0))
        plain = (spread / distance) ** 2
        # With the correction for continuity (Fleiss 1981), because the exact test has whole numbers.
        return capped(plain / 4 * (1 + math.sqrt(1 + 4 / (plain * distance))) ** 2)

    def smallest(self, threshold: float, is_above: bool, level: float = LEVEL) -> float | None:
        if threshold != 0:
            differing = (self.gained + self.lost) / self.n
            reach = (self.z(level) + float(ndtri(counts.POWER))) * math.sqrt(differing / self.n)
            return reach if 0 < reach <= 1 else None
        opposite = (self.lost if is_above else self.gained) / self.n
        return counts.paired_detectable(self.n, opposite, level)

    @staticmethod
    def z(level: float) -> float:
        return float(ndtri((1 + level) / 2))


def rounded(value: float | None) -> float | None:
    """Round to 8 significant digits, so that the order of summation does not matter."""
    return None if value is None else float(f"{value:.8g}")
