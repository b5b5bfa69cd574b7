"""Metrics of diversity: distinct words, repetition, lengths, generic phrases.

Distinct-n depends on the number of records, so resampling records (with repetitions) would bias it. Its statistics are
jackknife pseudo-values instead: value + (n - 1) (value - value without record i), centred so that their mean is the
value (Miller 1974, Biometrika 61(1)).
"""

from collections import Counter, deque

from scripts.score.metrics import metric
from scripts.score.scoring_input import MetricResult, NotApplicableError, ScoringInput, yes_no
from scripts.score.tokenize_text import ngrams

TRIPLE = 3
RECENT = 5


def pseudo_values(value: float, without: list[float | None]) -> list[list[float] | None]:
    """Return centred jackknife pseudo-values from the value and the leave-one-out values."""
    present = [other for other in without if other is not None]
    influence = [None if other is None else (len(present) - 1) * (value - other) for other in without]
    mean = sum(item for item in influence if item is not None) / len(present)
    return [None if item is None else [round(value + item - mean, 10)] for item in influence]


def distinct(data: ScoringInput, order: int) -> MetricResult:
    """Return the pseudo-values of distinct-n: different n-grams of all answers / all n-grams (Li et al. 2016).

    The n-grams of one answer at a time are in memory, beside the different ones.
    """
    counts = [max(len(words) - order + 1, 0) for words in data.words]
    total = sum(counts)
    if not total:
        raise NotApplicableError(f"no answer has {order} words" if order > 1 else "no answer has a word")
    holders: Counter = Counter()
    for words in data.words:
        holders.update(set(ngrams(words, order)))
    without, single = [], []
    for words, count in zip(data.words, counts, strict=True):
        own, rest = set(ngrams(words, order)), total - count
        alone = sum(holders[gram] == 1 for gram in own)
        without.append(((len(holders) - alone) / rest if rest else len(holders) / total) if count else None)
        single.append(len(own) / count if count else None)
    return MetricResult(pseudo_values(len(holders) / total, without), single)


@metric("Distinct words", direction="higher", unit="%")
def distinct_1(data: ScoringInput) -> MetricResult:
    """Different words / all words, over all answers.

    distinct-n of Li et al. 2016 (arXiv:1510.03055), n = 1.
    """
    return distinct(data, 1)


@metric("Distinct word pairs", direction="higher", unit="%", tables={"text": 7})
def distinct_2(data: ScoringInput) -> MetricResult:
    """Different word pairs / all word pairs, over all answers.

    distinct-n of Li et al. 2016 (arXiv:1510.03055), n = 2.
    """
    return distinct(data, 2)


@metric("Repetition within answers", direction="lower", unit="%", tables={"text": 6})
def repetition(data: ScoringInput) -> MetricResult:
    """Share of an answer's word triples that occurred earlier in it, mean over answers.

    1 - different / all n-grams: seq-rep-n of Welleck et al. 2020 (arXiv:1908.04319), with n = 3 for short answers.
    """
    if all(len(words) < TRIPLE for words in data.words):
        raise NotApplicableError(f"no answer has {TRIPLE} words")
    grams = (ngrams(words, TRIPLE) for words in data.words)
    return MetricResult([[1 - len(set(record)) / len(record)] if record else None for record in grams])


@metric("Repetition of recent answers", direction="lower", unit="%")
def repetition_recent(data: ScoringInput) -> MetricResult:
    """Share of an answer's different word triples that one of the five answers before it has, mean over answers.

    Before it in the order of the records (`score.order_by`); the first answer has none before it, so its share is 0.
    An own definition.
    """
    if sum(len(words) >= TRIPLE for words in data.words) < 2:
        raise NotApplicableError(f"fewer than two answers have {TRIPLE} words")
    rows: list[list[float] | None] = [None] * len(data.words)
    recent: deque[set[tuple[str, ...]]] = deque(maxlen=RECENT)
    for place in data.sequence:
        own = set(ngrams(data.words[place], TRIPLE))
        if own:
            rows[place] = [len(own.intersection(set().union(*recent))) / len(own)]
        recent.append(own)
    return MetricResult(rows)


