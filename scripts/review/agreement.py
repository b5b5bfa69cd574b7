"""Agreement of readers: Krippendorff's alpha with an interval, and each reader's agreement with themselves."""

import math
from collections.abc import Hashable, Iterable

import krippendorff
import numpy as np
from scipy.special import stdtrit

from scripts.score.interval_kinds import LEVEL, rounded

Vote = tuple[str, Hashable, float]  # reader, item, value


def alpha(votes: Iterable[Vote], level: str = "nominal") -> tuple[dict | None, str | None]:
    """Return Krippendorff's alpha as {"value", "low", "high", "n"}, or None and the reason why it is undefined.

    Source: Krippendorff 2011, Computing Krippendorff's Alpha-Reliability. `n` is the number of items with two votes or
    more. The interval is the jackknife's over items, of log(1 - alpha), which is the logarithm of the ratio of observed
    and expected disagreement; it has no limits (None) if no reader disagrees with another, or for fewer than 3 items.
    """
    counts = value_counts(votes)
    if not len(counts):
        return None, "no text has been judged by two readers yet"
    if counts.shape[1] < 2:
        return None, "all votes on texts that several readers judged are the same, so chance agreement is undefined"
    value = of_counts(counts, level)
    low, high = limits(counts, value, level)
    return {"value": rounded(value), "low": rounded(low), "high": rounded(high), "n": len(counts)}, None


def value_counts(votes: Iterable[Vote]) -> np.ndarray:
    """Return how often each value was given to each item with two votes or more, [items, values in their order]."""
    by_item: dict[Hashable, list[float]] = {}
    for _, item, value in votes:
        by_item.setdefault(item, []).append(value)
    shared = [values for values in by_item.values() if len(values) > 1]
    domain = sorted({value for values in shared for value in values})
    return np.array([[values.count(value) for value in domain] for values in shared])


def of_counts(counts: np.ndarray, level: str) -> float:
    """Return alpha of the counts of values; nan if all values are the same."""
    used = counts[:, counts.any(axis=0)]
    return krippendorff.alpha(value_counts=used, level_of_measurement=level) if used.shape[1] > 1 else math.nan


def limits(counts: np.ndarray, value: float, level: str) -> tuple[float | None, float | None]:
    """Return the limits of alpha at 95 %."""
    items = len(counts)
    # Items with the same votes have the same alpha without them.
    _, places, kinds = np.unique(counts, axis=0, return_index=True, return_inverse=True)
    without = np.array([of_counts(np.delete(counts, place, axis=0), level) for place in places])[kinds]
    if items < 3 or value >= 1 or not (without < 1).all():
        return None, None
    logarithms = np.log1p(-without)
    error = math.sqrt((items - 1) / items * ((logarithms - logarithms.mean()) ** 2).sum())
    reach = float(stdtrit(items - 1, (1 + LEVEL) / 2)) * error
    return 1 - (1 - value) * math.exp(reach), 1 - (1 - value) * math.exp(-reach)


def same_share(first: dict[Hashable, float], second: dict[Hashable, float]) -> dict:
    """Return on how many of the items that both judged two readers gave the `same` value, `of` how many."""
    both = first.keys() & second.keys()
    return {"same": sum(first[item] == second[item] for item in both), "of": len(both)}
