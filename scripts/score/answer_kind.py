"""What kind of answers are scored: entities of a text, answers that must be exact, or free text."""

from typing import Literal

from scripts.common.records import images_of
from scripts.score.material import Material

AnswerKind = Literal["entities", "exact", "text"]
EXACT = ("exact_match", "normalised_match", "character_error_rate")


def answer_kind(material: Material, asked: list[str] | None) -> AnswerKind:
    """Return `entities` for records with spans, `exact` for what is read off an image, else `text`.

    `asked` are the metrics that the run names: one that compares letter by letter says that answers must be exact.
    """
    if any(material.entities):
        return "entities"
    if has_images(material) or any(metric in EXACT for metric in asked or ()):
        return "exact"
    return "text"


def has_images(material: Material) -> bool:
    """Say whether a question shows an image."""
    return any(images_of(row["messages"]) for row in material.answers)
