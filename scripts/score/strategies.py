"""Comparison of prompt strategies on the validation split: the same records, against the chosen strategy."""

from scripts.score.board import cell, display, mark
from scripts.score.columns import columns_of
from scripts.score.metrics import METRICS
from scripts.score.side_by_side import in_turn, question

PROMPTS = 4


def strategy_sets(sets: dict, facts: dict) -> dict[str, str]:
    """Return name and prompt set of each strategy; the chosen one, with the set `test`, comes first.

    `facts` has `strategies`, the names, and `strategy`, the chosen one (None: the unchanged prompts of the data).
    """
    others = {name: name for name in facts["strategies"] if name in sets and name != facts["strategy"]}
    return {facts["strategy"] or "as in the data": "test"} | others if others else {}


def strategy_table(scores: dict, facts: dict) -> dict | None:
    """Return the table of the shipped variant's strategies, the chosen one first; None without any."""
    sets = {**scores["prompt_sets"], "test": scores}
    rows = {name: sets[key] for name, key in strategy_sets(sets, facts).items()}
    if not rows:
        return None
    others = [row for row in rows.values() if row is not scores]
    known = columns_of([scores], style=True)
    known.sort(key=lambda metric: "style" not in METRICS[metric].tables)  # style first: strategies mostly aim at it
    columns = [metric for metric in known if any(row["metrics"][metric] for row in others)]
    found = [
        (name, row is scores, [cell(metric, row, None if row is scores else scores) for metric in columns])
        for name, row in rows.items()
    ]
    mark(each for *_, cells in found for each in cells)
    reference = scores["reference"] or {}
    if any(metric in reference for metric in columns):
        values = [{"value": reference.get(metric)} for metric in columns]
        found.append(("training completions", False, values))
    return {
        "variant": scores["variant"],
        "records": scores["records"],
        "columns": [METRICS[metric] for metric in columns],
        "rows": [
            {"name": name, "chosen": chosen, "cells": list(map(display, columns, cells))}
            for name, chosen, cells in found
        ],
    }


def strategy_samples(sets: dict[str, list[dict]], facts: dict) -> list[dict]:
    """Return some records with the answer that the shipped variant gives under each strategy."""
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


def strategy_section(scores: dict, sets: dict[str, list[dict]], facts: dict) -> dict | None:
    """Return the page's section on strategies, a table and answers, from what answered the validation split.

    `sets` are the answers by prompt set. None without strategies.
    """
    table = strategy_table(scores, facts)
    return {**table, "samples": strategy_samples(sets, facts)} if table else None
