"""Write the leaderboard of a configuration's runs, as CSV and as one self-contained page.

    python scripts/score/write_leaderboard.py results --settings '{"runs": [...], "seeds": [], "sweeps": []}' \
        --csv leaderboard.csv --page leaderboard.html
"""

import csv
import io
import sys
from pathlib import Path

from scripts.common.cli import step_main, step_parser
from scripts.common.files import read_json, write_text
from scripts.common.html import write_page
from scripts.score.board import boards, csv_columns, csv_row, display
from scripts.score.choices import choice_table
from scripts.score.metrics import METRICS
from scripts.score.read_scores import read_scores
from scripts.score.seeds import seed_tables
from scripts.score.shown import in_a_sentence
from scripts.score.stand_in import base_name

PAGES = Path(__file__).parent / "pages"


def csv_text(all_boards: list[dict]) -> str:
    """Return leaderboard.csv: one line per run and variant, best first within a dataset."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(csv_columns())
    writer.writerows(csv_row(board, row) for board in all_boards for row in board["rows"])
    return text.getvalue()


def step(arguments) -> None:
    """Read all scores and verdicts, rank, and write table and page."""
    results, runs, scores, verdicts = arguments.results, [], {}, {}
    for run in arguments.settings["runs"]:
        folder = results / "runs" / run["run"]
        verdicts[run["run"]] = read_json(folder / "verdict.json")
        for variant in run["variants"]:
            scores[run["run"], variant] = read_scores(folder / "scores" / f"{variant}.json")
        manifest = read_json(results / "models" / run["model"] / "manifest.json")
        runs.append({**run, "model": base_name(run["model"], manifest)})
    all_boards = boards(runs, scores, verdicts)
    write_text(arguments.csv, csv_text(all_boards))
    metrics = {board["dataset"]: board["ranked_by"] for board in all_boards}
    ranked_by = {run["run"]: metrics[run["dataset"]] for run in runs}
    seeds = seed_tables(arguments.settings["seeds"], scores, verdicts, ranked_by)
    choices = [read_json(results / "sweeps" / name / "choice.json") for name in arguments.settings["sweeps"]]
    values = {"runs": runs, "verdicts": verdicts, "boards": all_boards, "seeds": seeds}
    values["choices"] = list(map(choice_table, choices))
    functions = {"METRICS": METRICS, "display": display, "in_a_sentence": in_a_sentence}
    write_page(arguments.page, "leaderboard.html", PAGES, title="Leaderboard", **values, **functions)


def parser():
    """Return the step's command line."""
    parser = step_parser("Write the leaderboard of a configuration's runs, as CSV and as one self-contained page.")
    parser.add_argument("results", type=Path, help="folder of the results, with runs/ and models/")
    parser.add_argument("--csv", type=Path, required=True, help="table to write")
    parser.add_argument("--page", type=Path, required=True, help="page to write")
    return parser


main = step_main(step, parser)

if __name__ == "__main__":
    sys.exit(main())
