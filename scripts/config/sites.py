"""The section `sites`: web pages from which raw records are collected, described by CSS selectors."""

import re
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from scripts.config.types import FilePath, LanguageTag, Name, Number, Section, Text

COLLECTED = "collected"
RECORDS = "records.json"
LOOPBACK = {"localhost", "127.0.0.1", "::1"}
SHORTEST_PERMISSION = 15  # letters and digits: who, when and for what
PLACEHOLDERS = re.compile(r"(?i)\b(todo|tbd|tba|fixme|xxx+|placeholder|lorem|to be (asked|done|confirmed))\b|<[^>@]*>")
UNKNOWN = "unknown"
LONGEST = 200  # characters of a label
EDGES = re.compile(r"^[^\w*]+|[^\w*]+$")
INVISIBLE = re.compile("[\u0000-\u0008\u000e-\u001f\u007f-\u009f\u00ad\u200b\u2060\ufeff]")


def folded(text: str) -> str:
    """Return text without case and accents and with single spaces, for comparisons."""
    plain = "".join(each for each in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(each))
    return " ".join(INVISIBLE.sub("", plain).split())


def label(text: str) -> str:
    """Return a label for comparison: without case and accents, and without signs around it."""
    plain = folded(text[:LONGEST])
    return EDGES.sub("", plain) or plain


def selector_parts(selector: str) -> tuple[str, str | None]:
    """Split `selector@attribute` into the CSS selector and the attribute; without an attribute the text is read."""
    css, at, attribute = selector.rpartition("@")
    return (css.strip(), attribute) if at and re.fullmatch(r"[\w:-]+", attribute) else (selector.strip(), None)


def selectable(selector: str) -> str:
    """Return a selector. Raises ValueError if the parser of pages, where it is installed, can't read it."""
    css, _ = selector_parts(selector)
    with suppress(ImportError):  # an environment of Snakemake alone; reading a page then reports the selector
        from selectolax.lexbor import LexborHTMLParser, SelectolaxError

        try:
            LexborHTMLParser("").css(css or "*")
        except SelectolaxError:
            raise ValueError("is not a valid CSS selector, with or without '@attribute' at its end") from None
    return selector


def element(selector: str) -> str:
    """Return the selector of an element. Raises ValueError if it reads an attribute."""
    if selector_parts(selector)[1]:
        raise ValueError("selects an element, so '@attribute' can't be at its end")
    return selector


def web_address(url: str) -> str:
    """Return an address. Raises ValueError if it is not one of a web page."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"\s", url):
        raise ValueError("is not the address of a web page: https://host/path")
    return url


def written_permission(permission: Any) -> str:
    """Return a written permission. Raises ValueError for a missing one and for a placeholder."""
    text = permission.strip() if isinstance(permission, str) else ""
    if len(re.findall(r"[^\W_]", text)) < SHORTEST_PERMISSION or PLACEHOLDERS.search(text):
        raise ValueError(
            "states no permission, without which nothing is collected: write who allowed it, when and for what, such "
            "as 'Mail of 2026-11-02 by J. Doe, Directfoot: research use of finished matches'"
        )
    return text


def named_agent(agent: str) -> str:
    """Return a user agent. Raises ValueError if it does not say who asks and how to reach them."""
    if not re.fullmatch(r"[ -~]+", agent) or not re.search(r"\S@\S|https?://\S", agent):
        raise ValueError("names nobody to write to: give a name and an address, such as 'mybot/1.0 (+me@example.org)'")
    return agent


Selector = Annotated[Text, AfterValidator(selectable)]
Element = Annotated[Selector, AfterValidator(element)]
WebAddress = Annotated[str, AfterValidator(web_address)]
Permission = Annotated[str, BeforeValidator(written_permission)]
UserAgent = Annotated[Text, AfterValidator(named_agent)]


class Listing(Section):
    """Pages that list matches. Selectors are CSS; `selector@attribute` reads an attribute instead of the text."""

    start: list[WebAddress] = Field(min_length=1, description="Addresses of the listing pages to begin with.")
    item: Element = Field(description="Selector of one match on a listing page.")
    link: Selector = Field("a@href", description="Selector of the match's address, within the item.")
    only_if: dict[Selector, str] = Field(
        {},
        description="Selectors within the item, each with words that its text must contain, such as `.status: "
        "Finished`; an item that lacks one is skipped. Case and accents do not matter; empty words: it must be there.",
    )
    next: Selector | None = Field(None, description="Selector of the address of the next listing page.")
    max_pages: int = Field(50, ge=1, description="Read at most so many listing pages.")


class PageLoading(Section):
    """How a match's page is loaded until nothing new appears."""

    browser: bool = Field(True, description="Load in Chromium; false: by plain HTTP, for pages that need no script.")
    consent: Element | None = Field(None, description="Button of a consent banner, clicked once if it shows.")
    scroll: bool = Field(True, description="Scroll until no further entries appear.")
    load_more: Element | None = Field(None, description="Button that loads more entries, clicked until it is gone.")
    wait_for: Element | None = Field(None, description="What to wait for after loading; default: the first entry.")
    next: Selector | None = Field(
        None, description="Selector of the address of the next page of the same match, such as `a.next@href`."
    )
    may_fail: list[Text] = Field(
        [],
        description="Parts of addresses that the page's scripts may ask in vain, such as `/api/login`; without the "
        "answer to any other, the page is not saved, because entries could be missing.",
    )


