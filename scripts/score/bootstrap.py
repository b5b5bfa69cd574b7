"""The studentized bootstrap: how far the means of resamples lie from the mean, in their own standard errors.

Efron and Tibshirani 1993, section 12.5. `seed` and number of records determine the resamples, so that all metrics of
the same records share them.
"""

import functools
from collections.abc import Iterator

import numpy as np

CELLS = 4_000_000  # resampled records in memory at once


def studentized(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Return (mean of the resample - mean) / standard error of the resample, sorted, [resamples].

    A resample of equal values has no standard error: it gives an infinite number with the sign of its distance.
    """
    values, records = values - values.mean(), len(values)
    columns = np.stack([values, values**2], axis=1)
    sums = np.concatenate([part @ columns for part in parts(records, resamples, seed)])
    means = sums[:, 0] / records
    variances = np.maximum(sums[:, 1] / records - means**2, 0) / (records - 1)
    return np.sort(pivots(means, variances, 1e-12 * columns[:, 1].mean()))


def studentized_variation(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Return the same of the logarithm of the coefficient of variation of positive numbers, sorted, [resamples].

    Standard errors are by the delta method (`variation_variance`).
    """
    values = values / values.mean()
    records = len(values)
    powers = np.stack([values**order for order in (1, 2, 3, 4)], axis=1)
    logarithm, _ = variation_variance(powers.mean(axis=0, keepdims=True), records)
    found = np.concatenate([part @ powers for part in parts(records, resamples, seed)]) / records
    logarithms, variances = variation_variance(found, records)
    return np.sort(pivots(logarithms - logarithm[0], variances, 1e-12))


def variation_variance(moments: np.ndarray, records: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the logarithm of the coefficient of variation and its variance, from the means of x, x^2, x^3, x^4.

    log(s / m) has the influence ((x - m)^2 / v - 1) / 2 - (x - m) / m, whose variance is divided by n.
    Shapes: [rows, 4] -> [rows], [rows].
    """
    mean, second, third, fourth = moments.T
    variance = np.maximum(second - mean**2, 0)
    skew = third - 3 * mean * second + 2 * mean**3
    kurtosis = fourth - 4 * mean * third + 6 * mean**2 * second - 3 * mean**4
    with np.errstate(divide="ignore", invalid="ignore"):
        logarithm = 0.5 * np.log(variance * records / (records - 1)) - np.log(mean)
        spread = (kurtosis / variance**2 - 1) / 4 - skew / (variance * mean) + variance / mean**2
    return logarithm, np.where(variance > 1e-12, spread, 0) / records


def pivots(distances: np.ndarray, variances: np.ndarray, least: float) -> np.ndarray:
    """Return distances in standard errors; infinite where there is no variance."""
    has_variance = variances > least
    errors = np.sqrt(np.where(has_variance, variances, 1))
    return np.where(has_variance, distances / errors, np.where(distances < 0, -np.inf, np.inf))


def parts(records: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each record is in each resample, in parts: [part, records]."""
    if records * resamples <= CELLS:
        yield drawn_at_once(records, resamples, seed)
    else:
        yield from drawn(records, resamples, seed)


def drawn(records: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield the parts of `parts` from the generator of this seed."""
    generator = np.random.default_rng(seed)
    chunk = max(1, CELLS // records)
    for start in range(0, resamples, chunk):
        draws = generator.integers(0, records, size=(min(chunk, resamples - start), records))
        offsets = np.arange(len(draws))[:, None] * records
        yield np.bincount((draws + offsets).ravel(), minlength=draws.size).reshape(draws.shape).astype(float)


@functools.lru_cache(maxsize=2)
def drawn_at_once(records: int, resamples: int, seed: int) -> np.ndarray:
    """Return the resamples of few records, which many metrics use."""
    return next(drawn(records, resamples, seed))
