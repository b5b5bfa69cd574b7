"""Write the leaderboard of a configuration's runs, as CSV and as one self-contained page.

    python scripts/score/write_leaderboard.py results --csv leaderboard.csv --page leaderboard.html \
        --settings '{"runs": [...], "seeds": [], "sweeps": [], "monitors": []}'
"""

import csv
import io
import sqlite3
import sys
from pathlib import Path

from scripts.common.cli import step_main, step_parser
from scripts.common.errors import UserError
from scripts.common.files import read_json, write_text
from scripts.common.html import write_page
from scripts.deploy.quality_monitor import ABTestMonitor, table
from scripts.score.board import as_good_as_best, boards, csv_columns, csv_row, display
from scripts.score.choices import choice_table
from scripts.score.metrics import METRICS
from scripts.score.pictures import whiskers
from scripts.score.read_scores import read_scores
from scripts.score.seeds import seed_tables
from scripts.score.shown import in_a_sentence
from scripts.score.stand_in import base_name

PAGES = Path(__file__).parent / "pages"
COLUMNS = 8  # of the short table


def csv_text(all_boards: list[dict]) -> str:
    """Return leaderboard.csv: one line per run and variant, best first within a dataset."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(csv_columns())
    writer.writerows(csv_row(board, row) for board in all_boards for row in board["rows"])
    return text.getvalue()


def short_table(board: dict) -> dict:
    """Return a board's short table: of each run the variant that its verdict is about, best first.

    The columns are the ranking metric and those of the gates of the runs, the first few; each row has a chart of the
    ranking metric, on a scale that all rows share.
    """
    rows = [row for row in board["rows"] if row["variant"] == row["verdict"]["shipped"]]
    gated = [gate["metric"] for row in rows for gate in row["verdict"]["gates"]]
    metrics = [metric for metric in dict.fromkeys([board["ranked_by"], *gated]) if metric]
    # Which rows can't be told from the best is a question among these rows.
    tied = as_good_as_best(board["ranked_by"], rows) if board["ranked_by"] else [False] * len(rows)
    ranks = [row["rank"] for row in rows]
    estimates = [row["cells"][board["ranked_by"]] if board["ranked_by"] else None for row in rows]
    charts = whiskers(estimates)["rows"]
    return {
        "columns": metrics[:COLUMNS],
        "rows": [
            {**row, "rank": rank and ranks.index(rank) + 1, "tied": is_tied and rank != ranks[0], "chart": chart}
            for row, rank, is_tied, chart in zip(rows, ranks, tied, charts, strict=True)
        ],
    }


def in_production(file: str) -> dict:
    """Return what the monitor of production says: the lines of its report, and its decision. Raises UserError."""
    try:
        monitor = ABTestMonitor(file, read_only=True)
        return {"file": file, "lines": table(monitor.get_comparison_report()), **monitor.decision()}
    except (ValueError, sqlite3.Error) as error:
        raise UserError(
            str(error), Path(file), remedy="name a file that the bundle's quality_monitor.py writes"
        ) from None


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
    short = [{**board, "short": short_table(board)} for board in all_boards]
    values = {"verdicts": verdicts, "boards": short, "seeds": seeds, "choices": list(map(choice_table, choices))}
    values["monitors"] = list(map(in_production, arguments.settings["monitors"]))
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
