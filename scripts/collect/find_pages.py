"""Find pages worth collecting: the matches on a site's listing pages that meet its conditions.

python scripts/collect/find_pages.py --site directfoot --configfile config/mine.yaml --output found.txt
"""

import argparse
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from scripts.collect.collect_page import Collector, collect_parser, collector
from scripts.collect.listing import ListingPage, read_listing
from scripts.collect.site_settings import site_of
from scripts.common.cli import log, step_main
from scripts.common.errors import UserError
from scripts.common.files import write_text
from scripts.common.terminal import warn

# An interrupted search continues with the listing pages that it has; later they may list new matches.
LISTING_IS_NEW = timedelta(hours=1)


def parser() -> argparse.ArgumentParser:
    """Return this step's parser."""
    own = collect_parser("Write the addresses of the pages worth collecting, one on each line.")
    own.add_argument("--output", type=Path, required=True, help="text file with the addresses")
    return own


def listing_pages(site: Collector, name: str, again: bool) -> Iterator[ListingPage]:
    """Yield the listing pages, from each start to its last page, `listing.max_pages` at most.

    Raises UserError for a page that can't be fetched, or on which the selectors find nothing.
    """
    listing = site.site.listing
    waiting, seen = list(reversed(listing.start)), set()
    while waiting and len(seen) < listing.max_pages:
        url = waiting.pop()
        if url in seen:
            continue
        seen.add(url)
        row = None if again else site.folder.row(url)
        if row is None or datetime.now(UTC) - datetime.fromisoformat(row["scraped_at"]) > LISTING_IS_NEW:
            row = site.collect(url, "listing")
        if row["status"] != "ok":
            raise UserError(f"listing page {url}: {row['status']}: {row['why']}")
        page = read_listing(site.folder.read(row), row["address"], site.site, name)
        if page.next:
            waiting.append(page.next)
        yield page
    if waiting:
        warn(f"more listing pages than max_pages ({listing.max_pages}) were not read; the next is {waiting[-1]}")


def find_pages(arguments: argparse.Namespace) -> None:
    """Write the addresses that the listing pages name. Raises UserError if they name none."""
    site, found, skipped = site_of(arguments), {}, 0
    if site.listing is None:
        raise UserError(f"sites.{arguments.site} has no 'listing', so there is nothing to find pages on")
    with collector(arguments.site, site) as opened:
        for page in listing_pages(opened, arguments.site, arguments.again):
            found |= dict.fromkeys(page.found)
            skipped += page.skipped
            for fault in page.faults:
                warn(fault)
    if not found:
        raise UserError(f"none of the {skipped} matches on the listing of {arguments.site} meets listing.only_if")
    log.info("%d pages found, %d skipped", len(found), skipped)
    write_text(arguments.output, "".join(f"{url}\n" for url in found))


main = step_main(find_pages, parser)

if __name__ == "__main__":
    sys.exit(main())
