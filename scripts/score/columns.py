"""Which metrics stand in tables, and which one ranks, by the kind of answers (scripts/score/answer_kind.py)."""

from scripts.common.metric_list import METRICS

# The first that every row has. The character error rate tells apart what exact match can't while all of it is wrong.
RANKED_BY = {
    "entities": ("entity_f1", "perplexity_per_character", "chrf"),
    "exact": ("character_error_rate", "exact_match", "perplexity_per_character", "chrf"),
    "text": ("perplexity_per_character", "chrf", "rouge_l"),
}


def table_of(kind: str) -> list[str]:
    """Return the metrics with a column in the tables of a kind of answers, or of `style`."""
    placed = [metric for metric, entry in METRICS.items() if kind in entry.tables]
    return sorted(placed, key=lambda metric: METRICS[metric].tables[kind])


def kind_of(scores: list[dict]) -> str:
    """Return the kind of answers that score files have in common, `text` when they differ."""
    kinds = {found["answer_kind"] for found in scores}
    return kinds.pop() if len(kinds) == 1 else "text"


def left_aside(scores: list[dict], gates: list[dict]) -> tuple[str, ...]:
    """Return the metrics to leave out where few are shown: those of style, when answers must be exact.

    One that a gate of the verdict looks at stays, and so does every one that score.metrics names.
    """
    if kind_of(scores) != "exact":
        return ()
    named = {gate["metric"] for gate in gates}.union(*(found["asked"] or () for found in scores))
    return tuple(metric for metric in table_of("style") if metric not in named)


def columns_of(scores: list[dict], style: bool = False) -> list[str]:
    """Return the metrics to show of several score files; of free text those of `style` as well, with a value."""
    kind = kind_of(scores)
    of_style = table_of("style") if style and kind == "text" else []
    return [
        metric
        for metric in [*table_of(kind), *of_style]
        if not (METRICS[metric].optional or metric in of_style) or any(found["metrics"].get(metric) for found in scores)
    ]
