"""Find pages worth collecting: the matches on a site's listing pages that meet its conditions.

python scripts/collect/find_pages.py --site directfoot --configfile config/mine.yaml --output found.txt
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from scripts.collect.collect_page import Collector, collector
from scripts.collect.listing import ListingPage, read_listing
from scripts.collect.site_settings import add_site_options, site_of
from scripts.common.cli import log, step_main, step_parser
from scripts.common.errors import UserError
from scripts.common.files import write_text
from scripts.common.terminal import warn


def parser() -> argparse.ArgumentParser:
    """Return this step's parser."""
    own = step_parser("Write the addresses of the pages worth collecting, one on each line.")
    add_site_options(own)
    own.add_argument("--output", type=Path, required=True, help="text file with the addresses")
    return own


def listing_pages(site: Collector, name: str) -> Iterator[ListingPage]:
    """Yield the listing pages, from each start to its last page, `listing.max_pages` at most.

    Raises UserError for a page that can't be fetched, or if the selectors find nothing on any: a month without matches
    is no redesign.
    """
    listing = site.site.listing
    waiting, seen, faults = list(reversed(listing.start)), set(), []
    while waiting and len(seen) < listing.max_pages:
        url = waiting.pop()
        if url in seen:
            continue
        seen.add(url)
        row = site.collect(url, "listing")
        if "file" not in row:
            raise UserError(f"listing page {url}: {row['status']}: {row['why']}")
        try:
            page = read_listing(site.folder.read(row), row["address"], site.site, name)
        except UserError as error:
            faults.append(error)
            continue
        if page.next:
            waiting.append(page.next)
        yield page
    if len(faults) == len(seen):
        raise faults[0]
    for fault in faults:
        warn(str(fault))
    if waiting:
        warn(f"more listing pages than max_pages ({listing.max_pages}) were not read; the next is {waiting[-1]}")


def find_pages(arguments: argparse.Namespace) -> None:
    """Write the addresses that the listing pages name, and those of earlier days that are not collected yet."""
    site, found, skipped = site_of(arguments, fetches=True), {}, 0
    if site.listing is None:
        raise UserError(f"sites.{arguments.site} has no 'listing', so there is nothing to find pages on")
    with collector(arguments.site, site) as opened:
        for page in listing_pages(opened, arguments.site):
            found |= dict.fromkeys(page.found)
            skipped += page.skipped
            for fault in page.faults:
                warn(fault)
        if not found:
            warn(f"none of the {skipped} matches on the listing of {arguments.site} meets listing.only_if")
        log.info("%d pages found, %d skipped", len(found), skipped)
        opened.folder.note(found, "match", "found")
        rows = opened.folder.rows.values()
        found |= {row["url"]: None for row in rows if row["kind"] == "match" and row["status"] in ("found", "failed")}
    write_text(arguments.output, "".join(f"{url}\n" for url in found))


main = step_main(find_pages, parser)

if __name__ == "__main__":
    sys.exit(main())
