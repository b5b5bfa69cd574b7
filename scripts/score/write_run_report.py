"""Write the report of one run: verdict, metrics with intervals, curve, answers side by side, worst answers.

    python scripts/score/write_run_report.py --scores scores/*.json --answers answers/*.jsonl --errors errors/*.jsonl \
        --verdict verdict.json --curve curve.jsonl --training training.json --manifest models/base/manifest.json \
        --page report.html --settings '{"run": "football", "dataset": "football", "model": "base", "method": "lora",
        "strategies": [], "strategy": null}'
"""

import sys
from pathlib import Path

from scripts.common.charts import curve_svg, inline
from scripts.common.cli import complete, run_step, step_parser
from scripts.common.files import read_json, read_jsonl
from scripts.common.html import write_page
from scripts.gguf.tensor_types import quant_line, rounding_note
from scripts.score.board import cell, display
from scripts.score.columns import columns_of, left_aside
from scripts.score.entity_pages import entity_section
from scripts.score.gates import described
from scripts.score.metric_list import METRICS
from scripts.score.pictures import pictures_of
from scripts.score.read_scores import read_variants
from scripts.score.scoring_input import read_answers
from scripts.score.shown import ARROWS, shown
from scripts.score.side_by_side import question, samples
from scripts.score.stand_in import base_name
from scripts.score.strategies import strategy_section
from scripts.score.training_notes import training_notes
from scripts.score.whiskers import whiskers

PAGES = Path(__file__).parent / "pages"
FACTS = ("run", "dataset", "model", "method", "strategies", "strategy")
WORST = 8
OUTCOMES = {True: ("✔ passed", "good"), False: ("✘ failed", "bad"), None: ("? uncertain", "warn")}


def parser():
    """Return the step's arguments."""
    arguments = step_parser("Write the report of one run as one self-contained page.")
    arguments.add_argument("--scores", type=Path, nargs="+", required=True, help="scores of every variant")
    arguments.add_argument("--answers", type=Path, nargs="+", required=True, help="answers of every variant")
    arguments.add_argument("--errors", type=Path, nargs="+", required=True, help="worst answers of every variant")
    arguments.add_argument("--verdict", type=Path, required=True, help="the run's verdict")
    arguments.add_argument("--curve", type=Path, help="the training curve (JSONL), if there was a training")
    arguments.add_argument("--training", type=Path, help="facts of the training (JSON), if there was one")
    arguments.add_argument("--images", type=Path, help="folder of the dataset, with its images")
    arguments.add_argument("--types", type=Path, nargs="*", default=[], help="tensor types of the quantized files")
    arguments.add_argument("--manifest", type=Path, required=True, help="manifest of the base model")
    arguments.add_argument("--page", type=Path, required=True, help="page to write")
    return arguments


def gate_rows(gates: list[dict]) -> list[dict]:
    """Return the verdict's gates for the page."""
    rows = []
    for gate in gates:
        outcome, style = OUTCOMES[gate["passed"]]
        against = f" against {gate['baseline']}" if gate["baseline"] else ""
        aim = f"{METRICS[gate['metric']].title} of {gate['variant']}{against} {gate['comparison']} "
        estimate = gate if gate["value"] is not None else None
        rows.append(
            {
                **gate,
                "outcome": outcome,
                "class": style,
                "aim": aim + described(gate, gate["threshold"]),
                "chart": whiskers([estimate], [gate["threshold"]]),
            }
        )
    return rows


def metric_cards(scores: dict[str, dict], verdict: dict) -> tuple[list[dict], list[dict]]:
    """Return (metrics with a value, metrics without one by reason), those of tables first.

    An `aside` metric appears only among all values.
    """
    aside = left_aside(list(scores.values()), verdict["gates"])
    rows = {variant: {"variant": variant, "scores": found} for variant, found in scores.items()}
    cards: list[dict] = []
    absent: dict[str, list[str]] = {}
    for metric in dict.fromkeys([*columns_of(list(scores.values())), *METRICS]):
        found = {variant: cell(metric, row, rows.get("base")) for variant, row in rows.items()}
        if all(item["value"] is None for item in found.values()):
            absent.setdefault(next(iter(found.values()))["reason"], []).append(METRICS[metric].title)
            continue
        estimates = [item if item["value"] is not None else None for item in found.values()]
        base = found.get("base", {"value": None})["value"]
        cards.append(
            {
                "title": METRICS[metric].title,
                "aside": metric in aside,
                "direction": ARROWS[METRICS[metric].direction],
                "chart": whiskers(estimates, [] if base is None else [base]),
                "rows": [
                    {
                        **display(metric, item),
                        "variant": variant,
                        "class": "base" if variant == "base" else "shipped" if variant == verdict["shipped"] else "",
                    }
                    for variant, item in found.items()
                ],
            }
        )
    return cards, [{"reason": reason, "titles": titles} for reason, titles in absent.items()]


