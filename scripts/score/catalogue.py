"""What every metric is called, how its statistics become one number, and which direction is better."""

from dataclasses import dataclass
from typing import Literal

Direction = Literal["lower", "higher", "neither"]
Kind = Literal[
    "mean", "yes_no", "ratio", "share", "exp_ratio", "bleu", "chrf", "variation", "f1", "f1_macro", "f1_weighted",
    "p50", "p95",
]  # fmt: skip
ARROWS = {"lower": "↓", "higher": "↑", "neither": ""}


@dataclass(frozen=True)
class Entry:
    """One metric: title for people, `kind` of its statistics (scripts/score/kinds.py), better direction, unit.

    `unbounded`: it is shown in per cent, but may lie above 100 %.
    """

    title: str
    kind: Kind
    direction: Direction
    unit: Literal["", "%", "s", "words"] = ""
    unbounded: bool = False

    @property
    def is_share(self) -> bool:
        """Whether the metric lies between 0 and 1 by definition."""
        return self.unit == "%" and not self.unbounded


CATALOGUE: dict[str, Entry] = {
    "perplexity": Entry("Perplexity per token", "exp_ratio", "lower"),
    "perplexity_per_character": Entry("Perplexity per character", "exp_ratio", "lower"),
    "bleu": Entry("BLEU", "bleu", "higher"),
    "chrf": Entry("chrF", "chrf", "higher"),
    "rouge_l": Entry("ROUGE-L", "mean", "higher", "%"),
    "exact_match": Entry("Exact match", "yes_no", "higher", "%"),
    "normalised_match": Entry("Normalised match", "yes_no", "higher", "%"),
    "character_error_rate": Entry("Character error rate", "ratio", "lower", "%", unbounded=True),
    "distinct_1": Entry("Distinct words", "mean", "higher", "%"),
    "distinct_2": Entry("Distinct word pairs", "mean", "higher", "%"),
    "repetition": Entry("Repetition within answers", "mean", "lower", "%"),
    "repetition_across": Entry("Repetition across answers", "mean", "lower", "%"),
    "length_mean": Entry("Mean length", "mean", "neither", "words"),
    "length_variation": Entry("Length variation", "variation", "neither", "%", unbounded=True),
    "generic_phrase_rate": Entry("Generic phrases", "yes_no", "lower", "%"),
    "seconds_p50": Entry("Seconds per answer, median", "p50", "lower", "s"),
    "seconds_p95": Entry("Seconds per answer, 95th percentile", "p95", "lower", "s"),
    "present_share": Entry("Present tense", "ratio", "neither", "%"),
    "passe_compose_share": Entry("Passé composé", "ratio", "neither", "%"),
    "proper_noun_rate": Entry("Proper nouns", "ratio", "neither", "%"),
    "finished": Entry("Finished answers", "yes_no", "higher", "%"),
    "length_ratio": Entry("Length against training", "mean", "neither", "%", unbounded=True),
    "exclamation_rate": Entry("With an exclamation mark", "yes_no", "neither", "%"),
    "emoji_rate": Entry("With an emoji", "yes_no", "neither", "%"),
    "style_overlap": Entry("Word pairs and triples of training", "mean", "higher", "%"),
    "assistant_phrase_rate": Entry("Assistant-speak", "yes_no", "lower", "%"),
    "entity_f1": Entry("Entity F1, strict", "f1", "higher", "%"),
    "entity_precision": Entry("Entity precision, strict", "share", "higher", "%"),
    "entity_recall": Entry("Entity recall, strict", "share", "higher", "%"),
    "entity_f1_macro": Entry("Entity F1, strict, mean of classes", "f1_macro", "higher", "%"),
    "token_f1_micro": Entry("Token F1, micro", "f1", "higher", "%"),
    "token_f1_macro": Entry("Token F1, macro", "f1_macro", "higher", "%"),
    "token_f1_weighted": Entry("Token F1, weighted", "f1_weighted", "higher", "%"),
    "parsed": Entry("Answers that are valid JSON", "yes_no", "higher", "%"),
    "cost_per_1000": Entry("Cost of 1,000 answers", "mean", "lower"),
}
METRICS = tuple(CATALOGUE)


def shown(metric: str, value: float | None, signed: bool = False, unit: bool = True) -> str:
    """Return a metric's value as people read it: about three digits, its unit after it, shares in per cent.

    `signed` is for differences, whose sign is always shown and which are percentage points (pp) where shares differ.
    """
    if value is None:
        return "–"
    entry = CATALOGUE[metric]
    scaled = value * 100 if entry.unit == "%" else value
    name = "pp" if signed and entry.unit == "%" else entry.unit
    return number(scaled, signed) + (f" {name}" if unit and name else "")


def number(value: float, signed: bool = False) -> str:
    """Return a number with about three digits, and with a sign when asked; a true minus sign, no exponent below 1e6."""
    size = abs(value)
    if size >= 1e6:
        text = f"{size:.2e}"
    else:
        digits = 0 if size >= 1000 else 1 if size >= 10 else 2 if size >= 0.1 or size == 0 else 3
        digits += 0.0005 <= size < 0.01  # such as the cost of 1,000 short answers
        text = f"{size:,.{digits}f}".replace(",", "\u202f")
    negative = value < 0 and any(digit in text for digit in "123456789")
    return ("−" if negative else "+" if signed and size else "") + text
