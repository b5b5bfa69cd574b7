"""Extract records of live commentary from saved pages, without browser or network.

python scripts/collect/extract_page.py saved.html --url https://... --site directfoot --configfile config/x.yaml
    --output records.json --matches matches.jsonl
python scripts/collect/extract_page.py --folder collected/directfoot --site directfoot --configfile config/x.yaml
"""

from dataclasses import dataclass, field

from scripts.collect.events import common_names, event_type, labels_in
from scripts.collect.listing import read_listing, redesigned
from scripts.collect.minutes import minute_of
from scripts.collect.select import nodes, parse, value, values
from scripts.config.sites import Site

__all__ = ["Page", "read_listing", "read_page"]


@dataclass
class Page:
    """What a match's page holds: its records in order of time, facts of the match, and a line for each bad entry."""

    url: str
    records: list[dict]
    match: dict
    faults: list[str] = field(default_factory=list)
    unlisted: list[str] = field(default_factory=list)


def read_page(html: str, url: str, scraped_at: str, site: Site, name: str) -> Page:
    """Return the records of a match's page.

    An entry without text or time becomes a line of `faults`. Raises UserError if the selector of entries finds nothing
    or if most entries lack text or time, as after a redesign.
    """
    tree, entry = parse(html), site.entry
    match = {key: value(tree, getattr(site.match, key)) for key in type(site.match).model_fields}
    items = nodes(tree, entry.item)
    if not items:
        raise redesigned(f"sites.{name}.entry.item", entry.item, url)
    read = []
    # From the last to the first, and removed once read: with an unclosed tag, an entry holds all that follow.
    for item in reversed(items):
        read.append((value(item, entry.time), value(item, entry.text), values(item, entry.type)))
        item.decompose()
    read.reverse()
    for position, key in enumerate(("time", "text")):
        lacking = sum(each[position] is None for each in read)
        if 2 * lacking > len(read):
            what = f"no {key} in {lacking} of {len(read)} entries"
            raise redesigned(f"sites.{name}.entry.{key}", getattr(entry, key), url, what)
    labels = [labels_in(found, entry) for _, _, found in read]
    common = common_names(labels, entry)
    page = Page(url, [], match)
    for number, ((time, text, _), own) in enumerate(zip(read, labels, strict=True), 1):
        if time is None or text is None:
            page.faults.append(f"entry {number} has no {'time' if time is None else 'text'}: {time or text or 'empty'}")
            continue
        minute, added = minute_of(time)
        kind = event_type(own - common, entry, is_labelled_page=any(each - common for each in labels))
        record = {"time": time, "minute": minute, "added": added, "event_type": kind, "text": text, "source": name}
        record |= {"url": url, "scraped_at": scraped_at, "licence_note": site.licence_note}
        page.records.append(record)
    return page
