"""Put the summary of the demo into README.md, as it was printed: `make demo`, then

python -m docs.summary [results]
"""

import argparse
import io
import sys
from pathlib import Path

from rich.console import Console

from docs.readme import write_between
from scripts.common.errors import UserError
from scripts.score.print_summary import RESULTS, print_summary

BEGIN, END = "<!-- summary: made by `python -m docs.summary` -->", "<!-- end of summary -->"
WIDTH = 80


def summary_block(results: Path) -> str:
    """Return the summary of results as a block of Markdown, without colours; raise UserError without results."""
    text = io.StringIO()
    print_summary(results, Console(file=text, width=WIDTH, highlight=False))
    lines = [line.rstrip() for line in text.getvalue().strip().splitlines()]
    return "\n".join(["```text", *lines, "```"])


def main(argv=None) -> int:
    """Write README.md; return 1, with one line, when results or markers are missing."""
    parser = argparse.ArgumentParser(description="Put the summary of the demo into README.md.")
    parser.add_argument("results", type=Path, nargs="?", default=RESULTS, help="folder of the results")
    try:
        write_between(BEGIN, END, summary_block(parser.parse_args(argv).results))
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
