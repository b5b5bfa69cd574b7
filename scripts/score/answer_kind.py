"""The kind of answers to score: entities of a text, exact answers, or free text."""

from typing import Literal

from scripts.common.records import images_of
from scripts.score.scoring_input import ScoringInput

AnswerKind = Literal["entities", "exact", "text"]
EXACT = ("exact_match", "normalised_match", "character_error_rate")


def answer_kind(data: ScoringInput, asked: list[str] | None) -> AnswerKind:
    """Return `entities` for records with spans, `exact` for questions with images, else `text`.

    `asked` are the run's metrics: a metric that compares letter by letter also means `exact`.
    """
    if any(data.entities):
        return "entities"
    if has_images(data) or any(metric in EXACT for metric in asked or ()):
        return "exact"
    return "text"


def has_images(data: ScoringInput) -> bool:
    """Return whether a question shows an image."""
    return any(images_of(row["messages"]) for row in data.answers)