class Entry(Section):
    """One entry of the commentary. Selectors other than `item` are within the item; `@attribute` alone is its own."""

    item: Element = Field(description="Selector of an entry.")
    time: Selector = Field(
        description="Its time, such as `12'`, `45'+2` or `HT`; what `.minute, .added` finds is joined by spaces."
    )
    text: Selector = Field(description="Its text.")
    type: Selector | None = Field(
        None,
        description="Its label or icon, such as `.icon@class` or `img@alt`; an event type is read from nothing else.",
    )
    event_types: dict[Name, list[Text]] = Field(
        {},
        description="Event types, each with its labels or icons. A label is compared as a whole, without regard to "
        "case and accents (`*` stands for any further words); so is a list of classes, and of `src` or `href` the "
        f"file's name or what follows `#`. An entry with several types or an unlisted label gets the type `{UNKNOWN}`.",
    )
    unlabelled: Name = Field(
        UNKNOWN,
        description="Event type of entries without label and icon, such as `commentary`; on a page where no entry has "
        f"one, all are `{UNKNOWN}`.",
    )

    def conflicts(self) -> Iterator[tuple[str, str]]:
        for key in self.given("event_types", "unlabelled"):
            if self.type is None:
                yield key, "needs 'type', the selector of an entry's label or icon"
        if self.type is not None and not self.event_types:
            yield "type", "needs 'event_types', or every labelled entry is unknown"
        first: dict[str, str] = {}
        for name, labels in self.event_types.items():
            for text in labels:
                if (owner := first.setdefault(label(text), name)) != name:
                    yield f"event_types.{name}", f"'{text}' is a label of '{owner}' as well: give it to one of them"


class Match(Section):
    """Facts of a match for matches.jsonl; pages with the same home, away and date are pages of one match."""

    title: Selector | None = Field(None, description="Title of the page.")
    home: Selector | None = Field(None, description="Home team.")
    away: Selector | None = Field(None, description="Away team.")
    score: Selector | None = Field(None, description="Result.")
    date: Selector | None = Field(None, description="Date, as the page has it.")


class Coverage(Section):
    """What makes the commentary of a match full."""

    minutes: int = Field(90, ge=1, le=300, description="Regular length of a match.")
    longest_gap: int = Field(10, ge=1, description="More minutes than this without an entry are a gap.")


class Site(Section):
    """A web site from which raw records may be collected."""

    permission: Permission = Field(
        description="Who allowed the collecting, when and for what, in words; without it nothing is collected.",
    )
    licence_note: Text = Field(description="Licence of the texts and what may be done with them; each record has it.")
    user_agent: UserAgent = Field(description="Name of the program and an address to write to, sent with each request.")
    delay: Number = Field(
        2.0, ge=0, description="Seconds between two requests to a host; at least 1, except on this machine itself."
    )
    hosts: list[Text] = Field([], description="Further hosts to read from; default: those of `listing.start` only.")
    folder: FilePath | None = Field(
        None, description=f"Folder of saved pages and records; default: `{COLLECTED}/<name>`."
    )
    language: LanguageTag | None = Field(
        None, description="Language that is asked for, such as `fr` (`Accept-Language`)."
    )
    listing: Listing | None = Field(None, description="Pages that list matches; not needed for saved pages.")
    page: PageLoading = Field(PageLoading(), description="How a match's page is loaded.")
    entry: Entry = Field(description="One entry of the commentary.")
    match: Match = Field(Match(), description="Facts of a match.")
    coverage: Coverage = Field(Coverage(), description="What makes the commentary of a match full.")

    def all_hosts(self) -> set[str]:
        """Return the hosts from which pages may be read, in lower case."""
        started = [urlsplit(url).hostname for url in self.listing.start] if self.listing else []
        return {host.lower() for host in (*started, *self.hosts)}

    def folder_of(self, name: str) -> PurePosixPath:
        """Return the folder of the site of this name."""
        return PurePosixPath(self.folder or f"{COLLECTED}/{name}")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.delay < 1 and (others := sorted(self.all_hosts() - LOOPBACK)):
            yield "delay", f"must be at least 1 second: less is for this machine only, not for {', '.join(others)}"
        for position, host in enumerate(self.hosts):
            if re.search(r"[/:@\s]", host) and host.lower() not in LOOPBACK:
                yield f"hosts[{position}]", f"'{host}' is not a host's name such as www.example.org"


Sites = dict[Name, Site]
