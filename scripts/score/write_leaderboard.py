"""Write the leaderboard of all runs and variants, as CSV and as one self-contained page.

    python scripts/score/write_leaderboard.py --scores results/runs/*/scores/*.json \
        --verdicts results/runs/*/verdict.json --manifests results/models/*/manifest.json \
        --settings '{"runs": [...]}' --csv leaderboard.csv --page leaderboard.html
"""

import csv
import io
import sys
from pathlib import Path

from scripts.common.cli import run_step, step_parser
from scripts.common.errors import UserError
from scripts.common.files import read_json, write_text
from scripts.common.html import write_page
from scripts.score.board import boards, csv_header, csv_row, display
from scripts.score.catalogue import ARROWS, CATALOGUE
from scripts.score.read_scores import read_scores

PAGES = Path(__file__).parent / "pages"
COLUMNS = (
    "perplexity_per_character",
    "perplexity",
    "chrf",
    "rouge_l",
    "bleu",
    "repetition",
    "distinct_2",
    "length_variation",
    "finished",
    "seconds_p50",
)


def parser():
    """Return the step's arguments."""
    arguments = step_parser("Write the leaderboard of all runs and variants, as CSV and as one self-contained page.")
    arguments.add_argument("--scores", type=Path, nargs="+", required=True, help="scores of every run and variant")
    arguments.add_argument("--verdicts", type=Path, nargs="+", required=True, help="verdict of every run")
    arguments.add_argument("--manifests", type=Path, nargs="*", default=[], help="manifests of the base models")
    arguments.add_argument("--csv", type=Path, required=True, help="table to write")
    arguments.add_argument("--page", type=Path, required=True, help="page to write")
    return arguments


def embedded_models(manifests: list[Path]) -> list[str]:
    """Return the names of the base models that were made here."""
    found = {path.parent.name for path in manifests if read_json(path).get("source") == "embedded"}
    return sorted(found)


def csv_text(all_boards: list[dict]) -> str:
    """Return leaderboard.csv: one line per run and variant, best first within a dataset."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(csv_header())
    writer.writerows(csv_row(board, row) for board in all_boards for row in board["rows"])
    return text.getvalue()


def page_values(runs: list[dict], all_boards: list[dict], verdicts: dict[str, dict], embedded: list[str]) -> dict:
    """Return what the page shows."""
    shown_boards = []
    for board in all_boards:
        rows = [
            {
                "run": row["run"],
                "variant": row["variant"],
                "shipped": row["shipped"],
                "rank": row["rank"],
                "tied": row["tied"],
                "link": f"runs/{row['run']}/report.html",
                "shown": [display(metric, row["cells"][metric]) for metric in COLUMNS],
            }
            for row in board["rows"]
        ]
        shown_boards.append(
            {
                "dataset": board["dataset"],
                "ranked_by": board["ranked_by"] and CATALOGUE[board["ranked_by"]].title,
                "records": max(row["scores"]["records"] for row in board["rows"]),
                "ledger": f"datasets/{board['dataset']}/ledger.html",
                "rows": rows,
            }
        )
    return {
        "title": "Leaderboard",
        "embedded": embedded,
        "runs": [{**run, "link": f"runs/{run['run']}/report.html", "verdict": verdicts[run["run"]]} for run in runs],
        "boards": shown_boards,
        "columns": [
            {"title": CATALOGUE[metric].title, "arrow": ARROWS[CATALOGUE[metric].direction]} for metric in COLUMNS
        ],
    }


def step(arguments) -> None:
    """Read all scores and verdicts, rank, and write table and page."""
    runs = arguments.settings["runs"]
    scores = {(found["run"], found["variant"]): found for found in map(read_scores, arguments.scores)}
    verdicts = {found["run"]: found for found in map(read_json, arguments.verdicts)}
    for run in runs:
        missing = [variant for variant in run["variants"] if (run["run"], variant) not in scores]
        if missing or run["run"] not in verdicts:
            raise UserError(f"run '{run['run']}' has no " + (f"scores of '{missing[0]}'" if missing else "verdict"))
    all_boards = boards(runs, scores, verdicts)
    write_text(arguments.csv, csv_text(all_boards))
    values = page_values(runs, all_boards, verdicts, embedded_models(arguments.manifests))
    write_page(arguments.page, "leaderboard.html", PAGES, **values)


def main(argv=None) -> int:
    """Run the step from the command line."""
    return run_step(step, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
