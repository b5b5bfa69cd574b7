"""Write the report of one run: verdict, gates, telling answers, metrics with intervals, training, all answers.

    python scripts/score/write_run_report.py --scores scores/*.json --answers answers/*.jsonl --errors errors/*.jsonl \
        --verdict verdict.json --manifest models/base/manifest.json --page report.html --settings @settings.json
"""

import sys
from itertools import islice, pairwise
from pathlib import Path

from scripts.common.charts import curve_svg, inline
from scripts.common.cli import step_main, step_parser
from scripts.common.files import read_json, read_jsonl
from scripts.common.html import write_page
from scripts.gguf.tensor_types import quant_line, rounding_note
from scripts.score.board import cell, display, mark, marked_metrics, ranking_metric
from scripts.score.columns import columns_of, left_aside
from scripts.score.entity_pages import entity_section
from scripts.score.gates import described
from scripts.score.history import NAME, earlier_verdicts, since_last
from scripts.score.interval_kinds import LEVEL
from scripts.score.metrics import METRICS
from scripts.score.pictures import gate_picture, ladder, whiskers
from scripts.score.read_scores import read_scores, read_variants
from scripts.score.scoring_input import read_answers
from scripts.score.shown import number, shown
from scripts.score.side_by_side import Pictures, question, samples, telling
from scripts.score.stand_in import base_name
from scripts.score.strategies import strategy_section
from scripts.score.votes_shown import votes_section
from scripts.train.diverged import REMEDY, diverged_note

PAGES = Path(__file__).parent / "pages"
WORST = 8
FURTHER = 5  # metrics that are shown besides those of the gates
FEW_GROUPS = 10
RAN_OUT = ("out of memory", "killed when the machine ran out of memory")  # as scripts/train/oom_retry.py writes it


def metric_cards(scores: dict[str, dict], verdict: dict) -> tuple[list[dict], list[str], dict[str, list[str]]]:
    """Return metrics with a value, the titles of those that are 0 everywhere, and by reason of those without a value.

    The metrics of the gates come first (without a gate the ranking metric), then those of tables; `decides` marks them.
    """
    found = list(scores.values())
    marked = marked_metrics(verdict["gates"], ranking_metric([{"scores": each} for each in found]))
    aside = left_aside(found, verdict["gates"])
    order = dict.fromkeys([*marked, *columns_of(found), *METRICS])
    compared = {
        metric: {
            variant: cell(metric, each, None if variant == "base" else scores.get("base"))
            for variant, each in scores.items()
        }
        for metric in sorted(order, key=lambda name: name in aside)
    }
    mark(each for metric in marked for each in compared[metric].values())
    cards: list[dict] = []
    zero: list[str] = []
    absent: dict[str, list[str]] = {}
    for metric, cells in compared.items():
        estimates = [each if each["value"] is not None else None for each in cells.values()]
        if not any(estimates):
            absent.setdefault(next(iter(cells.values()))["reason"], []).append(METRICS[metric].title)
            continue
        if metric not in marked and all(each and each["value"] == 0 for each in estimates):
            highest = max((each["high"] for each in estimates if each["high"] is not None), default=None)
            limit = "no interval" if highest is None else f"at most {shown(metric, highest)}"
            zero.append(f"{METRICS[metric].title} ({limit})")
            continue
        base = cells.get("base", {}).get("value")
        cards.append(
            {
                "metric": METRICS[metric],
                "decides": metric in marked,
                "chart": whiskers(estimates, [] if base is None else [base]),
                "rows": [{**display(metric, each), "variant": variant} for variant, each in cells.items()],
            }
        )
    return cards, zero, absent


