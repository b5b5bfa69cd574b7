"""Comparison of prompt strategies: the same records with different prompts, against the chosen strategy."""

from scripts.score.board import RESAMPLES, SEED, direction, display
from scripts.score.columns import columns_of
from scripts.score.gates import metric_difference
from scripts.score.metric_list import METRICS
from scripts.score.shown import ARROWS, shown
from scripts.score.side_by_side import in_turn, question

PROMPTS = 4
UNCHANGED = "as in the data"


def strategy_sets(sets: dict, facts: dict) -> dict[str, str]:
    """Return name and prompt set of each strategy; the chosen one, with the set `test`, comes first.

    `facts` has `strategies`, the names, and `strategy`, the chosen one (None: the unchanged prompts of the data).
    """
    others = {name: name for name in facts["strategies"] if name in sets and name != facts["strategy"]}
    return {facts["strategy"] or UNCHANGED: "test"} | others if others else {}


def compared(metric: str, row: dict, chosen: dict) -> dict:
    """Return a strategy's cell: its value and the paired difference from the chosen strategy."""
    value = row["metrics"][metric]
    if value is None:
        return display(metric, {"value": None, "reason": row["reasons"].get(metric, "")})
    against = None
    if row is not chosen and chosen["metrics"][metric] is not None:
        against = metric_difference(row, chosen, metric, RESAMPLES, SEED)
    meaning = direction(metric, against) if against else None
    return display(metric, {**value, "against": against and against.row(), "meaning": meaning})


def strategy_table(scores: dict, facts: dict) -> dict | None:
    """Return the table of one variant's strategies, the chosen one first; None without any."""
    sets = {**scores["prompt_sets"], "test": scores}
    rows = {name: sets[key] for name, key in strategy_sets(sets, facts).items()}
    if not rows:
        return None
    others = [row for row in rows.values() if row is not scores]
    known = columns_of([scores], style=True)
    known.sort(key=lambda metric: "style" not in METRICS[metric].tables)  # style first: strategies mostly aim at it
    columns = [metric for metric in known if any(row["metrics"][metric] for row in others)]
    return {
        "variant": scores["variant"],
        "columns": [{"title": METRICS[m].title, "arrow": ARROWS[METRICS[m].direction]} for m in columns],
        "rows": [
            {"name": name, "chosen": row is scores, "cells": [compared(metric, row, scores) for metric in columns]}
            for name, row in rows.items()
        ]
        + training_row(scores["reference"], columns),
    }


def training_row(reference: dict | None, columns: list[str]) -> list[dict]:
    """Return a row with the values of the training completions for comparison; None without any."""
    if not any(metric in (reference or {}) for metric in columns):
        return []
    cells = [{"value": reference.get(metric), "reason": "", "spread": "", "delta": None} for metric in columns]
    shown_cells = [{**cell, "text": shown(metric, cell["value"])} for metric, cell in zip(columns, cells, strict=True)]
    return [{"name": "training completions", "chosen": False, "cells": shown_cells}]


def strategy_samples(sets: dict[str, list[dict]], facts: dict) -> list[dict]:
    """Return some records with the answer that one variant gives under each strategy.

    `sets` are that variant's answers by prompt set.
    """
    by_id = {name: {row["id"]: row for row in sets[key]} for name, key in strategy_sets(sets, facts).items()}
    chosen = sets["test"]
    return [
        {
            "label": chosen[index]["label"],
            "expected": chosen[index]["expected"],
            "answers": [
                {"name": name, "asked": question(row["messages"][-1:])[1], "text": row["answer"]}
                for name, rows in by_id.items()
                if (row := rows.get(chosen[index]["id"]))
            ],
        }
        for index in in_turn(chosen, PROMPTS)
    ]


def strategy_section(scores: dict[str, dict], answers: dict[str, dict], facts: dict, shipped: str) -> dict | None:
    """Return the page's section on strategies: tables per variant, and answers of the shipped one; None without any."""
    tables = [table for row in scores.values() if (table := strategy_table(row, facts))]
    if not tables:
        return None
    return {
        "tables": [{**table, "open": table["variant"] == shipped} for table in tables],
        "samples": strategy_samples(answers[shipped], facts),
        "variant": shipped,
    }
