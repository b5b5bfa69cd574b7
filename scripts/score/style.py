"""Metrics of style: similarity to the training completions, and phrases of an assistant.

They don't measure whether an answer is right: a model that repeats its training data has an overlap of 100 %.
"""

import regex

from scripts.score.diversity import phrase_rate
from scripts.score.metrics import metric
from scripts.score.reference import Reference, style_grams
from scripts.score.scoring_input import MetricResult, NotApplicableError, ScoringInput, yes_no

EXCLAMATIONS = regex.compile(r"[!¡！]")
# A character with emoji presentation (UTS #51), or a text character followed by a variation selector.
EMOJI = regex.compile(r"\p{Emoji_Presentation}|\p{Emoji}\uFE0F")


def share_with(data: ScoringInput, pattern: regex.Pattern) -> MetricResult:
    """Return 1 for answers that match a pattern."""
    return MetricResult([yes_no(pattern.search(text)) for text in data.texts])


@metric("Answers with an exclamation mark", direction="neither", statistic="yes_no", tables={"style": 3})
def exclamation_rate(data: ScoringInput) -> MetricResult:
    """Share of answers with an exclamation mark.

    Answers with a mark / all answers. An own definition.
    """
    return share_with(data, EXCLAMATIONS)


@metric("Answers with an emoji", direction="neither", statistic="yes_no", tables={"style": 4})
def emoji_rate(data: ScoringInput) -> MetricResult:
    """Share of answers with an emoji.

    Answers with an emoji / all answers. An own definition.
    """
    return share_with(data, EMOJI)


def reference_of(data: ScoringInput) -> Reference:
    """Return the training completions; raises NotApplicableError if there are none."""
    if data.reference is None or not data.reference.texts:
        raise NotApplicableError("no training completions were given to compare with")
    return data.reference


@metric("Word pairs and triples of training", direction="higher", unit="%", tables={"style": 1})
def style_overlap(data: ScoringInput) -> MetricResult:
    """Share of an answer's word pairs and triples that training completions have, mean over answers.

    The precision of n-grams as in BLEU (Papineni et al. 2002), against all completions at once and without clipping.
    """
    known = reference_of(data).grams
    if all(len(words) < 2 for words in data.words):
        raise NotApplicableError("no answer has two words")
    grams = (style_grams(words) for words in data.words)
    return MetricResult([[sum(gram in known for gram in record) / len(record)] if record else None for record in grams])


@metric("Length against training", direction="neither", unit="%", unbounded=True, tables={"style": 2})
def length_ratio(data: ScoringInput) -> MetricResult:
    """Words of an answer / mean words of a training completion, mean over answers.

    An own definition.
    """
    mean = reference_of(data).mean_length
    if not mean:
        raise NotApplicableError("the training completions have no words")
    return MetricResult([[len(words) / mean] for words in data.words])


@metric("Assistant-speak", direction="lower", statistic="yes_no", tables={"style": 5}, setting="assistant_phrases")
def assistant_phrase_rate(data: ScoringInput) -> MetricResult:
    """Share of answers that match a pattern of `score.assistant_phrases`.

    Answers with a match / all non-empty answers. An own definition.
    """
    return phrase_rate(data, data.assistant_phrases)


def reference_facts(reference: Reference | None) -> dict | None:
    """Return the metrics of the completions for comparison; None without any."""
    if reference is None or not reference.texts:
        return None

    def share(pattern: regex.Pattern) -> float:
        return round(sum(bool(pattern.search(text)) for text in reference.texts) / len(reference.texts), 4)

    return {
        "completions": len(reference.texts),
        "length_mean": round(reference.mean_length, 4),
        "exclamation_rate": share(EXCLAMATIONS),
        "emoji_rate": share(EMOJI),
    }
