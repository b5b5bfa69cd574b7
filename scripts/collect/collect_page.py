"""Collect pages by their addresses: fetch each once, in Chromium if the site needs it, and save it.

python scripts/collect/collect_page.py https://... --site directfoot --configfile config/mine.yaml
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from scripts.collect.fetch import FailedError, Fetcher, RefusedError
from scripts.collect.site_folder import SiteFolder, locked
from scripts.collect.site_settings import add_site_options, site_of
from scripts.common.cli import log, step_main, step_parser
from scripts.common.errors import UserError
from scripts.config.sites import Site, selector_parts


class Collector:
    """Fetches pages of a site into its folder."""

    def __init__(self, site: Site, folder: SiteFolder, fetcher: Fetcher, opened: ExitStack):
        self.site, self.folder, self.fetcher, self.opened = site, folder, fetcher, opened
        self.browser = None

    def collect(self, url: str, kind: str) -> dict:
        """Fetch and save a page of a kind (listing or match); return its row, with status and reason if it failed.

        The browser starts with the first page that needs it.
        """
        log.info("%s %s", kind, url)
        try:
            answer = self.fetcher.page(url)
            html = self.rendered(answer, kind) if self.site.page.browser else answer.text
        except RefusedError as error:
            return self.folder.note(url, kind, "refused", str(error))
        except FailedError as error:
            return self.folder.note(url, kind, "failed", str(error))
        return self.folder.save(url, kind, html, str(answer.url))

    def rendered(self, answer, kind: str) -> str:
        """Return the HTML of a page in Chromium."""
        from scripts.collect.browser import chromium, rendered

        if self.browser is None:
            self.browser = self.opened.enter_context(chromium())
        item, loading = self.site.entry.item, self.site.page
        if kind == "listing":
            item, loading = self.site.listing.item, loading.model_copy(update={"wait_for": None})
        return rendered(self.browser, self.fetcher, loading, answer, selector_parts(item)[0])


@contextmanager
def collector(name: str, site: Site) -> Iterator[Collector]:
    """Yield the collector of a site, with its folder locked; the browser, if there is one, is closed at the end."""
    with locked(Path(site.folder_of(name))) as saved, ExitStack() as opened:
        yield Collector(site, saved, Fetcher(site), opened)


def collect_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that the three programs share."""
    parser = step_parser(description)
    add_site_options(parser)
    parser.add_argument("--again", action="store_true", help="fetch pages again that are saved")
    return parser


def parser() -> argparse.ArgumentParser:
    """Return this step's parser."""
    own = collect_parser("Fetch pages of a site and save them.")
    own.add_argument("urls", nargs="+", metavar="URL", help="addresses of pages with commentary")
    return own


def collect_page(arguments: argparse.Namespace) -> None:
    """Collect pages and print where they are. Raises UserError with the reason of each that failed."""
    faults = []
    with collector(arguments.site, site_of(arguments)) as site:
        for url in dict.fromkeys(arguments.urls):
            row = (not arguments.again and site.folder.row(url)) or site.collect(url, "match")
            if row["status"] == "ok":
                print(site.folder.path / row["file"])
            else:
                faults.append(f"{url}: {row['status']}: {row['why']}")
    if faults:
        raise UserError("\n".join(faults))


main = step_main(collect_page, parser)

if __name__ == "__main__":
    sys.exit(main())
