"""Write the report of one run: verdict, metrics with intervals, curve, answers side by side, worst answers.

    python scripts/score/write_run_report.py --scores scores/*.json --answers answers/*.jsonl --errors errors/*.jsonl \
        --verdict verdict.json --curve curve.jsonl --manifest models/base/manifest.json \
        --settings '{"run": "football", "dataset": "football", "model": "base", "method": "lora"}' --page report.html
"""

import sys
from pathlib import Path

from scripts.common.cli import run_step, step_parser
from scripts.common.files import read_json, read_jsonl
from scripts.common.html import write_page
from scripts.score.board import cell, display
from scripts.score.catalogue import ARROWS, CATALOGUE, METRICS, shown
from scripts.score.charts import curve_charts, whiskers
from scripts.score.gates import described
from scripts.score.material import read_answers
from scripts.score.read_scores import read_variants
from scripts.score.side_by_side import question, samples

PAGES = Path(__file__).parent / "pages"
WORST = 8
OUTCOMES = {True: ("✔ passed", "good"), False: ("✘ failed", "bad"), None: ("? uncertain", "warn")}


def parser():
    """Return the step's arguments."""
    arguments = step_parser("Write the report of one run as one self-contained page.")
    arguments.add_argument("--scores", type=Path, nargs="+", required=True, help="scores of every variant")
    arguments.add_argument("--answers", type=Path, nargs="+", required=True, help="answers of every variant")
    arguments.add_argument("--errors", type=Path, nargs="+", required=True, help="worst answers of every variant")
    arguments.add_argument("--verdict", type=Path, required=True, help="the run's verdict")
    arguments.add_argument("--curve", type=Path, required=True, help="the training curve (JSONL)")
    arguments.add_argument("--manifest", type=Path, required=True, help="manifest of the base model")
    arguments.add_argument("--page", type=Path, required=True, help="page to write")
    return arguments


def gate_rows(gates: list[dict]) -> list[dict]:
    """Return the verdict's gates as the page shows them."""
    rows = []
    for gate in gates:
        outcome, style = OUTCOMES[gate["passed"]]
        against = f" against {gate['baseline']}" if gate["baseline"] else ""
        aim = f"{CATALOGUE[gate['metric']].title} of {gate['variant']}{against} {gate['comparison']} "
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


def metric_cards(scores: dict[str, dict], shipped: str) -> tuple[list[dict], list[dict]]:
    """Return (metrics with a value somewhere, metrics without one and why), in the order of METRICS."""
    rows = {variant: {"variant": variant, "scores": found} for variant, found in scores.items()}
    cards, absent = [], []
    for metric in METRICS:
        found = {variant: cell(metric, row, rows.get("base")) for variant, row in rows.items()}
        if all(item["value"] is None for item in found.values()):
            absent.append({"title": CATALOGUE[metric].title, "reason": next(iter(found.values()))["reason"]})
            continue
        estimates = [item if item["value"] is not None else None for item in found.values()]
        base = found.get("base", {"value": None})["value"]
        cards.append(
            {
                "title": CATALOGUE[metric].title,
                "direction": ARROWS[CATALOGUE[metric].direction],
                "chart": whiskers(estimates, [] if base is None else [base]),
                "rows": [
                    {
                        **display(metric, item),
                        "variant": variant,
                        "class": "base" if variant == "base" else "shipped" if variant == shipped else "",
                    }
                    for variant, item in found.items()
                ],
            }
        )
    return cards, absent


def worst_rows(path: Path) -> list[dict]:
    """Return the first rows of an error file as the page shows them."""
    rows = []
    for row in list(read_jsonl(path))[:WORST]:
        values = [f"{CATALOGUE[key].title} {shown(key, value)}" for key, value in row["scores"].items()]
        rows.append(
            {
                "asked": question(row["messages"])[1],
                "expected": row["expected"],
                "answer": row["answer"],
                "faults": ", ".join(row["faults"]),
                "scores": " · ".join(values),
            }
        )
    return rows


def step(arguments) -> None:
    """Read what a run has made, and write its report."""
    facts = arguments.settings
    scores = read_variants(arguments.scores)
    verdict = read_json(arguments.verdict)
    answers = {path.stem: read_answers(path) for path in arguments.answers}
    cards, absent = metric_cards(scores, verdict["shipped"])
    first = next(iter(scores.values()))
    write_page(
        arguments.page,
        "report.html",
        PAGES,
        title=f"Run {facts['run']}",
        facts={**facts, "language": first.get("language")},
        verdict=verdict,
        records=max(found["records"] for found in scores.values()),
        embedded=read_json(arguments.manifest).get("source") == "embedded",
        gates=gate_rows(verdict["gates"]),
        metrics=cards,
        absent=absent,
        variants=list(scores),
        signatures=first["signatures"],
        resamples=first["bootstrap"]["resamples"],
        charts=curve_charts(list(read_jsonl(arguments.curve))),
        samples=samples(answers, scores),
        worst=[
            {"variant": path.stem, "open": path.stem == verdict["shipped"], "rows": worst_rows(path)}
            for path in arguments.errors
        ],
        links=[
            {"href": "../../leaderboard.html", "text": "leaderboard of this configuration"},
            {"href": f"../../datasets/{facts['dataset']}/ledger.html", "text": "ledger of the dataset"},
            {"href": "tokens/ledger.html", "text": "ledger of the tokens"},
        ],
    )


def main(argv=None) -> int:
    """Run the step from the command line."""
    return run_step(step, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
