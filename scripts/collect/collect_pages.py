"""Collect pages: each is fetched once, failures are listed, and all records are extracted at the end.

python scripts/collect/collect_pages.py found.txt --site directfoot --configfile config/mine.yaml
python scripts/collect/collect_pages.py https://... --again --site directfoot --configfile config/mine.yaml

After an interruption, the same command continues with the pages that are not saved.
"""

import argparse
import sys
from pathlib import Path

from scripts.collect.collect_page import collector
from scripts.collect.extract_page import extract_folder
from scripts.collect.site_settings import add_site_options, site_of
from scripts.common.cli import Progress, log, step_main, step_parser
from scripts.common.errors import UserError
from scripts.common.files import write_json
from scripts.common.terminal import warn

MOST_IN_A_ROW = 10  # failures after which the site is left alone: it is down, or was redesigned


def parser() -> argparse.ArgumentParser:
    """Return this step's parser."""
    own = step_parser("Fetch pages that are not saved yet, and extract the records of all saved ones.")
    add_site_options(own)
    own.add_argument("urls", nargs="+", metavar="URL", help="addresses, or text files with one on each line")
    own.add_argument("--again", action="store_true", help="fetch pages again that are saved")
    own.add_argument("--output", type=Path, help="JSON file with the numbers of pages, written if none failed")
    return own


def addresses(given: list[str]) -> list[str]:
    """Return the addresses that the command line names or that are in its files, each once."""
    lines: list[str] = []
    for each in given:
        if each.startswith(("http://", "https://")):
            lines.append(each)
        elif Path(each).is_file():
            lines += Path(each).read_text(encoding="utf-8").splitlines()
        else:
            raise UserError("is neither an address nor a file of addresses", each)
    return list(dict.fromkeys(filter(None, map(str.strip, lines))))


def collect_pages(arguments: argparse.Namespace) -> None:
    """Collect pages and extract records. Raises UserError with each page that failed, after all others are done.

    A page that is refused, by robots.txt or because the site has removed it, is listed and no failure.
    """
    site, urls = site_of(arguments, fetches=True), addresses(arguments.urls)
    failed, refused, in_a_row, counts = [], [], 0, {}
    with collector(arguments.site, site) as opened:
        waiting = [url for url in urls if arguments.again or opened.folder.row(url) is None]
        # Those that were never asked for come first, so that the same failures can't stop each run.
        waiting.sort(key=lambda url: opened.folder.rows.get(url, {}).get("status") in ("failed", "refused"))
        bar = Progress(f"pages of {arguments.site}", len(urls), done=len(urls) - len(waiting))
        for position, url in enumerate(waiting):
            try:
                if in_a_row == MOST_IN_A_ROW:
                    raise UserError(f"{in_a_row} failures in a row")
                row = opened.collect(url, "match")
            except UserError as error:  # for all pages
                failed.append(f"{len(waiting) - position} more pages: not tried: {error}")
                break
            in_a_row = in_a_row + 1 if row["status"] == "failed" else 0
            if row["status"] != "ok":
                (refused if row["status"] == "refused" else failed).append(f"{url}: {row['status']}: {row['why']}")
                warn(f"{url}: {row['status']}: {row['why']}")
            bar.advance(note=f"{len(failed)} failed" if failed else "")
        log.info("%d of %d pages are saved", sum(opened.folder.row(url) is not None for url in urls), len(urls))
        if any(opened.folder.saved("match")):
            counts = extract_folder(opened.folder.path, site, arguments.site)
    if failed:
        head = f"{len(failed)} of {len(urls)} pages were not collected; the same command tries them again"
        raise UserError("\n  ".join([head, *failed]))
    if arguments.output:
        write_json(arguments.output, {"pages": len(urls), "fetched": len(waiting), "refused": refused, **counts})


main = step_main(collect_pages, parser)

if __name__ == "__main__":
    sys.exit(main())