def gate_notes(gate: dict) -> list[str]:
    """Return what to know beside a judged gate: the power of its test records, few groups, and its level."""
    notes = []
    if gate["smallest"] is not None:
        size = described({**gate, "baseline": "any"}, gate["smallest"]).removeprefix("+")
        side = "above" if gate["value"] > gate["threshold"] else "below"
        notes.append(f"With 80 % power, these {gate['n']} records show a value that is {size} {side} the threshold.")
    if gate["groups"] and gate["groups"] < FEW_GROUPS and gate["low"] is not None:
        notes.append(f"{gate['groups']} groups, fewer than {FEW_GROUPS}: the interval is rough.")
    if gate["passes_at"] > LEVEL:
        notes.append(f"As one of {gate['looks']} looks it passes only at a level of {100 * gate['passes_at']:.4g} %.")
    if gate["level"] > LEVEL:
        notes.append(f"As one of several gates or looks it fails only at a level of {100 * gate['level']:.4g} %.")
    return notes


def interval_note(groups: dict | None, is_grouped: bool) -> str:
    """Return the sentence that says what a run's intervals are about; `groups` is that of the verdict."""
    if not is_grouped:
        return "The dataset has no group_by, so the intervals are about further records of the same sources."
    if groups is None:
        return "The intervals are about further groups of records."
    few = f" Fewer than {FEW_GROUPS} are few: the intervals are rough." if groups["count"] < FEW_GROUPS else ""
    return f"The intervals are about further groups of records; there are {groups['count']} by {groups['by']}.{few}"


def label_section(scores: dict, style: bool) -> dict | None:
    """Return the table of the labels of one variant's test records, such as languages; None for fewer than two."""
    labels = scores["by_label"]
    if not labels:
        return None
    columns = [m for m in columns_of([scores], style) if any(row["metrics"].get(m) for row in labels.values())]
    undefined = {"value": None, "reason": "not defined"}
    return {
        "variant": scores["variant"],
        "columns": [METRICS[metric] for metric in columns],
        "entities": any("entities" in row for row in labels.values()),
        "rows": {
            label: {**row, "cells": [display(metric, row["metrics"][metric] or undefined) for metric in columns]}
            for label, row in labels.items()
        },
    }


def training_notes(facts: dict, price_per_hour: float | None) -> list[str]:
    """Return a sentence if the training diverged, what it took, and one for each time that it ran out of memory.

    `facts` is the content of training.json, `price_per_hour` the run's `score.price_per_hour`.
    """
    notes = []
    if note := diverged_note(facts):
        notes.append(f"{note[0].upper()}{note[1:]}. To train it anew, {REMEDY}.")
    if "seconds" in facts:
        energy, hours = facts["energy"], facts["seconds"] / 3600
        is_measured = energy["joules"] is not None
        used = f"{number(energy['joules'] / 3600)} Wh" if is_measured else "not measured"
        why = (
            ", ".join([*(energy["meters"] if is_measured else ()), *energy["missing"]]) or "a counter could not be read"
        )
        price = "not known: score.price_per_hour is not given"
        cost = price if price_per_hour is None else number(hours * price_per_hour)
        time = f"{number(60 * hours)} minutes" if facts["seconds"] > 100 else f"{number(facts['seconds'])} seconds"
        took = f"{facts['steps']} steps in {time} on {facts['device']}"
        notes.append(f"{took}. Energy: {used} ({why}). Cost: {cost}.")
    for entry, after in pairwise(facts.get("attempts", [])):
        if entry["ended"] in RAN_OUT and entry["micro_batch"] != after["micro_batch"]:
            batch = after["micro_batch"] * after["accumulation"] * facts.get("processes", 1)
            notes.append(
                f"Out of memory with a micro-batch of {entry['micro_batch']}; the training continued with "
                f"{after['micro_batch']}, accumulated {after['accumulation']} times: each step still has {batch} rows."
            )
    return notes


