"""95 % intervals of metrics and of paired differences, by resampling records.

Percentile bootstrap (Efron 1979), with the percentiles widened for few records so that a mean's interval is as wide as
with Student's t ("expanded percentile", Hesterberg 2015, The American Statistician 69(4), section 5.3). If a yes/no
metric is the same for all records, resampling gives no interval: the bound is then the exact one of Clopper and Pearson
(1934), (0.05 / 2)^(1 / records). F1, precision and recall of entities at 0 or 1 are treated in the same way, over the
records that have an entity.
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from scripts.score.metrics import SHARES
from scripts.score.statistics import QUANTILES, value_of_sums

LEVEL = 0.95
CELLS = 4_000_000  # resampled indexes in memory at once


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; `low` and `high` are None if it is undefined or there is only one record."""

    value: float
    low: float | None
    high: float | None
    n: int

    def within(self, least: float, most: float) -> "Estimate":
        """Return the estimate with its interval clipped to the possible values."""
        if self.low is None or self.high is None:
            return self
        return replace(self, low=min(max(self.low, least), most), high=max(min(self.high, most), least))

    def row(self) -> dict:
        """Return the estimate for JSON, rounded to 8 significant digits."""
        return {"value": rounded(self.value), "low": rounded(self.low), "high": rounded(self.high), "n": self.n}


def rounded(value: float | None) -> float | None:
    """Round to 8 significant digits, so that the order of summation does not matter."""
    return None if value is None else float(f"{value:.8g}")


def tail(records: int) -> float:
    """Return the share of resampled values outside of the interval on each side."""
    from scipy.special import ndtr, stdtrit

    student_t = stdtrit(records - 1, (1 + LEVEL) / 2)
    return float(ndtr(-math.sqrt(records / (records - 1)) * student_t))


def estimate(statistic: str, rows: list, resamples: int = 1000, seed: int = 0) -> Estimate | None:
    """Return a metric's value and interval from its records' statistics; None if no record has any.

    `rows` has one list of numbers per record, or None if the metric does not apply to the record.
    """
    table = table_of(rows)
    return None if table is None else estimates(statistic, [table], resamples, seed)[0]


def estimates(statistic: str, tables: list[np.ndarray], resamples: int = 1000, seed: int = 0) -> list[Estimate | None]:
    """Return value and interval for each of several tables of the same records' statistics [records, columns].

    None means an undefined value. All tables use the same resamples.
    """
    found: list[Estimate | None] = []
    for table, replicates in zip(tables, resampled(statistic, tables, resamples, seed), strict=True):
        value = float(point(statistic, table))
        if not math.isfinite(value):
            found.append(None)
            continue
        low, high = interval(replicates, len(table))
        if low is not None and statistic in SHARES and value in (0, 1):
            bound = ((1 - LEVEL) / 2) ** (1 / telling(statistic, table))
            low, high = (0.0, 1 - bound) if value == 0 else (bound, 1.0)
        found.append(Estimate(value, low, high, len(table)))
    return found


def difference(
    statistic: str, rows: list, baseline: list, resamples: int = 1000, seed: int = 0, relative: bool = False
) -> Estimate | None:
    """Return variant minus baseline with its interval, resampling the same records in both (paired).

    `relative`: as a share of the baseline's value. Records without statistics on either side are left out. Returns None
    if no record is left, or if the difference is undefined.
    """
    pairs = [(ours, theirs) for ours, theirs in zip(rows, baseline, strict=True) if None not in (ours, theirs)]
    if not pairs:
        return None
    tables = [np.array(side, dtype=float) for side in zip(*pairs, strict=True)]
    ours, theirs = (float(point(statistic, table)) for table in tables)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(np.divide(ours - theirs, theirs if relative else 1.0))
        if not math.isfinite(value):
            return None
        first, second = resampled(statistic, tables, resamples, seed)
        replicates = (first - second) / (second if relative else 1.0)
    low, high = interval(replicates, len(pairs))
    if low is not None and statistic in SHARES and not relative and np.array_equal(*tables):
        bound = 1 - ((1 - LEVEL) / 2) ** (1 / telling(statistic, tables[0]))
        low, high = -bound, bound
    return Estimate(value, low, high, len(pairs))


def telling(statistic: str, table: np.ndarray) -> int:
    """Return the number of informative records: for entities those that have one, for yes/no metrics all."""
    if statistic == "yes_no":
        return len(table)
    counts = table[:, [1]] if statistic == "share" else table
    return max(1, int(counts.any(axis=1).sum()))


def table_of(rows: list) -> np.ndarray | None:
    """Return the statistics as an array [records, columns] without records that have none; None if it is empty."""
    kept = [row for row in rows if row is not None]
    return np.array(kept, dtype=float) if kept else None


def point(statistic: str, table: np.ndarray) -> float:
    """Return the metric's value over all records; nan if undefined."""
    if statistic in QUANTILES:
        return float(np.quantile(table[:, 0], QUANTILES[statistic]))
    if statistic == "variation" and len(table) < 2:
        return math.nan
    return float(value_of_sums(statistic, table.sum(axis=0, keepdims=True), len(table))[0])


def resampled(statistic: str, tables: list[np.ndarray], resamples: int, seed: int) -> list[np.ndarray]:
    """Return the metric's values over the resamples for each table; all tables use the same resamples."""
    records = len(tables[0])
    if records < 2:
        return [np.full(resamples, np.nan) for _ in tables]
    if resamples * records <= CELLS:
        parts = iter([drawn_at_once(records, resamples, seed)])
    else:
        parts = drawn(records, resamples, seed)
    values: list[list[np.ndarray]] = [[] for _ in tables]
    for draws, counts in parts:
        for table, collected in zip(tables, values, strict=True):
            if statistic in QUANTILES:
                collected.append(np.quantile(table[:, 0][draws], QUANTILES[statistic], axis=1))
            else:
                collected.append(value_of_sums(statistic, counts @ table, records))
    return [np.concatenate(collected) for collected in values]


def drawn(records: int, resamples: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the resamples in parts: drawn indexes, and the count of each record, both [part, records]."""
    generator = np.random.default_rng(seed)
    chunk = max(1, CELLS // records)
    for start in range(0, resamples, chunk):
        draws = generator.integers(0, records, size=(min(chunk, resamples - start), records))
        offsets = np.arange(len(draws))[:, None] * records
        counts = np.bincount((draws + offsets).ravel(), minlength=draws.size).reshape(draws.shape).astype(float)
        yield draws, counts


@functools.lru_cache(maxsize=2)
def drawn_at_once(records: int, resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the resamples if they fit into one part; cached, because tables use the same ones many times."""
    return next(drawn(records, resamples, seed))


def interval(replicates: np.ndarray, records: int) -> tuple[float | None, float | None]:
    """Return the bounds of the resampled values; (None, None) for one record or if too few values are defined."""
    finite = replicates[np.isfinite(replicates)]
    if records < 2 or len(finite) < 0.9 * len(replicates):
        return None, None
    outside = tail(records)
    low, high = np.quantile(finite, [outside, 1 - outside])
    return float(low), float(high)
