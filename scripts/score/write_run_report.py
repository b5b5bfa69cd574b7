"""Write the report of one run: verdict, metrics with intervals, curve, answers side by side, worst answers.

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
from scripts.score.metrics import METRICS
from scripts.score.read_scores import read_scores, read_variants
from scripts.score.scoring_input import read_answers
from scripts.score.shown import shown, whiskers
from scripts.score.side_by_side import pictures_of, question, samples
from scripts.score.stand_in import base_name
from scripts.score.strategies import strategy_section
from scripts.train.diverged import REMEDY, diverged_note

PAGES = Path(__file__).parent / "pages"
WORST = 8
RAN_OUT = ("out of memory", "killed when the machine ran out of memory")  # as scripts/train/oom_retry.py writes it


def metric_cards(scores: dict[str, dict], verdict: dict) -> tuple[list[dict], dict[str, list[str]]]:
    """Return (metrics with a value, titles of metrics without one by reason), those of tables first."""
    aside = left_aside(list(scores.values()), verdict["gates"])
    cards: list[dict] = []
    absent: dict[str, list[str]] = {}
    compared = {
        metric: {
            variant: cell(metric, found, None if variant == "base" else scores.get("base"))
            for variant, found in scores.items()
        }
        for metric in dict.fromkeys([*columns_of(list(scores.values())), *METRICS])
    }
    ranking = ranking_metric([{"scores": found} for found in scores.values()])
    mark(found for metric in marked_metrics(verdict["gates"], ranking) for found in compared[metric].values())
    for metric, cells in compared.items():
        estimates = [found if found["value"] is not None else None for found in cells.values()]
        if not any(estimates):
            absent.setdefault(next(iter(cells.values()))["reason"], []).append(METRICS[metric].title)
            continue
        base = cells.get("base", {}).get("value")
        cards.append(
            {
                "metric": METRICS[metric],
                "aside": metric in aside,
                "chart": whiskers(estimates, [] if base is None else [base]),
                "rows": [{**display(metric, found), "variant": variant} for variant, found in cells.items()],
            }
        )
    return cards, absent


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


def training_notes(facts: dict) -> list[str]:
    """Return a sentence if the training diverged, and one for each time that it ran out of memory.

    `facts` is the content of training.json.
    """
    notes = []
    if note := diverged_note(facts):
        notes.append(f"{note[0].upper()}{note[1:]}. To train it anew, {REMEDY}.")
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
    shipped, first = verdict["shipped"], next(iter(scores.values()))
    cards, absent = metric_cards(scores, verdict)
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
        verdict=verdict,
        records=max(found["records"] for found in scores.values()),
        rounding=rounding_note(base),
        quants=[quant_line(read_json(path)) for path in arguments.types],
        metrics=cards,
        absent=absent,
        variants=list(scores),
        signatures=first["signatures"],
        resamples=first["bootstrap"]["resamples"],
        by_label=label_section(scores[shipped], bool(facts["strategies"])),
        entities=entities,
        strategies=strategies,
        trained=arguments.curve is not None,
        curve=curve and inline(curve, "Training curve"),
        training=training_notes(read_json(arguments.training)) if arguments.training else [],
        samples=samples(answers, scores, arguments.images),
        kind=scores[shipped]["answer_kind"],
        worst={} if entities else {variant: islice(read_jsonl(path), WORST) for variant, path in errors.items()},
        METRICS=METRICS,
        described=described,
        display=display,
        whiskers=whiskers,
        shown=shown,
        question=question,
        pictures_of=lambda messages: pictures_of(messages, arguments.images),
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
    parser.add_argument("--manifest", type=Path, required=True, help="manifest of the base model")
    parser.add_argument("--page", type=Path, required=True, help="page to write")
    return parser


main = step_main(step, parser)

if __name__ == "__main__":
    sys.exit(main())
