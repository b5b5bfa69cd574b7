"""How well entities are found: strictly by type and position, and word by word.

Strict scores count an entity as found when type, start and end are right, as the exact match of CoNLL-2003 (Tjong Kim
Sang and De Meulder 2003) and seqeval (https://github.com/chakki-works/seqeval) do. Token scores are those of
`sklearn.metrics.f1_score` over the words of all texts, `labels` being the classes without `O`. A word's class is that
of the span it lies in, without B- or I-, which say where spans begin and are seen by the strict scores. The words are
cut by a fixed rule and not by a model's tokenizer, so that all kinds of models are scored on the same ones.

Classes of the macro and weighted means are those that the expected answers have: a class that a model makes up lowers
precision and the micro scores, and is no class of its own.
"""

from scripts.score.entity_rows import Counts, EntityRow
from scripts.score.material import Material, Measured, NotApplicableError


def rows_with_entities(material: Material) -> list[EntityRow | None]:
    """Return the records' entities, None for a record without spans; NotApplicableError when none has any."""
    if not any(material.entities):
        raise NotApplicableError("the records have no spans")
    return material.entities


def classes_of(rows: list[EntityRow | None]) -> list[str]:
    """Return the classes that the expected answers have, sorted."""
    return sorted({label for row in rows if row for *_, label in row.gold})


def by_class(material: Material, counts: str) -> Measured:
    """Return each record's counts of every class, `strict` or of `words`; NotApplicableError when there is no class."""
    rows = rows_with_entities(material)
    classes = classes_of(rows)
    if not classes:
        raise NotApplicableError("no record has an entity")
    return Measured([row and flat(getattr(row, counts), classes) for row in rows])


def total(counts: Counts) -> list[int]:
    """Return the sums of the classes' counts."""
    return [sum(column) for column in zip(*counts.values(), strict=True)] if counts else [0, 0, 0]


def flat(counts: Counts, classes: list[str]) -> list[int]:
    """Return the counts of these classes, one after the other."""
    return [number for label in classes for number in counts.get(label, (0, 0, 0))]


def strict_totals(material: Material) -> list[list[int] | None]:
    """Return [true positives, false positives, false negatives] per record."""
    return [row and total(row.strict) for row in rows_with_entities(material)]


def entity_f1(material: Material) -> Measured:
    """Return the strict counts per record, for the F1 over all entities (micro)."""
    return Measured(strict_totals(material))


def entity_precision(material: Material) -> Measured:
    """Return (right ones, all entities of the answer) per record."""
    return Measured([row and [row[0], row[0] + row[1]] for row in strict_totals(material)])


def entity_recall(material: Material) -> Measured:
    """Return (right ones, all entities of the text) per record."""
    return Measured([row and [row[0], row[0] + row[2]] for row in strict_totals(material)])


def entity_f1_macro(material: Material) -> Measured:
    """Return the strict counts of every class per record."""
    return by_class(material, "strict")


def token_f1_micro(material: Material) -> Measured:
    """Return the counts of words per record."""
    return Measured([row and total(row.words) for row in rows_with_entities(material)])


def token_f1_by_class(material: Material) -> Measured:
    """Return the counts of words of every class per record, for the macro and the weighted mean."""
    return by_class(material, "words")


def parsed(material: Material) -> Measured:
    """Return 1 per answer that is JSON of entities and nothing else."""
    return Measured([row and [int(row.valid)] for row in rows_with_entities(material)])
