"""Which metrics stand in tables, and which one ranks, by the kind of answers (scripts/score/answer_kind.py)."""

# The first that every row has. The character error rate tells apart what exact match can't while all of it is wrong.
RANKED_BY = {
    "entities": ("entity_f1", "perplexity_per_character", "chrf"),
    "exact": ("character_error_rate", "exact_match", "perplexity_per_character", "chrf"),
    "text": ("perplexity_per_character", "chrf", "rouge_l"),
}
COLUMNS = {
    "entities": (
        "entity_f1",
        "entity_precision",
        "entity_recall",
        "entity_f1_macro",
        "token_f1_weighted",
        "token_f1_macro",
        "token_f1_micro",
        "parsed",
        "seconds_p50",
        "cost_per_1000",
    ),
    "exact": (
        "exact_match",
        "normalised_match",
        "character_error_rate",
        "chrf",
        "perplexity_per_character",
        "finished",
        "seconds_p50",
        "cost_per_1000",
    ),
    "text": (
        "perplexity_per_character",
        "perplexity",
        "chrf",
        "rouge_l",
        "bleu",
        "repetition",
        "distinct_2",
        "length_variation",
        "finished",
        "seconds_p50",
        "cost_per_1000",
    ),
}
# What a style is known by: beside the others where it was measured.
STYLE = ("style_overlap", "length_ratio", "exclamation_rate", "emoji_rate", "assistant_phrase_rate")
# Of these a column is shown only where it has a value: the others say by their reason why they have none.
OPTIONAL = ("cost_per_1000", "parsed", *STYLE)


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
    return tuple(metric for metric in STYLE if metric not in named)


def columns_of(scores: list[dict], more: tuple[str, ...] = ()) -> list[str]:
    """Return the metrics to show of several score files; of free text `more` as well, where they have a value."""
    kind = kind_of(scores)
    wanted = [*COLUMNS[kind], *(more if kind == "text" else ())]
    return [
        metric
        for metric in wanted
        if metric not in (*OPTIONAL, *more) or any(found["metrics"].get(metric) for found in scores)
    ]