@metric("Mean length", direction="neither", unit="words")
def length_mean(data: ScoringInput) -> MetricResult:
    """Words per answer.

    Σ words / answers. An own definition.
    """
    return MetricResult([[len(words)] for words in data.words])


@metric("Length variation", direction="neither", statistic="variation", unit="%", unbounded=True, tables={"text": 8})
def length_variation(data: ScoringInput) -> MetricResult:
    """Standard deviation of the answers' lengths / their mean.

    s / mean, the coefficient of variation, with the sample standard deviation s = √(Σ (x - mean)² / (n - 1)).
    """
    if len(data.words) < 2:
        raise NotApplicableError("one answer has no variation")
    return MetricResult([[len(words), len(words) ** 2] for words in data.words], [len(words) for words in data.words])


@metric("Generic phrases", direction="lower", statistic="yes_no", setting="generic_phrases")
def generic_phrase_rate(data: ScoringInput) -> MetricResult:
    """Share of answers that match a pattern of `score.generic_phrases`.

    Answers with a match / all non-empty answers. An own definition.
    """
    return phrase_rate(data, data.generic_phrases)


def phrase_rate(data: ScoringInput, phrases: tuple[str, ...]) -> MetricResult:
    """Return 1 for answers that match a pattern (see `ScoringInput.phrase`); empty answers don't count."""
    if not any(data.texts):
        raise NotApplicableError("every answer is empty")
    return MetricResult(
        [
            yes_no(any(data.phrase(index, pattern) for pattern in phrases)) if text else None
            for index, text in enumerate(data.texts)
        ]
    )


@metric(
    "Median seconds per answer",
    name="seconds_p50",
    direction="lower",
    statistic="p50",
    meaning="median seconds per answer, of calls made one at a time",
    tables={"entities": 9, "exact": 7, "text": 10},
    classifier=True,
)
@metric(
    "95th percentile of the seconds per answer",
    name="seconds_p95",
    direction="lower",
    statistic="p95",
    meaning="95th percentile of the seconds per answer, of calls made one at a time",
    classifier=True,
)
def seconds(data: ScoringInput) -> MetricResult:
    """Return the seconds per answer; None for an answer without a time of its own.

    The 50th or 95th percentile of the seconds from request to last token. An own definition.
    """
    return MetricResult([None if value is None else [value] for value in own_times(data)])


def own_times(data: ScoringInput) -> list[float | None]:
    """Return the seconds of each answer, None for one that was made in a batch or not timed."""
    times = [row.get("seconds") for row in data.answers]
    if all(value is None for value in times):
        raise NotApplicableError("answers of this variant were generated in batches")
    return times


@metric(
    "Cost of 1,000 answers",
    direction="lower",
    tables={"entities": 10, "exact": 8, "text": 11},
    optional=True,
    classifier=True,
    setting="price_per_hour",
)
def cost_per_1000(data: ScoringInput) -> MetricResult:
    """Mean seconds of an answer / 3600 × `score.price_per_hour` × 1000, of single calls; batches cost less.

    An own definition.
    """
    price = data.price_per_hour
    return MetricResult([None if value is None else [value / 3600 * price * 1000] for value in own_times(data)])


@metric("Finished answers", direction="higher", statistic="yes_no", tables={"exact": 6, "text": 9})
def finished(data: ScoringInput) -> MetricResult:
    """Share of non-empty answers that end before the length limit.

    Answers that are not empty and that the model ended itself / all answers. An own definition.
    """
    stops = [row["stop"] for row in data.answers]
    return MetricResult([yes_no(stop == "end" and text) for stop, text in zip(stops, data.texts, strict=True)])
