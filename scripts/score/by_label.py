"""Scores of the test records by label, such as the language or kind of event."""

from collections import Counter

from scripts.score.entity_tables import class_table
from scripts.score.measure import interval_row
from scripts.score.scoring_input import ScoringInput

MOST_LABELS = 30
# Their statistics depend on other records, or on the machine.
NOT_BY_LABEL = ("distinct_1", "distinct_2", "repetition_recent", "seconds_p50", "seconds_p95", "cost_per_1000")


def label_table(data: ScoringInput, statistics: dict[str, list], resamples: int, seed: int) -> dict[str, dict]:
    """Return {"records", "metrics"} of each label; empty for fewer than two labels.

    With entities, `entities` counts the expected ones, and `classes` is the table of their classes. A metric without a
    value for a label is None. Only the MOST_LABELS most frequent labels are included.
    """
    counted = Counter(row["label"] for row in data.answers if row["label"] is not None)
    if len(counted) < 2:
        return {}
    labels = sorted(sorted(counted), key=lambda label: -counted[label])[:MOST_LABELS]
    table = {}
    for label in sorted(labels):
        places = [index for index, row in enumerate(data.answers) if row["label"] == label]
        groups = data.groups and [data.groups[index] for index in places]
        table[label] = {"records": len(places), "metrics": {}}
        for metric, rows in statistics.items():
            if metric not in NOT_BY_LABEL:
                own = [rows[index] for index in places]
                table[label]["metrics"][metric] = interval_row(metric, own, groups, resamples, seed)
        entities = [data.entities[index] for index in places]
        if any(entities):
            table[label]["entities"] = sum(len(row.gold) for row in entities if row)
            table[label]["classes"] = class_table(entities, groups)
    return table
