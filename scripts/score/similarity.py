"""Metrics of similarity to the expected answer: perplexity, BLEU, chrF, ROUGE-L, matches."""

import numpy as np
from sacrebleu.metrics import BLEU, CHRF

from scripts.common.language import language_of
from scripts.score.metrics import metric
from scripts.score.ngram_counts import characters, ngram_counts, numbered
from scripts.score.scoring_input import MetricResult, NotApplicableError, ScoringInput, yes_no
from scripts.score.statistics import BLEU_ORDER, CHRF_ORDER
from scripts.score.tokenize_text import WITHOUT_SPACES, lowered_words, match_normalised

# sacrebleu's tokenizers: `13a` splits at ASCII punctuation only, `intl` at all Unicode punctuation (’ « » …).
BLEU_TOKENIZERS = {"": "13a", "en": "13a", "zh": "zh", **{code: "char" for code in WITHOUT_SPACES if code != "zh"}}


def bleu_metric(language: str | None) -> BLEU:
    """Return sacrebleu's BLEU for a language; the effective order keeps answers of under four words from being 0."""
    return BLEU(tokenize=BLEU_TOKENIZERS.get(language_of(language), "intl"), effective_order=True, force=True)


def signatures(language: str | None) -> dict[str, str]:
    """Return sacrebleu's signatures, which identify the computation on texts that were unified before."""
    signed = {}
    for name, scorer in (("bleu", bleu_metric(language)), ("chrf", CHRF())):
        scorer.corpus_score(["a"], [["a"]])
        signed[name] = scorer.get_signature().format()
    return signed


def unified_pairs(data: ScoringInput) -> list[tuple[str, str] | None]:
    """Return (answer, expected) per record as n-grams see them, None without an expected answer."""
    return [
        pair and (text, expected)
        for pair, text, expected in zip(data.pairs(), data.unified_texts, data.unified_expected, strict=True)
    ]


def likelihood_rows(data: ScoringInput, unit: str) -> MetricResult:
    """Return (negative log likelihood in nats, units) of the expected answer per record."""
    found = [data.likelihood.get(row["id"]) for row in data.answers]
    rows = [[row["nll"], row[unit]] if row and row[unit] > 0 else None for row in found]
    if not any(rows):
        raise NotApplicableError("the likelihood of expected answers was not computed for these records")
    return MetricResult(rows)


@metric("Perplexity per token", direction="lower", quality=True, statistic="exp_ratio", tables={"text": 2})
def perplexity(data: ScoringInput) -> MetricResult:
    """exp(negative log likelihood of the expected answers / their tokens).

    exp(-Σ ln p(token) / tokens) over all records (Jelinek et al. 1977).
    """
    return likelihood_rows(data, "tokens")


@metric(
    "Perplexity per character", direction="lower", quality=True, statistic="exp_ratio", tables={"exact": 5, "text": 1}
)
def perplexity_per_character(data: ScoringInput) -> MetricResult:
    """exp(negative log likelihood of the expected answers / their characters).

    exp(-Σ ln p(token) / characters) over all records: 2 to the power of the bits per character.
    """
    return likelihood_rows(data, "characters")


@metric("BLEU", direction="higher", quality=True, statistic="bleu", tables={"text": 5})
def bleu(data: ScoringInput) -> MetricResult:
    """Matched word n-grams, n = 1 to 4, with a penalty for short answers; 0 to 100.

    BP × exp(Σ ln pₙ / 4), BP = min(1, exp(1 - r / c)), of Papineni et al. 2002, as sacrebleu computes it (Post 2018).
    """
    scorer = bleu_metric(data.language)

    def words(texts: list[str]) -> list[np.ndarray]:
        found = numbered([scorer._preprocess_segment(text).split() for text in texts])
        type(scorer.tokenizer).__call__.cache_clear()  # it keeps 65,536 texts
        return found

    rows = ngram_counts(unified_pairs(data), BLEU_ORDER, words)
    return MetricResult([row and [row[0][0], row[1][0], *row[2], *row[0]] for row in rows])


@metric("chrF", direction="higher", quality=True, statistic="chrf", tables={"exact": 4, "text": 3})
def chrf(data: ScoringInput) -> MetricResult:
    """Matched character n-grams, n = 1 to 6, recall weighted twice; 0 to 100.

    5 × P × R / (4 × P + R), of Popović 2015 with β = 2 (chrF2), as sacrebleu computes it (Post 2018).
    """
    rows = ngram_counts(unified_pairs(data), CHRF_ORDER, characters)
    return MetricResult([row and chrf_columns(*row) for row in rows])


def chrf_columns(answer: list[int], expected: list[int], matched: list[int]) -> list[int]:
    """Return the columns of chrF from the n-grams of each order; the answer's are 0 without expected ones."""
    return [number for a, e, m in zip(answer, expected, matched, strict=True) for number in (a if e else 0, e, m)]


@metric("ROUGE-L", direction="higher", quality=True, unit="%", tables={"text": 4})
def rouge_l(data: ScoringInput) -> MetricResult:
    """F1 of the longest common subsequence of words, mean over answers.

    2 × LCS / (words of the answer + words of the expected one), of Lin 2004 with β = 1.
    """
    from rapidfuzz.distance import LCSseq

    def f1(answer: list[str], expected: list[str]) -> float:
        common = LCSseq.similarity(answer, expected)
        return 2 * common / (len(answer) + len(expected)) if common else 0.0

    pairs = zip(data.pairs(), data.words, strict=True)
    return MetricResult([pair and [f1(words, lowered_words(pair[1], data.language))] for pair, words in pairs])


@metric("Exact match", direction="higher", quality=True, statistic="yes_no", tables={"exact": 1}, classifier=True)
def exact_match(data: ScoringInput) -> MetricResult:
    """Share of answers that equal the expected one exactly.

    Equal answers / all answers, in NFC without outer white space (exact match of Rajpurkar et al. 2016).
    """
    return MetricResult([pair and yes_no(pair[0] == pair[1]) for pair in data.pairs()])


@metric("Normalised match", direction="higher", quality=True, statistic="yes_no", tables={"exact": 2})
def normalised_match(data: ScoringInput) -> MetricResult:
    """Share of answers that equal the expected one, ignoring case, punctuation, spacing and forms of characters.

    Equal answers / all answers, after the normalisation below (after Rajpurkar et al. 2016).
    """
    return MetricResult([pair and yes_no(match_normalised(*pair, data.language)) for pair in data.pairs()])


@metric(
    "Character error rate",
    direction="lower",
    quality=True,
    statistic="ratio",
    unit="%",
    unbounded=True,
    tables={"exact": 3},
)
def character_error_rate(data: ScoringInput) -> MetricResult:
    """Characters to change, add or remove / characters of the expected answers.

    The distance of Levenshtein 1966 in code points of texts in NFC, summed before dividing as in jiwer; it may exceed 1
    for answers that are too long.
    """
    from rapidfuzz.distance import Levenshtein

    return MetricResult([pair and [Levenshtein.distance(*pair), len(pair[1])] for pair in data.pairs()])
