"""Collect one page: fetch it, in Chromium if the site needs it, with the further pages of its match, and save it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urljoin

from scripts.collect.fetch import Answer, FailedError, Fetcher, RefusedError
from scripts.collect.listing import address
from scripts.collect.page_values import nodes, parse, value
from scripts.collect.site_folder import SiteFolder, locked
from scripts.common.terminal import log
from scripts.config.sites import Site, selector_parts

MOST_PAGES = 50  # of a match


class Collector:
    """Fetches pages of a site into its folder."""

    def __init__(self, site: Site, folder: SiteFolder, fetcher: Fetcher, opened: ExitStack):
        self.site, self.folder, self.fetcher, self.opened = site, folder, fetcher, opened
        self.browser = None

    def collect(self, url: str, kind: str) -> dict:
        """Fetch and save a listing page or all pages of a match; return the first's row, with the reason of a failure.

        Raises ClosedError if the site wants no requests. The browser starts with the first page that needs it.
        """
        item = self.site.entry.item if kind == "match" else self.site.listing.item
        pages: dict[str, tuple[str, str]] = {}
        following: str | None = url
        try:
            while following and following not in pages:
                if len(pages) == MOST_PAGES:
                    raise FailedError(f"page.next leads to more than {MOST_PAGES} pages of one match")
                log.info("%s %s", kind, following)
                answer = self.fetcher.page(following)
                html = self.rendered(answer, kind, item) if self.site.page.browser else answer.text
                tree = parse(html)
                if not nodes(tree, item):
                    break
                pages[following] = html, str(answer.url)
                link = value(tree, self.site.page.next) if kind == "match" else None
                base = urljoin(str(answer.url), value(tree, "base@href") or "")
                following = address(base, link, self.site)
        except (RefusedError, FailedError) as error:
            status = "refused" if isinstance(error, RefusedError) else "failed"
            return self.folder.note([url], kind, status, f"{error}" if following == url else f"{following}: {error}")
        if pages:
            return self.folder.save(kind, pages)
        why = f"nothing matches '{item}': the site has been redesigned, or this is another page"
        return self.folder.save(kind, {url: (html, str(answer.url))}, why)

    def rendered(self, answer: Answer, kind: str, item: str) -> str:
        """Return the HTML of a page in Chromium; `listing.max_pages` limits how often a listing loads more."""
        from scripts.collect.browser import chromium, rendered

        if self.browser is None:
            self.browser = self.opened.enter_context(chromium())
        item = selector_parts(item)[0]
        if kind == "match":
            return rendered(self.browser, self.fetcher, self.site.page, answer, item)
        loading = self.site.page.model_copy(update={"wait_for": None})
        return rendered(self.browser, self.fetcher, loading, answer, item, self.site.listing.max_pages)


@contextmanager
def collector(name: str, site: Site) -> Iterator[Collector]:
    """Yield the collector of a site, with its folder locked; the browser, if there is one, is closed at the end."""
    with locked(Path(site.folder_of(name))) as saved, ExitStack() as opened:
        yield Collector(site, saved, Fetcher(site), opened)
