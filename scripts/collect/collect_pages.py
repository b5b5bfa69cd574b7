"""Collect many pages: each is fetched once, failures are listed, and all records are extracted at the end.

python scripts/collect/collect_pages.py found.txt --site directfoot --configfile config/mine.yaml

After an interruption, the same command continues with the pages that are not saved.
"""

import argparse
import sys
from pathlib import Path

from scripts.collect.collect_page import collect_parser, collector
from scripts.collect.extract_page import extract_folder
from scripts.collect.site_settings import site_of
from scripts.common.cli import Progress, log, step_main
from scripts.common.errors import UserError
from scripts.common.files import write_json
from scripts.common.terminal import warn

MOST_IN_A_ROW = 10  # failures after which the site is left alone: it is down, or was redesigned


def parser() -> argparse.ArgumentParser:
    """Return this step's parser."""
    own = collect_parser("Fetch pages that are not saved yet, and extract the records of all saved ones.")
    own.add_argument("urls", type=Path, metavar="FILE", help="text file with one address on each line")
    own.add_argument("--output", type=Path, help="JSON file with the numbers of pages, written if none failed")
    return own


def collect_pages(arguments: argparse.Namespace) -> None:
    """Collect pages and extract records. Raises UserError with each page that failed, after all others are done."""
    site = site_of(arguments)
    urls = list(dict.fromkeys(filter(None, map(str.strip, arguments.urls.read_text(encoding="utf-8").splitlines()))))
    with collector(arguments.site, site) as opened:
        waiting = [url for url in urls if arguments.again or opened.folder.row(url) is None]
        bar = Progress(f"pages of {arguments.site}", len(urls), done=len(urls) - len(waiting))
        faults, in_a_row = [], 0
        for position, url in enumerate(waiting):
            if in_a_row == MOST_IN_A_ROW:
                faults.append(f"{len(waiting) - position} more pages: not tried after {in_a_row} failures in a row")
                break
            row = opened.collect(url, "match")
            in_a_row = in_a_row + 1 if row["status"] == "failed" else 0
            if row["status"] != "ok":
                faults.append(f"{url}: {row['status']}: {row['why']}")
                warn(faults[-1])
            bar.advance(note=f"{len(faults)} failed" if faults else "")
        log.info("%d of %d pages are saved", len(urls) - len(faults), len(urls))
        if any(opened.folder.saved("match")):
            counts = extract_folder(opened.folder.path, site, arguments.site)
    if faults:
        head = f"{len(faults)} of {len(urls)} pages were not collected; the same command tries them again"
        raise UserError("\n  ".join([head, *faults]))
    if arguments.output:
        write_json(arguments.output, {"pages": len(urls), "fetched": len(waiting), **counts})


main = step_main(collect_pages, parser)

if __name__ == "__main__":
    sys.exit(main())
