"""The metrics in tables, and the ranking metric, by the kind of answers (`answer_kind` in score_answers.py)."""

from scripts.score.metrics import METRICS

# The first that every row has is used. The character error rate distinguishes rows whose answers are all wrong.
RANKED_BY = {
    "entities": ("entity_f1", "perplexity_per_character", "chrf"),
    "exact": ("character_error_rate", "exact_match", "perplexity_per_character", "chrf"),
    "text": ("perplexity_per_character", "chrf", "rouge_l"),
}
# If a run asks for one of these, its answers are `exact`.
EXACT = ("exact_match", "normalised_match", "character_error_rate")
MAIN = {"entities": "entity_f1", "exact": "character_error_rate", "text": "chrf"}  # shown for single answers


def table_of(kind: str) -> list[str]:
    """Return the metrics with a column in the tables of a kind of answers, or of `style`."""
    placed = [metric for metric, entry in METRICS.items() if kind in entry.tables]
    return sorted(placed, key=lambda metric: METRICS[metric].tables[kind])


def kind_of(scores: list[dict]) -> str:
    """Return the common kind of answers of score files; `text` if they differ."""
    kinds = {found["answer_kind"] for found in scores}
    return kinds.pop() if len(kinds) == 1 else "text"


def left_aside(scores: list[dict], gates: list[dict]) -> tuple[str, ...]:
    """Return the metrics to leave out of short tables: those of style, for exact answers."""
    if kind_of(scores) != "exact":
        return ()
    named = {gate["metric"] for gate in gates}.union(*(found["asked"] or () for found in scores))
    return tuple(metric for metric in table_of("style") if metric not in named)


def columns_of(scores: list[dict], style: bool = False) -> list[str]:
    """Return the metrics to show of several score files; for free text also those of `style` with a value."""
    kind = kind_of(scores)
    of_style = table_of("style") if style and kind == "text" else []
    return [
        metric
        for metric in [*table_of(kind), *of_style]
        if not (METRICS[metric].optional or metric in of_style) or any(found["metrics"].get(metric) for found in scores)
    ]
