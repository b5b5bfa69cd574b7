"""The order in which records follow each other, such as the minutes of a match."""

import re

from scripts.common.errors import UserError

NUMBER = re.compile(r"(\d{1,18})")


def natural(value: str | int | float | None) -> list:
    """Return a key that sorts numbers in a text by their value: 45' < 45'+2 < 46'. None comes first."""
    if value is None:
        return []
    if isinstance(value, int | float):
        return ["", value]
    parts = NUMBER.split(str(value))
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]


def in_order(answers: list[dict], records: dict[str, dict], order_by: tuple[str, ...]) -> list[int]:
    """Return the places of the answers in the order of their records.

    `order_by` names columns of the records' `meta`; without any, records are in the order of their groups, raw files
    and lines. Answers without a record (of a further prompt set) stay where they are, and so do equal ones.
    """

    def key(place: int) -> list:
        record = records.get(answers[place]["id"])
        if record is None:
            return []
        if order_by:
            return [natural(record["meta"].get(column)) for column in order_by]
        file, _, line = record["origin"].rpartition(":")
        return [natural(record["group"]), natural(file), natural(line)]

    return sorted(range(len(answers)), key=key)


def check_columns(order_by: list[str], records: dict[str, dict]) -> None:
    """Raise UserError for a column that no record has."""
    known = {column for record in records.values() for column in record["meta"]}
    for column in order_by:
        if records and column not in known:
            remedy = f"the records have {', '.join(sorted(known)) or 'no columns beside their messages'}"
            raise UserError(f"score.order_by: no test record has the column '{column}'", remedy=remedy)
