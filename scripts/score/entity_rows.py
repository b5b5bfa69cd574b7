"""The expected and the found entities of one record, and their counts."""

import bisect
import functools
from collections import Counter
from dataclasses import dataclass

import regex

from scripts.common.records import text_of
from scripts.dataset.entities import entities_of, parse_entities

Span = tuple[int, int, str]
Counts = dict[str, list[int]]
OUTSIDE = "O"
# In scripts without spaces each character is a word.
SPACELESS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
OF_WORDS = r"\p{L}\p{M}\p{N}_"
WORD = regex.compile(rf"[{SPACELESS}]\p{{M}}*|(?:(?![{SPACELESS}])[{OF_WORDS}])+|[^\s{OF_WORDS}]")


@dataclass(frozen=True)
class EntityRow:
    """One record's text with its expected entities (`gold`) and the answer's (`found`): (start, end, label) in
    characters.

    `absent` has (label, text) of the answer's entities that are not in the text; `valid` says whether the answer could
    be parsed.
    """

    text: str
    gold: list[Span]
    found: list[Span]
    absent: list[tuple[str, str]]
    valid: bool

    @functools.cached_property
    def strict(self) -> Counts:
        """[True positives, false positives, false negatives] by class; one not in the text is a false positive."""
        gold, found = Counter(self.gold), Counter(self.found)
        counts: Counts = {}
        for column, spans in enumerate((gold & found, found - gold, gold - found)):
            for (*_, label), times in spans.items():
                counts.setdefault(label, [0, 0, 0])[column] += times
        for label, _ in self.absent:
            counts.setdefault(label, [0, 0, 0])[1] += 1
        return counts

    @functools.cached_property
    def word_pairs(self) -> Counter:
        """The number of words with each pair (expected label, found label)."""
        words = words_of(self.text)
        return Counter(zip(word_labels(words, self.gold), word_labels(words, self.found), strict=True))

    @functools.cached_property
    def words(self) -> Counts:
        """[True positives, false positives, false negatives] by class, in words of the text."""
        counts: Counts = {}
        for (gold, found), times in self.word_pairs.items():
            if gold == found != OUTSIDE:
                counts.setdefault(gold, [0, 0, 0])[0] += times
            elif gold != found:
                for label, column in ((found, 1), (gold, 2)):
                    if label != OUTSIDE:
                        counts.setdefault(label, [0, 0, 0])[column] += times
        return counts


def asked_text(row: dict) -> str:
    """Return the text to find entities in: the row's `text`, or its last user message."""
    if isinstance(row.get("text"), str):
        return row["text"]
    return text_of(next(message["content"] for message in reversed(row["messages"]) if message["role"] == "user"))


def entity_row(row: dict) -> EntityRow | None:
    """Return the entities of an answer's row, a classifier's or parsed from JSON; None if its record has no spans."""
    if row.get("spans") is None:
        return None
    text = asked_text(row)
    gold = [(start, end, label) for start, end, label, *_ in row["spans"]]
    if row.get("entities") is not None:
        return EntityRow(text, gold, [(start, end, label) for start, end, label, *_ in row["entities"]], [], True)
    parsed = parse_entities(row["answer"], text)
    if parsed is None:
        return EntityRow(text, gold, [], [], False)
    found = [(start, end, label) for start, end, label in parsed[0]]
    placed = Counter((label, text[start:end]) for start, end, label in found)
    absent = Counter(entities_of(row["answer"])) - placed
    return EntityRow(text, gold, found, sorted(absent.elements()), True)


def words_of(text: str) -> list[tuple[int, int]]:
    """Return (start, end) of a text's words and punctuation marks: the units of token scores for all models."""
    return [found.span() for found in WORD.finditer(text)]


def word_labels(words: list[tuple[int, int]], spans: list[Span]) -> list[str]:
    """Return the label of each word: that of the span with most of its characters, `O` without one."""
    labels = [OUTSIDE] * len(words)
    most = [0] * len(words)
    ends = [end for _, end in words]
    for start, end, label in sorted(spans):
        index = bisect.bisect_right(ends, start)
        while index < len(words) and words[index][0] < end:
            shared = min(end, words[index][1]) - max(start, words[index][0])
            if shared > most[index]:
                labels[index], most[index] = label, shared
            index += 1
    return labels
