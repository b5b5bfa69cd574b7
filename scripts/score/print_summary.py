"""Print a summary of a workflow's runs: tables, verdicts, a prompt with its answers, reports, next commands.

python scripts/score/print_summary.py [--recipe stories] results
"""

import argparse
import csv
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scripts.common.errors import UserError
from scripts.common.files import read_json
from scripts.config.runs import QUANTS
from scripts.score.metrics import METRICS
from scripts.score.one_prompt import one_prompt
from scripts.score.shown import shown

RESULTS = Path("results")  # of the demo, and the default of configurations
EMBEDDED_FOLDER = "embedded"  # the folder of config/embedded.yaml, within that of a recipe
ORDER = ("base", "adapter", "merged", *QUANTS)
COLUMNS = {
    "text": ("perplexity", "chrf", "rouge_l", "repetition", "length_variation", "seconds_p50"),
    "exact": ("exact_match", "normalised_match", "character_error_rate", "chrf", "perplexity", "seconds_p50"),
    "entities": ("entity_f1", "entity_f1_macro", "token_f1_weighted", "parsed", "cost_per_1000", "seconds_p50"),
}
TITLES = {
    "perplexity": "perplexity",
    "chrf": "chrF",
    "rouge_l": "ROUGE-L",
    "repetition": "repeats",
    "length_variation": "length var.",
    "seconds_p50": "time p50",
    "exact_match": "exact",
    "normalised_match": "normalised",
    "character_error_rate": "char. err.",
    "entity_f1": "entity F1",
    "entity_f1_macro": "by class",
    "token_f1_weighted": "token F1",
    "parsed": "JSON",
    "cost_per_1000": "cost/1000",
}
COLOURS = {"promote": "green", "hold": "yellow", "rollback": "red"}


def read_leaderboard(path: Path) -> dict[str, list[dict]]:
    """Return the lines of leaderboard.csv by run, variants from base to the smallest quant."""
    if not path.is_file():
        raise UserError("is missing", path, remedy="run snakemake first")
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    runs: dict[str, list[dict]] = {}
    for row in sorted(rows, key=lambda row: (row["run"], ORDER.index(row["variant"]))):
        runs.setdefault(row["run"], []).append(row)
    return runs


def run_table(rows: list[dict]) -> Table:
    """Return the table of one run's variants, without metrics that have no value."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1))
    table.add_column("", no_wrap=True, min_width=9)
    columns = [metric for metric in COLUMNS[rows[0]["answer_kind"]] if any(row[metric] for row in rows)]
    for metric in columns:
        table.add_column(TITLES[metric] + METRICS[metric].arrow, justify="right", no_wrap=True, min_width=9)
    for row in rows:
        cells = [shown(metric, float(row[metric]) if row[metric] else None) for metric in columns]
        table.add_row(f"[green]{row['variant']}[/] *" if row["shipped"] == "yes" else row["variant"], *cells)
    return table


def print_summary(results: Path, console: Console, recipe: str | None = None) -> None:
    """Print tables, verdicts, answers, pages and next commands; raises UserError if there is no leaderboard."""
    runs = read_leaderboard(results / "leaderboard.csv")
    asked: dict[str, tuple] = {}  # one run of each dataset
    for run, rows in runs.items():
        verdict = read_json(results / "runs" / run / "verdict.json")
        colour = COLOURS[verdict["verdict"]]
        reason = f"{verdict['verdict']}[/]: {escape(verdict['advice'])}"
        console.print(f"\n[bold]{escape(run)}[/] [{colour}]{reason}")
        for warning in (w for w in verdict["warnings"] if w not in verdict["advice"]):
            console.print(f"[red]{escape(warning)}[/]")
        if rows[0]["method"] == "prompt":
            console.print("[dim]nothing is shipped: method prompt[/]")
        console.print(run_table(rows))
        variants = [row["variant"] for row in rows]
        asked.setdefault(rows[0]["dataset"], (run, variants, verdict["shipped"]))
    is_shipped = any(row["shipped"] == "yes" for rows in runs.values() for row in rows)
    star = "* goes into the bundle; " if is_shipped else ""
    console.print(f"\n[dim]{star}↓ ↑ the better direction; intervals are in the report.[/]")
    for run, variants, shipped in asked.values():
        if found := one_prompt(results / "runs" / run, variants, shipped):
            title, answers = found
            console.print(f"\n[bold]{escape(run)}[/]: [dim]{escape(title)}[/]")
            console.print(answers)
    # Snakemake's report, unless it is older than the results, and the leaderboard.
    report, table = results / "report.html", results / "leaderboard.csv"
    is_new = report.is_file() and report.stat().st_mtime >= table.stat().st_mtime
    pages = [*([report] if is_new else []), results / "leaderboard.html"]
    console.print("\n[bold]Report[/]: " + " and ".join(escape(str(page)) for page in pages), soft_wrap=True)
    console.print("\n[bold]Next[/]")
    for command, purpose in next_commands(results, pages[0], recipe):
        console.print(f"  {escape(command)}\n      [dim]{purpose}[/]", soft_wrap=True)


def next_commands(results: Path, page: Path, recipe: str | None = None) -> list[tuple[str, str]]:
    """Return the next commands with their purpose: after the demo further things to try, else opening the report."""
    look, mine = (f"python3 -m webbrowser {page}", "look at the report"), RESULTS / "mine"
    if recipe and results.name == EMBEDDED_FOLDER:
        real = f"train the recipe's real model, on a GPU: into {results.parent}/"
        return [look, (f"make recipe NAME={recipe} EMBEDDED=no", real)]
    if recipe or results != RESULTS:
        return [look]
    copied = f"cp config/config.yaml config/mine.yaml && echo 'pathvars: {{results: {mine}}}' >> config/mine.yaml"
    own = "bring your own data (README, 'Your own data'): change files, format and fields in config/mine.yaml"
    run = "source .venv/bin/activate && snakemake --configfile config/mine.yaml"
    try_it = "try the path of a recipe on a stand-in; EMBEDDED=no trains the real model, on a GPU"
    return [
        look,
        ("make review", "read all records and answers, judge them blind, correct records"),
        (copied, own),
        (run, f"run it, into {mine}/; '-n' only says what would be done"),
        ("make recipe NAME=football", try_it),
    ]


def main(argv=None) -> int:
    """Print the summary; return 1, with one line, if there are no results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="?", default=RESULTS, help="folder of the results")
    parser.add_argument("--recipe", help="recipe that was run, in config/recipes/")
    arguments = parser.parse_args(argv)
    try:
        print_summary(arguments.results, Console(highlight=False), arguments.recipe)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
