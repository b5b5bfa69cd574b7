"""How near the answers' style is to that of the training completions, and whether an assistant speaks instead.

None of this tells whether an answer is right or good: a model that repeats its training data has an overlap of 100 %.
"""

import re

import regex

from scripts.score.material import Material, Measured, NotApplicableError
from scripts.score.reference import Reference, style_grams

EXCLAMATIONS = regex.compile(r"[!¡！]")
# A character that is shown as an emoji by itself (UTS #51), or one that is text unless a variation selector follows.
EMOJI = regex.compile(r"\p{Emoji_Presentation}|\p{Emoji}\uFE0F")


def share_with(material: Material, pattern: regex.Pattern) -> Measured:
    """Return 1 per answer in which a pattern is found."""
    return Measured([[int(bool(pattern.search(text)))] for text in material.texts])


def exclamation_rate(material: Material) -> Measured:
    """Return 1 per answer with an exclamation mark."""
    return share_with(material, EXCLAMATIONS)


def emoji_rate(material: Material) -> Measured:
    """Return 1 per answer with an emoji."""
    return share_with(material, EMOJI)


def reference_of(material: Material) -> Reference:
    """Return the training completions; NotApplicableError where there are none."""
    if material.reference is None or not material.reference.texts:
        raise NotApplicableError("no training completions were given to compare with")
    return material.reference


def style_overlap(material: Material) -> Measured:
    """Return, per answer of at least two words, the share of its word pairs and triples that completions have too.

    The precision of n-grams as in BLEU (Papineni et al. 2002), against all completions at once and without clipping.
    """
    known = reference_of(material).grams
    grams = [style_grams(words) for words in material.words]
    if not any(grams):
        raise NotApplicableError("no answer has two words")
    return Measured([[sum(gram in known for gram in record) / len(record)] if record else None for record in grams])


def length_ratio(material: Material) -> Measured:
    """Return, per answer, its number of words as a share of the mean of the completions."""
    mean = reference_of(material).mean_length
    if not mean:
        raise NotApplicableError("the training completions have no words")
    return Measured([[len(words) / mean] for words in material.words])


def assistant_phrase_rate(material: Material) -> Measured:
    """Return 1 per answer in which one of the run's patterns of assistant-speak is found, case apart."""
    if not material.assistant_phrases:
        raise NotApplicableError("score.assistant_phrases lists no pattern")
    patterns = [re.compile(pattern, re.IGNORECASE) for pattern in material.assistant_phrases]
    return Measured([[int(any(pattern.search(text) for pattern in patterns))] for text in material.texts])


def reference_facts(reference: Reference | None) -> dict | None:
    """Return the completions' own figures, to hold those of the answers against; None without any."""
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
