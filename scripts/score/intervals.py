"""Intervals of metrics and of paired differences, and what they need to show a difference from a threshold.

The unit is the record, or the group where the dataset has groups (`group_by`): records of one group are alike, so an
interval that counts them singly is too narrow. What is used:

- Proportions (`yes_no`, `share`, F1): Clopper and Pearson, at the effective sample size p (1 - p) / variance where the
  unit is not a single yes or no (Korn and Graubard 1998, Survey Methodology 24(2)).
- Their differences between two models on the same records: McNemar's exact test and Tango's interval for single
  records.
- People's votes: the variance clustered by record, and from 5 readers on by reader as well (Cameron, Gelbach and Miller
  2011, Journal of Business & Economic Statistics 29(2)): that by records plus that by readers less that by their
  pairs, and never less than that by records. The degrees of freedom are one less than the records, or than the readers
  if their variance counts and they are fewer (Cameron and Miller 2015, Journal of Human Resources 50(2)).
- Percentiles: order statistics (Conover 1999, section 3.2).
- Means and ratios of records, and the logarithms of perplexity and of length variation: the studentized bootstrap
  (Efron and Tibshirani 1993, section 12.5), which follows skewed values.
- Everything else, and means of groups: Student's t with units - 1 degrees of freedom.

Standard errors are the jackknife's, which for a mean is s / sqrt(n): the bootstrap's times sqrt(n / (n - 1)).
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from scripts.score.bootstrap import studentized, studentized_variation
from scripts.score.interval_kinds import (
    Constant,
    Interval,
    Paired,
    Percentile,
    Proportion,
    Standard,
    Votes,
    exponential,
    identity,
)
from scripts.score.metrics import QUANTILES, SHARES
from scripts.score.statistics import value_of_sums

FEW_UNITS = 5  # with fewer groups no gate is decided
MOST_RESAMPLED = 2000  # with more records the studentized bootstrap equals Student's t
LEAST_RESAMPLED = 8  # with fewer, its tails are too uncertain
FEW_READERS = 5  # with fewer nothing is known of how readers differ
LOGARITHMIC = ("exp_ratio", "variation")
RESAMPLED = ("mean", "ratio", *LOGARITHMIC)
RATIOS = ("ratio", "exp_ratio")  # a record whose denominator is 0 tells nothing


def interval(
    statistic: str,
    rows: list,
    groups: Sequence | None = None,
    bounded: bool = False,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval | None:
    """Return a metric's value and interval from its records' statistics; None if it is not defined.

    `rows` has one list of numbers per record, or None if the metric does not apply to the record; `groups` one text or
    None per record (a record without a group is one of its own); `bounded` says that values are in [0, 1]. Without
    `resamples` Student's t takes the bootstrap's place.
    """
    kept = [index for index, row in enumerate(rows) if row is not None and (statistic not in RATIOS or row[1])]
    if statistic == "votes":
        kept = [index for index in kept if any(rows[index][1::2])]
    if not kept:
        return None
    table = np.array([rows[index] for index in kept], dtype=float)
    members = memberships(groups, kept)
    value = point(statistic, table)
    if not math.isfinite(value):
        return None
    bounds = {"least": 0.0, "most": most(statistic, bounded)} if most(statistic, bounded) else {}
    facts = {"n": len(table), "groups": None if members is None else int(members.max()) + 1, **bounds}
    if statistic in QUANTILES:
        return Percentile(value, **facts, ordered=np.sort(table[:, 0]), share=QUANTILES[statistic])
    if statistic in SHARES:
        return proportion(statistic, table, members, value, facts)
    if statistic == "votes":
        return of_votes(table, members, value, facts)
    scale = {"scale": math.log, "unscaled": exponential} if statistic in LOGARITHMIC and value > 0 else {}
    parts = of_groups(table, members)
    change = scale.get("scale", identity)
    return standard(
        value,
        pseudo_values(parts, lambda sums, n: value_of_sums(statistic, sums, n), change),
        table[:, 0] if statistic == "variation" and members is None else None,
        facts,
        scale,
        statistic in RESAMPLED and members is None,
        (resamples, seed),
    )


def difference(
    statistic: str,
    ours: list,
    theirs: list,
    groups: Sequence | None = None,
    bounded: bool = False,
    relative: bool = False,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval | None:
    """Return ours minus theirs (`relative`: as a share of theirs) on the records that both have statistics for.

    Returns None if no record is left, or if the difference is not defined.
    """
    kept = [i for i, pair in enumerate(zip(ours, theirs, strict=True)) if None not in pair]
    if not kept:
        return None
    tables = [np.array([side[i] for i in kept], dtype=float) for side in (ours, theirs)]
    members, columns = memberships(groups, kept), tables[0].shape[1]
    first, second = (point(statistic, table) for table in tables)

    def change(a, b):
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return (a - b) / b if relative else a - b

    value = float(change(np.float64(first), np.float64(second)))
    if not math.isfinite(value) or statistic in QUANTILES:
        return None
    reach = None if relative else most(statistic, bounded)
    bounds = {"least": -reach, "most": reach} if reach else {}
    facts = {"n": len(kept), "groups": None if members is None else int(members.max()) + 1, **bounds}
    if statistic == "yes_no" and not relative and members is None and len(kept) > 1 and all(map(is_binary, tables)):
        turned = tables[0][:, 0] - tables[1][:, 0]
        return Paired(value, **facts, gained=int((turned > 0).sum()), lost=int((turned < 0).sum()))

    def both(sums: np.ndarray, n: np.ndarray) -> np.ndarray:
        return change(value_of_sums(statistic, sums[:, :columns], n), value_of_sums(statistic, sums[:, columns:], n))

    parts = of_groups(np.hstack(tables), members)
    is_resampled = statistic in RESAMPLED and members is None
    return standard(value, pseudo_values(parts, both), None, facts, {}, is_resampled, (resamples, seed))


def most(statistic: str, bounded: bool) -> float | None:
    """Return the largest possible value of a metric whose least value is 0; None if it has no bounds."""
    return 100.0 if statistic in ("bleu", "chrf") else 1.0 if bounded else None


def is_binary(table: np.ndarray) -> bool:
    """Say whether a table has only 0 and 1."""
    return bool(np.isin(table, (0, 1)).all())


def memberships(groups: Sequence | None, kept: list[int]) -> np.ndarray | None:
    """Return the number of each kept record's group, from 0; None if every record is a group of its own."""
    if groups is None or all(groups[index] is None for index in kept):
        return None
    names = [(index if groups[index] is None else -1, groups[index] or "") for index in kept]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return None if len(numbers) == len(kept) else np.array([numbers[name] for name in names])


