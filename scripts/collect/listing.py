"""Read the addresses of matches from a listing page."""

import re
from dataclasses import dataclass, field
from urllib.parse import urldefrag, urljoin, urlsplit

from selectolax.lexbor import LexborNode

from scripts.collect.page_values import nodes, parse, selected, value
from scripts.common.errors import UserError
from scripts.config.sites import Site, folded


@dataclass
class ListingPage:
    """Addresses of matches on a listing page, how many others were skipped, and the address of the next page."""

    found: list[str]
    skipped: int
    next: str | None
    faults: list[str] = field(default_factory=list)


def address(base: str, link: str | None, site: Site) -> str | None:
    """Return the absolute address of a link, without fragment; None if it leads to no page of the site."""
    try:
        url = urldefrag(urljoin(base, link or "")).url
        parts = urlsplit(url)
        is_page = parts.scheme in ("http", "https") and (parts.hostname or "") in site.all_hosts()
    except ValueError:
        return None
    return url if link and is_page else None


def is_wanted(item: LexborNode, site: Site) -> bool:
    """Return whether a match meets all conditions of `only_if`, by whole words."""
    for selector, words in site.listing.only_if.items():
        wanted = re.compile(rf"(?<!\w){re.escape(folded(words))}(?!\w)")
        if not any(not words or wanted.search(folded(text)) for _, text in selected(item, selector)):
            return False
    return True


def read_listing(html: str, url: str, site: Site, name: str) -> ListingPage:
    """Return the matches that a listing page names.

    Raises UserError if the selector of matches, or that of their addresses, finds nothing.
    """
    tree, listing = parse(html), site.listing
    base = urljoin(url, value(tree, "base@href") or "")
    items = nodes(tree, listing.item)
    if not items:
        raise redesigned(f"sites.{name}.listing.item", listing.item, url)
    links = [address(base, value(item, listing.link), site) for item in items]
    if not any(links):
        raise redesigned(f"sites.{name}.listing.link", listing.link, url, "no address of the site's hosts")
    wanted = [link for item, link in zip(items, links, strict=True) if link and is_wanted(item, site)]
    faults = [
        f"listing.only_if '{each}' finds nothing on the page" for each in listing.only_if if not selected(tree, each)
    ]
    if None in links:
        faults.append(f"{links.count(None)} of {len(items)} matches have no address on the site's hosts")
    link = value(tree, listing.next)
    following = address(base, link, site)
    if link and following is None:
        faults.append(f"the listing ends here: listing.next finds '{link}', no address on the site's hosts")
    return ListingPage(list(dict.fromkeys(wanted)), len(items) - len(wanted), following, faults)


def redesigned(key: str, selector: str, page: str, what: str = "nothing") -> UserError:
    """Return the error of a selector that does not fit a page, as after a redesign of the site."""
    return UserError(
        f"{key}: '{selector}' finds {what} on {page}",
        remedy="look at the saved page: the site's markup may have changed, or the page is not the one meant",
    )