def step(arguments) -> None:
    """Read a run's results and write its report."""
    facts, scores = arguments.settings, read_variants(arguments.scores)
    verdict, base = read_json(arguments.verdict), read_json(arguments.manifest)
    answers = {path.stem: read_answers(path) for path in arguments.answers}
    errors = {path.stem: path for path in arguments.errors}
    shipped, first, pictures = verdict["shipped"], next(iter(scores.values())), Pictures(arguments.images)
    history = arguments.verdict.with_name(NAME)
    sizes = {path.stem: path.stat().st_size for path in arguments.gguf}
    gates = [{**gate, "picture": gate_picture(gate), "notes": gate_notes(gate)} for gate in verdict["gates"]]
    cards, zero, absent = metric_cards(scores, verdict)
    entities = entity_section(scores, errors, shipped)
    strategies = None
    if arguments.strategy_scores:
        compared = read_answers(arguments.strategy_answers)
        strategies = strategy_section(read_scores(arguments.strategy_scores), compared, facts)
    curve = curve_svg(list(read_jsonl(arguments.curve))) if arguments.curve else None
    write_page(
        arguments.page,
        "report.html",
        PAGES,
        title=f"Run {facts['run']}",
        facts={**facts, "language": first.get("language")},
        base=base_name(facts["model"], base),
        verdict={**verdict, "gates": gates},
        changed=since_last(history),
        earlier=earlier_verdicts(history.parents[1], facts["run"], facts["dataset"]),
        interval_note=interval_note(verdict["groups"], first["groups"] is not None),
        telling=telling(answers, scores, shipped, pictures),
        records=max(found["records"] for found in scores.values()),
        rounding=rounding_note(base),
        quants=[quant_line(read_json(path)) for path in arguments.types],
        metrics=cards,
        shown_cards=sum(card["decides"] for card in cards) + FURTHER,
        zero=zero,
        absent=absent,
        ladder=ladder(scores, sizes),
        size=sizes.get(shipped),
        variants=list(scores),
        signatures=first["signatures"],
        resamples=first["bootstrap"]["resamples"],
        by_label=label_section(scores[shipped], bool(facts["strategies"])),
        entities=entities,
        strategies=strategies,
        people=votes_section(scores),
        trained=arguments.curve is not None,
        curve=curve and inline(curve, "Training curve"),
        training=training_notes(read_json(arguments.training), facts["price_per_hour"]) if arguments.training else [],
        samples=samples(answers, scores, pictures),
        kind=scores[shipped]["answer_kind"],
        worst={} if entities else {variant: islice(read_jsonl(path), WORST) for variant, path in errors.items()},
        METRICS=METRICS,
        described=described,
        display=display,
        shown=shown,
        question=question,
        pictures_of=pictures.of,
    )


def parser():
    """Return the step's command line."""
    parser = step_parser("Write the report of one run as one self-contained page.")
    parser.add_argument("--scores", type=Path, nargs="+", required=True, help="scores of every variant")
    parser.add_argument("--answers", type=Path, nargs="+", required=True, help="answers of every variant")
    parser.add_argument("--errors", type=Path, nargs="+", required=True, help="worst answers of every variant")
    parser.add_argument("--strategy-scores", type=Path, help="scores of several strategies on the validation split")
    parser.add_argument("--strategy-answers", type=Path, help="answers under these strategies")
    parser.add_argument("--verdict", type=Path, required=True, help="the run's verdict")
    parser.add_argument("--curve", type=Path, help="the training curve (JSONL), if there was a training")
    parser.add_argument("--training", type=Path, help="facts of the training (JSON), if there was one")
    parser.add_argument("--images", type=Path, help="folder of the dataset, with its images")
    parser.add_argument("--types", type=Path, nargs="*", default=[], help="tensor types of the quantized files")
    parser.add_argument("--gguf", type=Path, nargs="*", default=[], help="GGUF files; only their sizes are read")
    parser.add_argument("--manifest", type=Path, required=True, help="manifest of the base model")
    parser.add_argument("--page", type=Path, required=True, help="page to write")
    return parser


main = step_main(step, parser)

if __name__ == "__main__":
    sys.exit(main())
