"""Write the leaderboard of a configuration's runs, as CSV and as one self-contained page.

    python scripts/score/write_leaderboard.py results --settings '{"runs": [...]}' --csv leaderboard.csv \
        --page leaderboard.html

It reads runs/{run}/scores/{variant}.json, runs/{run}/verdict.json and models/{model}/manifest.json in the results, for
the runs in the settings.
"""

import csv
import io
import sys
from pathlib import Path

from scripts.common.cli import complete, run_step, step_parser
from scripts.common.errors import UserError
from scripts.common.files import read_json, write_text
from scripts.common.html import write_page
from scripts.score.board import boards, csv_header, csv_row, display
from scripts.score.metric_list import METRICS
from scripts.score.read_scores import read_scores
from scripts.score.shown import ARROWS
from scripts.score.stand_in import base_name

PAGES = Path(__file__).parent / "pages"


def parser():
    """Return the step's arguments."""
    arguments = step_parser("Write the leaderboard of a configuration's runs, as CSV and as one self-contained page.")
    arguments.add_argument("results", type=Path, help="folder of the results, with runs/ and models/")
    arguments.add_argument("--csv", type=Path, required=True, help="table to write")
    arguments.add_argument("--page", type=Path, required=True, help="page to write")
    return arguments


def with_base_name(run: dict, results: Path) -> dict:
    """Return a run with the display name of its base model; raises UserError if the model has no manifest."""
    manifest = read_json(existing(results / "models" / run["model"] / "manifest.json"))
    return {**run, "model": base_name(run["model"], manifest)}


def existing(path: Path) -> Path:
    """Return a path; raises UserError if the file does not exist."""
    if not path.is_file():
        raise UserError("is missing", path, remedy="run snakemake first")
    return path


def csv_text(all_boards: list[dict]) -> str:
    """Return leaderboard.csv: one line per run and variant, best first within a dataset."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(csv_header())
    writer.writerows(csv_row(board, row) for board in all_boards for row in board["rows"])
    return text.getvalue()


def in_a_sentence(title: str) -> str:
    """Return a metric's title in lower case for a sentence; names such as BLEU or ROUGE-L stay unchanged."""
    return title[0].lower() + title[1:] if title[1:2].islower() else title


def page_values(runs: list[dict], all_boards: list[dict], verdicts: dict[str, dict]) -> dict:
    """Return the values for the page."""
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
                "shown": [display(metric, row["cells"][metric]) for metric in board["columns"]],
            }
            for row in board["rows"]
        ]
        shown_boards.append(
            {
                "dataset": board["dataset"],
                "ranked_by": board["ranked_by"] and in_a_sentence(METRICS[board["ranked_by"]].title),
                "records": max(row["scores"]["records"] for row in board["rows"]),
                "ledger": f"datasets/{board['dataset']}/ledger.html",
                "columns": [
                    {"title": METRICS[metric].title, "arrow": ARROWS[METRICS[metric].direction]}
                    for metric in board["columns"]
                ],
                "rows": rows,
            }
        )
    return {
        "title": "Leaderboard",
        "stand_ins": [run["run"] for run in runs if verdicts[run["run"]]["stand_in"]],
        "runs": [{**run, "link": f"runs/{run['run']}/report.html", "verdict": verdicts[run["run"]]} for run in runs],
        "boards": shown_boards,
    }


def step(arguments) -> None:
    """Read all scores and verdicts, rank, and write table and page."""
    runs = complete(arguments.settings, ("runs",))["runs"]
    scores, verdicts = {}, {}
    for run in runs:
        folder = arguments.results / "runs" / run["run"]
        verdicts[run["run"]] = read_json(existing(folder / "verdict.json"))
        for variant in run["variants"]:
            scores[run["run"], variant] = read_scores(existing(folder / "scores" / f"{variant}.json"))
    runs = [with_base_name(run, arguments.results) for run in runs]
    all_boards = boards(runs, scores, verdicts)
    write_text(arguments.csv, csv_text(all_boards))
    write_page(arguments.page, "leaderboard.html", PAGES, **page_values(runs, all_boards, verdicts))


def main(argv=None) -> int:
    """Run the step from the command line."""
    return run_step(step, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