def of_groups(table: np.ndarray, members: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return (sums of the statistics, number of records) of each unit: [units, columns], [units]."""
    if members is None:
        return table, np.ones(len(table))
    sums = np.zeros((int(members.max()) + 1, table.shape[1]))
    np.add.at(sums, members, table)
    return sums, np.bincount(members).astype(float)


def point(statistic: str, table: np.ndarray) -> float:
    """Return the metric's value over all records; nan if undefined."""
    if statistic in QUANTILES:
        return float(np.quantile(table[:, 0], QUANTILES[statistic]))
    if statistic == "variation" and len(table) < 2:
        return math.nan
    return float(value_of_sums(statistic, table.sum(axis=0, keepdims=True), len(table))[0])


def pseudo_values(parts: tuple[np.ndarray, np.ndarray], function, scale: Callable = identity) -> np.ndarray:
    """Return the jackknife's pseudo-values of each unit less their mean (Miller 1974, Biometrika 61(1)), [units].

    `function(sums, records)` gives the value for each row of sums. They are nan if it is not defined without a unit.
    """
    sums, sizes = parts
    without = function(sums.sum(axis=0) - sums, sizes.sum() - sizes)
    if scale is math.log:
        with np.errstate(divide="ignore", invalid="ignore"):
            without = np.log(without)
    without = np.where(np.isfinite(without), without, np.nan)
    return (len(without) - 1) * (without.mean() - without)


def standard(
    value: float,
    pseudo: np.ndarray,
    lengths: np.ndarray | None,
    facts: dict,
    scale: dict,
    is_resampled: bool,
    resampling: tuple[int, int],
) -> Interval:
    """Return the interval of a value with these pseudo-values."""
    units = len(pseudo)
    if not pseudo.size or np.isnan(pseudo).any():
        return Interval(value, **facts)
    spread = float(pseudo.std(ddof=1)) if units > 1 else 0.0
    error = spread / math.sqrt(units) if units else 0.0
    if units < 2 or error <= 1e-9 * max(abs(value), 1e-3):
        count = facts["groups"] or facts["n"]
        return Constant(value, **facts, units=count) if count > 1 else Interval(value, **facts)
    pivots = None
    if is_resampled and resampling[0] and LEAST_RESAMPLED <= units <= MOST_RESAMPLED:
        if lengths is not None and value > 0:
            pivots = studentized_variation(lengths, *resampling)
        else:
            pivots = studentized(pseudo, *resampling)
    return Standard(value, **facts, **scale, error=error, units=units, pivots=pivots)


def proportion(statistic: str, table: np.ndarray, members: np.ndarray | None, value: float, facts: dict) -> Interval:
    """Return the interval of a proportion: of yes and no, of counts, or of F1, which is 2 tp of 2 tp + fp + fn.

    At 0 and 1 the units do not differ, so every single yes or no counts (less for few units): a better count is never
    less certain.
    """
    facts = {**facts, "least": 0.0, "most": 1.0}
    if statistic == "yes_no":
        trials = float(len(table))
    else:
        columns = [1] if statistic == "share" else np.arange(table.shape[1])
        told = table[:, columns].any(axis=1)
        table, members = table[told], None if members is None else members[told]
        trials = float(table[:, 1].sum() if statistic == "share" else table.sum())
        if members is not None:
            members = np.unique(members, return_inverse=True)[1]
    sums, sizes = of_groups(table, members)
    units = len(sums)
    if units < 2:
        return Interval(value, **facts)
    facts["groups"] = None if members is None else units
    single = statistic == "yes_no" and members is None
    if single or value in (0, 1):
        return Proportion(value, **facts, trials=trials, effective=trials, units=len(table) if single else units)
    pseudo = pseudo_values((sums, sizes), lambda rows, n: value_of_sums(statistic, rows, n))
    variance = float(pseudo.var(ddof=1)) / len(pseudo) if len(pseudo) > 1 else 0.0
    effective = trials if variance <= 0 else min(trials, value * (1 - value) / variance + 1)
    return Proportion(value, **facts, trials=trials, effective=effective, units=units)


def of_votes(table: np.ndarray, members: np.ndarray | None, value: float, facts: dict) -> Interval:
    """Return the interval of a rate or mean of people's votes; columns: sum and number of each reader's votes."""
    cells = of_groups(table, members)[0].reshape(-1, table.shape[1] // 2, 2)
    units, readers = cells.sum(axis=1), cells.sum(axis=0)
    readers = readers[readers[:, 1] > 0]
    count = len(units)
    if count < 2:
        return Interval(value, **facts)
    variance, degrees = variance_of_ratio(units), count
    if len(readers) >= FEW_READERS:
        pairs = cells.reshape(-1, 2)
        both = variance + variance_of_ratio(readers) - variance_of_ratio(pairs[pairs[:, 1] > 0])
        if both > variance:
            facts = {**facts, "by_readers": True}
            variance, degrees = both, min(count, len(readers))
    if "most" not in facts:
        error = math.sqrt(variance)
        return Standard(value, **facts, error=error, units=degrees) if error > 1e-9 else Interval(value, **facts)
    trials = float(table[:, 1::2].sum())
    effective = trials if variance <= 0 else min(trials, value * (1 - value) / variance + 1)
    return Votes(value, **facts, trials=trials, effective=effective, units=degrees, clusters=count)


def variance_of_ratio(parts: np.ndarray) -> float:
    """Return the jackknife's variance of sum / number over clusters; [clusters, 2]."""
    pseudo = pseudo_values((parts, np.ones(len(parts))), lambda sums, _: value_of_sums("share", sums, 0))
    return float(pseudo.var(ddof=1)) / len(parts)