def label_section(scores: dict, style: bool) -> dict | None:
    """Return the table of the labels of one variant's test records, such as languages; None for fewer than two.

    `style`: the measures of style are columns as well.
    """
    labels = scores["by_label"]
    if not labels:
        return None
    known = columns_of([scores], style)
    columns = [metric for metric in known if any(row["metrics"].get(metric) for row in labels.values())]
    return {
        "variant": scores["variant"],
        "columns": [{"title": METRICS[m].title, "arrow": ARROWS[METRICS[m].direction]} for m in columns],
        "entities": any("entities" in row for row in labels.values()),
        "rows": [
            {
                "label": label,
                "records": row["records"],
                "entities": row.get("entities"),
                "cells": [display(m, row["metrics"][m] or {"value": None, "reason": "not defined"}) for m in columns],
            }
            for label, row in labels.items()
        ],
    }


def worst_rows(path: Path, images: Path | None) -> list[dict]:
    """Return the first rows of an error file for the page."""
    rows = []
    for row in list(read_jsonl(path))[:WORST]:
        values = [f"{METRICS[key].title} {shown(key, value)}" for key, value in row["scores"].items()]
        rows.append(
            {
                "asked": question(row["messages"])[1],
                "images": pictures_of(row["messages"], images),
                "expected": row["expected"],
                "answer": row["answer"],
                "faults": ", ".join(row["faults"]),
                "scores": " · ".join(values),
            }
        )
    return rows


def links(facts: dict, trained: bool) -> list[dict]:
    """Return links to the related pages."""
    found = [
        {"href": "../../leaderboard.html", "text": "leaderboard of this configuration"},
        {"href": f"../../datasets/{facts['dataset']}/ledger.html", "text": "ledger of the dataset"},
    ]
    return [*found, {"href": "tokens/ledger.html", "text": "ledger of the tokens"}] if trained else found


def step(arguments) -> None:
    """Read a run's results and write its report."""
    facts = complete(arguments.settings, FACTS)
    scores = read_variants(arguments.scores)
    verdict, base = read_json(arguments.verdict), read_json(arguments.manifest)
    answers = {path.stem: read_answers(path) for path in arguments.answers}
    errors = {path.stem: path for path in arguments.errors}
    shipped = verdict["shipped"]
    cards, absent = metric_cards(scores, verdict)
    first = next(iter(scores.values()))
    entities = entity_section(scores, errors, shipped)
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
        gates=gate_rows(verdict["gates"]),
        metrics=cards,
        absent=absent,
        variants=list(scores),
        signatures=first["signatures"],
        resamples=first["bootstrap"]["resamples"],
        by_label=label_section(scores[shipped], bool(facts["strategies"])),
        entities=entities,
        strategies=strategy_section(scores, answers, facts, shipped),
        curve=training_curve(arguments.curve),
        training=training_notes(read_json(arguments.training)) if arguments.training else [],
        samples=samples(answers, scores, tuple(facts["strategies"]), arguments.images),
        kind=scores[shipped]["answer_kind"],
        worst=[]
        if entities
        else [
            {"variant": variant, "open": variant == shipped, "rows": worst_rows(path, arguments.images)}
            for variant, path in errors.items()
        ],
        links=links(facts, arguments.curve is not None),
    )


def training_curve(path: Path | None) -> str | None:
    """Return the curve as an SVG element, empty if it has no points; None without a training."""
    svg = curve_svg(list(read_jsonl(path))) if path else None
    return inline(svg, "Training curve") if svg else path and ""


def main(argv=None) -> int:
    """Run the step from the command line."""
    return run_step(step, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
