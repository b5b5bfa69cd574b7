"""All metrics of one variant: values with intervals, reasons where there is none, statistics per record."""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable

from scripts.score import diversity, entities, french, similarity, style
from scripts.score.bootstrap import estimate, point, rounded, table_of
from scripts.score.catalogue import CATALOGUE, METRICS
from scripts.score.material import Material, Measured, NotApplicableError

METRIC_FUNCTIONS: dict[str, Callable[[Material], Measured]] = {
    "perplexity": similarity.perplexity,
    "perplexity_per_character": similarity.perplexity_per_character,
    "bleu": similarity.bleu,
    "chrf": similarity.chrf,
    "rouge_l": similarity.rouge_l,
    "exact_match": similarity.exact_match,
    "normalised_match": similarity.normalised_match,
    "character_error_rate": similarity.character_error_rate,
    "distinct_1": diversity.distinct_1,
    "distinct_2": diversity.distinct_2,
    "repetition": diversity.repetition,
    "repetition_across": diversity.repetition_across,
    "length_mean": diversity.length_mean,
    "length_variation": diversity.length_variation,
    "generic_phrase_rate": diversity.generic_phrase_rate,
    "seconds_p50": diversity.seconds,
    "seconds_p95": diversity.seconds,
    "present_share": french.present_share,
    "passe_compose_share": french.passe_compose_share,
    "proper_noun_rate": french.proper_noun_rate,
    "finished": diversity.finished,
    "length_ratio": style.length_ratio,
    "exclamation_rate": style.exclamation_rate,
    "emoji_rate": style.emoji_rate,
    "style_overlap": style.style_overlap,
    "assistant_phrase_rate": style.assistant_phrase_rate,
    "entity_f1": entities.entity_f1,
    "entity_precision": entities.entity_precision,
    "entity_recall": entities.entity_recall,
    "entity_f1_macro": entities.entity_f1_macro,
    "token_f1_micro": entities.token_f1_micro,
    "token_f1_macro": entities.token_f1_by_class,
    "token_f1_weighted": entities.token_f1_by_class,
    "parsed": entities.parsed,
    "cost_per_1000": diversity.cost_per_1000,
}
# What is measured on a classifier: it writes no text of its own, only labels, which stand as JSON in `answer`.
OF_CLASSIFIERS = frozenset(
    metric for metric in METRIC_FUNCTIONS if metric.startswith(("entity_", "token_", "seconds_", "exact_", "cost_"))
)


def measured(metric: str, material: Material) -> Measured:
    """Return one metric's statistics; raise NotApplicableError with the reason when it has none."""
    if not material.answers:
        raise NotApplicableError("there is no record")
    if material.is_classified and metric not in OF_CLASSIFIERS:
        raise NotApplicableError("a classifier writes no text")
    return METRIC_FUNCTIONS[metric](material)


def single_values(metric: str, result: Measured) -> list[float | None]:
    """Return the metric's value for each record by itself, None where it has none."""
    kind = CATALOGUE[metric].kind
    if result.per_record is not None:
        return [None if value is None else rounded(float(value)) for value in result.per_record]
    values = [None if row is None else point(kind, table_of([row])) for row in result.rows]
    return [None if value is None or not math.isfinite(value) else rounded(value) for value in values]


def commonest(material: Material) -> dict[str, int] | None:
    """Return how often the commonest answer, expected answer and question stand; None where equal answers are right.

    Those are a classifier's, and answers of which none is expected. Empty answers don't count: `empty` does.
    """
    if material.is_classified or all(expected is None for expected in material.expected):
        return None
    return {
        "answers": most_equal(text for text in material.texts if text),
        "expected": most_equal(text for text in material.expected if text is not None),
        "questions": most_equal(json.dumps(row["messages"], sort_keys=True) for row in material.answers),
    }


def most_equal(texts: Iterable[str]) -> int:
    """Return how often the commonest of some texts stands among them, 0 when there is none."""
    return max(Counter(texts).values(), default=0)


def score_set(material: Material, asked: list[str] | None, resamples: int, seed: int) -> dict:
    """Return the scores of the answers to one prompt set, ready for JSON.

    `empty` counts the answers without any text, `commonest` the equal ones. `metrics` maps every metric to {"value",
    "low", "high", "n"} or None, `reasons` says why for each None, `per_record` holds the values and `statistics` the
    sufficient statistics of the records in the order of `ids`.
    """
    scores: dict = {"records": len(material.answers), "empty": material.texts.count("")}
    scores["commonest"] = commonest(material)
    scores["metrics"], scores["reasons"] = {}, {}
    scores["ids"] = [row["id"] for row in material.answers]
    scores["per_record"], scores["statistics"] = {}, {}
    for metric in METRICS:
        scores["metrics"][metric] = None
        if asked is not None and metric not in asked:
            scores["reasons"][metric] = "not asked for in score.metrics"
            continue
        try:
            result = measured(metric, material)
        except NotApplicableError as reason:
            scores["reasons"][metric] = str(reason)
            continue
        scores["statistics"][metric] = result.rows
        scores["per_record"][metric] = single_values(metric, result)
        scores["metrics"][metric] = interval_row(metric, result.rows, resamples, seed)
        if scores["metrics"][metric] is None:
            scores["reasons"][metric] = "not defined for these answers (division by zero, or beyond all bounds)"
    return scores


def interval_row(metric: str, rows: list, resamples: int, seed: int) -> dict | None:
    """Return a metric's {"value", "low", "high", "n"} from its records' statistics; None where it is not defined."""
    found = estimate(CATALOGUE[metric].kind, rows, resamples, seed)
    if found is None:
        return None
    return (found.within(0, 1) if CATALOGUE[metric].is_share else found).row()
