"""Metrics of entities: strict by type and position, and per word.

Strict scores count an entity as found when type, start and end are right, as CoNLL-2003 (Tjong Kim Sang and De Meulder
2003) and seqeval do. Token scores are those of `sklearn.metrics.f1_score` over the words of all texts, with the classes
without `O`, B- and I- as `labels`. A fixed rule splits words, so that all models are scored on the same ones. Macro and
weighted means are over the classes of the expected answers.
"""

from scripts.score.entity_rows import Counts, EntityRow
from scripts.score.metrics import metric
from scripts.score.scoring_input import MetricResult, NotApplicableError, ScoringInput


def classes_of(rows: list[EntityRow | None]) -> list[str]:
    """Return the sorted classes of the expected answers."""
    return sorted({label for row in rows if row for *_, label in row.gold})


def by_class(data: ScoringInput, counts: str) -> MetricResult:
    """Return each record's counts per class, `strict` or `words`; raises NotApplicableError if there is no class."""
    rows = data.entities
    classes = classes_of(rows)
    if not classes:
        raise NotApplicableError("no record has an entity")
    return MetricResult([row and flat(getattr(row, counts), classes) for row in rows])


def total(counts: Counts) -> list[int]:
    """Return the sums of the classes' counts."""
    return [sum(column) for column in zip(*counts.values(), strict=True)] if counts else [0, 0, 0]


def flat(counts: Counts, classes: list[str]) -> list[int]:
    """Return the counts of these classes, one after the other."""
    return [number for label in classes for number in counts.get(label, (0, 0, 0))]


def strict_totals(data: ScoringInput) -> list[list[int] | None]:
    """Return [true positives, false positives, false negatives] per record."""
    return [row and total(row.strict) for row in data.entities]


@metric(
    "Strict entity F1",
    direction="higher",
    quality=True,
    statistic="f1",
    tables={"entities": 1},
    spans=True,
    classifier=True,
)
def entity_f1(data: ScoringInput) -> MetricResult:
    """2 × correct entities / (found entities + expected ones); correct: type, start and end.

    2 × P × R / (P + R) over all entities, strict as in CoNLL-2003 (Tjong Kim Sang and De Meulder 2003) and seqeval.
    """
    return MetricResult(strict_totals(data))


@metric(
    "Strict entity precision",
    direction="higher",
    quality=True,
    statistic="share",
    tables={"entities": 2},
    spans=True,
    classifier=True,
)
def entity_precision(data: ScoringInput) -> MetricResult:
    """Correct entities / found entities.

    P = TP / (TP + FP) over all entities, strict as in CoNLL-2003 and seqeval.
    """
    return MetricResult([row and [row[0], row[0] + row[1]] for row in strict_totals(data)])


@metric(
    "Strict entity recall",
    direction="higher",
    quality=True,
    statistic="share",
    tables={"entities": 3},
    spans=True,
    classifier=True,
)
def entity_recall(data: ScoringInput) -> MetricResult:
    """Correct entities / expected entities.

    R = TP / (TP + FN) over all entities, strict as in CoNLL-2003 and seqeval.
    """
    return MetricResult([row and [row[0], row[0] + row[2]] for row in strict_totals(data)])


@metric(
    "Strict entity F1, mean of classes",
    direction="higher",
    quality=True,
    statistic="f1_macro",
    tables={"entities": 4},
    spans=True,
    classifier=True,
)
def entity_f1_macro(data: ScoringInput) -> MetricResult:
    """Strict F1 of each class, mean over classes.

    Σ F1 of a class / number of classes with expected entities; F1 as in `entity_f1`.
    """
    return by_class(data, "strict")


@metric(
    "Micro token F1",
    direction="higher",
    quality=True,
    statistic="f1",
    tables={"entities": 7},
    spans=True,
    classifier=True,
)
def token_f1_micro(data: ScoringInput) -> MetricResult:
    """F1 of the classes of words, over all words.

    `sklearn.metrics.f1_score` with `average="micro"` over words, without the class `O`.
    """
    return MetricResult([row and total(row.words) for row in data.entities])


@metric(
    "Macro token F1",
    name="token_f1_macro",
    direction="higher",
    quality=True,
    statistic="f1_macro",
    meaning="F1 of the classes of words, mean over classes",
    tables={"entities": 6},
    spans=True,
    classifier=True,
)
@metric(
    "Weighted token F1",
    name="token_f1_weighted",
    direction="higher",
    quality=True,
    statistic="f1_weighted",
    meaning="the same, classes weighted by their expected words",
    tables={"entities": 5},
    spans=True,
    classifier=True,
)
def token_f1_by_class(data: ScoringInput) -> MetricResult:
    """Return the counts of words of every class per record, for the macro and the weighted mean.

    `sklearn.metrics.f1_score` with `average="macro"` or `"weighted"` over words, without the class `O`.
    """
    return by_class(data, "words")


@metric(
    "Answers that are valid JSON",
    direction="higher",
    statistic="yes_no",
    tables={"entities": 8},
    optional=True,
    spans=True,
)
def parsed(data: ScoringInput) -> MetricResult:
    """Share of answers that are valid JSON of entities.

    Answers that are such JSON / all answers. An own definition.
    """
    return MetricResult([row and [int(row.valid)] for row in data.entities])
