"""How varied answers are: distinct words, repetition, lengths, generic phrases.

Distinct-n and repetition across answers depend on how many records there are, so resampling records (which draws some
twice) would bias them. Their statistics are jackknife pseudo-values instead: value + (n - 1) (value - value without
record i), centred so that their mean is the value (Miller 1974, Biometrika 61(1)).
"""

import re
from collections import Counter

from scripts.score.material import Material, Measured, NotApplicableError
from scripts.score.tokenize_text import ngrams

WITHIN_ORDER = 3
ACROSS_ORDER = 4


def pseudo_values(value: float, without: list[float | None]) -> list[list[float] | None]:
    """Return centred jackknife pseudo-values from the value and the values without each record in turn."""
    present = [other for other in without if other is not None]
    influence = [None if other is None else (len(present) - 1) * (value - other) for other in without]
    mean = sum(item for item in influence if item is not None) / len(present)
    return [None if item is None else [round(value + item - mean, 10)] for item in influence]


def distinct(material: Material, order: int) -> Measured:
    """Return the pseudo-values of distinct-n: different n-grams of all answers / all n-grams (Li et al. 2016)."""
    grams = [ngrams(words, order) for words in material.words]
    total = sum(map(len, grams))
    if not total:
        raise NotApplicableError(f"no answer has {order} words" if order > 1 else "no answer has a word")
    holders = Counter(gram for record in grams for gram in set(record))
    without = []
    for record in grams:
        alone = sum(holders[gram] == 1 for gram in set(record))
        rest = total - len(record)
        without.append(((len(holders) - alone) / rest if rest else len(holders) / total) if record else None)
    return Measured(
        pseudo_values(len(holders) / total, without),
        [len(set(record)) / len(record) if record else None for record in grams],
    )


def distinct_1(material: Material) -> Measured:
    """Return the statistics of distinct-1."""
    return distinct(material, 1)


def distinct_2(material: Material) -> Measured:
    """Return the statistics of distinct-2."""
    return distinct(material, 2)


def repetition(material: Material) -> Measured:
    """Return, per answer of at least three words, the share of its 3-grams that repeat an earlier one of it.

    1 - different / all n-grams: seq-rep-n of Welleck et al. 2020 (arXiv:1908.04319), with n = 3 for short answers.
    """
    grams = [ngrams(words, WITHIN_ORDER) for words in material.words]
    if not any(grams):
        raise NotApplicableError(f"no answer has {WITHIN_ORDER} words")
    return Measured([[1 - len(set(record)) / len(record)] if record else None for record in grams])


def repetition_across(material: Material) -> Measured:
    """Return the pseudo-values of the mean share of an answer's 4-grams that another answer has too.

    After the self-repetition of Salkar et al. 2022 (AACL), as a share so that long answers don't weigh more.
    """
    grams = [set(ngrams(words, ACROSS_ORDER)) for words in material.words]
    if sum(map(bool, grams)) < 2:
        raise NotApplicableError(f"fewer than two answers have {ACROSS_ORDER} words")
    holders: dict[tuple, list[int]] = {}
    for index, record in enumerate(grams):
        for gram in record:
            holders.setdefault(gram, []).append(index)
    shares = [sum(len(holders[gram]) > 1 for gram in record) / len(record) if record else None for record in grams]
    counted = sum(map(bool, grams))
    total = sum(share for share in shares if share is not None)
    lost = [0.0] * len(grams)  # what the others' shares lose when a record is taken out
    for pair in holders.values():
        if len(pair) == 2:
            first, second = pair
            lost[first] += 1 / len(grams[second])
            lost[second] += 1 / len(grams[first])
    without = [
        None if share is None else (total - share - gone) / (counted - 1)
        for share, gone in zip(shares, lost, strict=True)
    ]
    return Measured(pseudo_values(total / counted, without), shares)


def length_mean(material: Material) -> Measured:
    """Return the number of words per answer."""
    return Measured([[len(words)] for words in material.words])


def length_variation(material: Material) -> Measured:
    """Return (words, words^2) per answer, for the coefficient of variation of the lengths."""
    if len(material.words) < 2:
        raise NotApplicableError("one answer has no variation")
    return Measured(
        [[len(words), len(words) ** 2] for words in material.words], [len(words) for words in material.words]
    )


def generic_phrase_rate(material: Material) -> Measured:
    """Return 1 per answer in which one of the run's patterns is found, case apart."""
    if not material.generic_phrases:
        raise NotApplicableError("score.generic_phrases lists no pattern")
    patterns = [re.compile(pattern, re.IGNORECASE) for pattern in material.generic_phrases]
    return Measured([[int(any(pattern.search(text) for pattern in patterns))] for text in material.texts])


def seconds(material: Material) -> Measured:
    """Return the seconds that each answer took."""
    return Measured([[row["seconds"]] for row in material.answers])


def cost_per_1000(material: Material) -> Measured:
    """Return, per answer, what 1,000 that take as long as it took cost, in the currency of the price per hour."""
    if material.price_per_hour is None:
        raise NotApplicableError("score.price_per_hour is not given")
    return Measured([[row["seconds"] / 3600 * material.price_per_hour * 1000] for row in material.answers])


def finished(material: Material) -> Measured:
    """Return 1 per answer that the model ended itself, 0 per one cut at the length limit."""
    return Measured([[int(row["stop"] == "end")] for row in material.answers])
