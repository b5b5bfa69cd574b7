"""The input of the metrics: the answers to one prompt set, and the likelihoods of the expected answers."""

import functools
import re
import sys
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from scripts.common.files import read_jsonl
from scripts.score.entity_rows import EntityRow, entity_row
from scripts.score.record_order import in_order
from scripts.score.reference import Reference
from scripts.score.tokenize_text import lowered_words
from scripts.score.unify_text import pattern_for, unified
from scripts.score.votes import Votes

YES, NO = [1], [0]


class NotApplicableError(Exception):
    """A metric has no value; the text says why."""


@dataclass(frozen=True)
class MetricResult:
    """A metric's statistics: one row per record (None: not applicable), and the value of a single record."""

    rows: list
    per_record: list | None = None


@dataclass(frozen=True)
class ScoringInput:
    """The answers to one prompt set, in order, and the settings that metrics need.

    `records` has `group`, `meta` (the raw record's other columns) and `origin` of each test record by id.
    """

    answers: list[dict]
    language: str | None = None
    generic_phrases: tuple[str, ...] = ()
    likelihood: dict[str, dict] = field(default_factory=dict)
    price_per_hour: float | None = None
    assistant_phrases: tuple[str, ...] = ()
    reference: Reference | None = None
    records: dict[str, dict] = field(default_factory=dict)
    order_by: tuple[str, ...] = ()
    votes: Votes | None = None

    @functools.cached_property
    def texts(self) -> list[str]:
        """The answers' texts in NFC, without outer white space."""
        return [clean(row["answer"]) for row in self.answers]

    @functools.cached_property
    def expected(self) -> list[str | None]:
        """The expected answers in NFC, without outer white space; None where there is none."""
        return [None if row["expected"] is None else clean(row["expected"]) for row in self.answers]

    @functools.cached_property
    def unified_texts(self) -> list[str]:
        """The answers' texts as n-grams and patterns see them."""
        return [unified(text, self.language) for text in self.texts]

    @functools.cached_property
    def unified_expected(self) -> list[str | None]:
        """The expected answers as n-grams see them; None where there is none."""
        return [None if text is None else unified(text, self.language) for text in self.expected]

    @functools.cached_property
    def words(self) -> list[list[str]]:
        """The answers' words in lower case; equal words are one object (200 MB less for 100,000 answers)."""
        known: dict[str, str] = {}
        return [[known.setdefault(word, word) for word in lowered_words(text, self.language)] for text in self.texts]

    @functools.cached_property
    def entities(self) -> list[EntityRow | None]:
        """The records' expected and found entities; None for a record without spans."""
        return [entity_row(row) for row in self.answers]

    @functools.cached_property
    def groups(self) -> list[str | None] | None:
        """The group of each answer's record; None if no record has a group."""
        groups = [self.records[row["id"]]["group"] if row["id"] in self.records else None for row in self.answers]
        return groups if any(group is not None for group in groups) else None

    @functools.cached_property
    def sequence(self) -> list[int]:
        """The places of the answers in the order of their records (`score.order_by`)."""
        return in_order(self.answers, self.records, self.order_by)

    @property
    def is_classified(self) -> bool:
        """Whether the answers come from a classifier, which writes no text."""
        return any(row.get("entities") is not None for row in self.answers)

    def phrase(self, index: int, pattern: str) -> re.Match | None:
        """Return the first match of a pattern in an answer's text in NFC, or else in its unified form."""
        found = pattern_for(pattern, is_unified=False).search(self.texts[index])
        return found or pattern_for(pattern, is_unified=True).search(self.unified_texts[index])

    def pairs(self) -> list[tuple[str, str] | None]:
        """Return (answer, expected) per record, None without an expected one; NotApplicableError if all lack it."""
        if all(expected is None for expected in self.expected):
            raise NotApplicableError("no record has an expected answer")
        return [
            None if expected is None else (text, expected)
            for text, expected in zip(self.texts, self.expected, strict=True)
        ]


def clean(text: str) -> str:
    """Return a text in Unicode NFC without outer white space."""
    return unicodedata.normalize("NFC", text).strip()


def yes_no(is_so) -> list[int]:
    """Return the row of a record's yes or no; rows with the same number are one object."""
    return YES if is_so else NO


def read_answers(path: Path) -> dict[str, list[dict]]:
    """Return the answers of a file by prompt set, `test` first; `expected` and `label` may be missing."""
    sets: dict[str, list[dict]] = {"test": []}
    for row in read_jsonl(path):
        row = {sys.intern(key): value for key, value in row.items()}  # else each row keeps its own texts of the keys
        sets.setdefault(row["prompt_set"], []).append({"expected": None, "label": None, **row})
    return sets


def read_likelihood(path: Path) -> dict[str, dict]:
    """Return the likelihood rows of a file by record id."""
    return {row["id"]: {sys.intern(key): value for key, value in row.items()} for row in read_jsonl(path)}


def read_records(path: Path) -> dict[str, dict]:
    """Return `group`, `meta` and `origin` of a split's records by id."""
    return {row["id"]: {key: row[key] for key in ("group", "meta", "origin")} for row in read_jsonl(path)}
