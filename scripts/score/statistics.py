"""Compute a metric's value from sums of the records' statistics, for many resamples at once.

A metric is a function of sums of its records' statistics, so a resample needs only weighted sums. `sums` has the shape
[resamples, columns], the result [resamples]; undefined values (0 / 0) are nan.
"""

import numpy as np

from scripts.score.metrics import QUANTILES

BLEU_ORDER = 4
CHRF_ORDER, CHRF_BETA = 6, 2
# How many numbers a record's row has; of the statistics by class, for each class, and of votes for each reader.
COLUMNS = {
    **dict.fromkeys(("mean", "yes_no", *QUANTILES), 1),
    **dict.fromkeys(("ratio", "share", "exp_ratio", "variation", "votes"), 2),
    **dict.fromkeys(("f1", "f1_macro", "f1_weighted"), 3),
    "bleu": 2 + 2 * BLEU_ORDER,
    "chrf": 3 * CHRF_ORDER,
}
REPEATED = {"f1_macro": "class", "f1_weighted": "class", "votes": "reader"}


def row_fault(statistic: str, row: list[float]) -> str | None:
    """Return what a record's row is and what the statistic takes instead, in words; None for a valid row."""
    columns, repeated = COLUMNS[statistic], REPEATED.get(statistic)
    if not row or len(row) % columns or (len(row) > columns and not repeated):
        numbers = "1 number" if len(row) == 1 else f"{len(row)} numbers"
        each = f" for each {repeated}" if repeated else ""
        return f"a row of {numbers}; the statistic '{statistic}' takes {columns}{each}"
    if statistic == "yes_no" and not 0 <= row[0] <= 1:
        return f"{row[0]:g}; the statistic 'yes_no' takes numbers from 0 to 1"
    return None


def value_of_sums(statistic: str, sums: np.ndarray, records: int) -> np.ndarray:
    """Return the metric's value per row of sums over `records` records (drawn ones, repeats counted)."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if statistic in ("mean", "yes_no"):
            return sums[:, 0] / records
        if statistic in ("ratio", "share"):
            return sums[:, 0] / sums[:, 1]
        if statistic == "votes":
            return sums[:, 0::2].sum(axis=1) / sums[:, 1::2].sum(axis=1)
        if statistic == "exp_ratio":
            return np.exp(sums[:, 0] / sums[:, 1])
        if statistic == "variation":
            return variation(sums, records)
        return {"bleu": bleu, "chrf": chrf, "f1": f1, "f1_macro": f1_macro, "f1_weighted": f1_weighted}[statistic](sums)


def variation(sums: np.ndarray, records: int) -> np.ndarray:
    """Return the coefficient of variation (sample standard deviation / mean) from the columns sum x, sum x^2."""
    variance = np.maximum(sums[:, 1] - sums[:, 0] ** 2 / records, 0) / (records - 1)
    return np.sqrt(variance) / (sums[:, 0] / records)


def bleu(sums: np.ndarray) -> np.ndarray:
    """Return BLEU, 0 to 100, as sacrebleu computes it with exponential smoothing and the effective n-gram order.

    Columns: length of the answers, of the references, matched n-grams (1 to 4), all n-grams (1 to 4).
    Source: Papineni et al. 2002; smoothing: Chen and Cherry 2014, method 3.
    """
    answers, references = sums[:, 0], sums[:, 1]
    correct, total = sums[:, 2 : 2 + BLEU_ORDER], sums[:, 2 + BLEU_ORDER :]
    possible = total > 0
    missed = possible & (correct == 0)
    smoothed = 1 / 2.0 ** np.cumsum(missed, axis=1)
    precision = np.where(missed, smoothed, correct) / np.where(possible, total, 1)
    logarithm = np.where(possible, np.log(np.where(possible, precision, 1)), 0).sum(axis=1) / possible.sum(axis=1)
    penalty = np.where(answers < references, np.exp(1 - references / answers), 1)
    return np.where(correct.any(axis=1), 100 * penalty * np.exp(logarithm), 0.0)


def chrf(sums: np.ndarray) -> np.ndarray:
    """Return chrF2, 0 to 100, as sacrebleu computes it with the effective n-gram order.

    Columns: for each of the orders 1 to 6 the character n-grams of the answers, of the references, and the matched
    ones. Source: Popović 2015.
    """
    answers, references, matched = (sums[:, column::3] for column in range(3))
    both = (answers > 0) & (references > 0)
    orders = np.maximum(both.sum(axis=1), 1)
    precision = np.where(both, matched / np.where(both, answers, 1), 0).sum(axis=1) / orders
    recall = np.where(both, matched / np.where(both, references, 1), 0).sum(axis=1) / orders
    weighted = CHRF_BETA**2 * precision + recall
    return np.where(
        weighted > 0, 100 * (1 + CHRF_BETA**2) * precision * recall / np.where(weighted > 0, weighted, 1), 0
    )


def f1(sums: np.ndarray) -> np.ndarray:
    """Return 2 tp / (2 tp + fp + fn) from the columns true positives, false positives, false negatives."""
    return f1_by_class(sums)[0][:, 0]


def f1_by_class(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (F1, support) of each class, [resamples, classes]; columns: tp, fp, fn of the first class, and so on."""
    hits, wrong, missed = (sums[:, column::3] for column in range(3))
    return 2 * hits / (2 * hits + wrong + missed), hits + missed


def f1_macro(sums: np.ndarray) -> np.ndarray:
    """Return the mean of the F1 of the classes that the expected answers have."""
    scores, support = f1_by_class(sums)
    return np.where(support > 0, scores, 0).sum(axis=1) / (support > 0).sum(axis=1)


def f1_weighted(sums: np.ndarray) -> np.ndarray:
    """Return the mean of the F1 of the classes, weighted by how often the expected answers have them."""
    scores, support = f1_by_class(sums)
    return (np.where(support > 0, scores, 0) * support).sum(axis=1) / support.sum(axis=1)
