"""The training split as a reference: word n-grams and lengths of its completions, and its classes."""

import functools
from dataclasses import dataclass
from pathlib import Path

from scripts.common.files import read_jsonl
from scripts.common.records import Record
from scripts.score.tokenize_text import lowered_words, ngrams


@dataclass(frozen=True)
class Reference:
    """The distinct completions of the training split, and the sorted classes of its spans."""

    texts: tuple[str, ...]
    language: str | None = None
    classes: tuple[str, ...] = ()

    @functools.cached_property
    def words(self) -> list[list[str]]:
        return [lowered_words(text, self.language) for text in self.texts]

    @functools.cached_property
    def grams(self) -> frozenset[tuple[str, ...]]:
        return frozenset(gram for words in self.words for gram in style_grams(words))

    @property
    def mean_length(self) -> float:
        return sum(map(len, self.words)) / len(self.words) if self.words else 0.0


def style_grams(words: list[str]) -> list[tuple[str, ...]]:
    """Return the n-grams for the comparison of style: word pairs and triples."""
    return [gram for order in (2, 3) for gram in ngrams(words, order)]


def read_reference(path: Path, language: str | None) -> Reference:
    """Return the completions of a training split, each record's last answer, and the classes of its spans."""
    texts: dict[str, None] = {}
    classes: set[str] = set()
    for record in map(Record.from_row, read_jsonl(path)):
        if record.answer:
            texts[record.answer] = None
        classes.update(label for _, _, label, *_ in record.spans or ())
    return Reference(tuple(texts), language, tuple(sorted(classes)))
