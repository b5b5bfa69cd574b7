"""Extract records of live commentary from saved pages, without browser or network.

python scripts/collect/extract_page.py saved.html --site directfoot --configfile config/x.yaml
    --output records.json --matches matches.jsonl
python scripts/collect/extract_page.py --site directfoot --configfile config/x.yaml

Without names of pages, those in the folder of the site are read, and the results are written into it.
"""

import argparse
import re
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from scripts.collect.events import event_type, labels_of
from scripts.collect.listing import redesigned
from scripts.collect.matches import Page, oldest_first
from scripts.collect.minutes import minute_of
from scripts.collect.page_values import joined, nodes, parse, value
from scripts.collect.site_folder import SiteFolder
from scripts.collect.site_settings import add_site_options, site_of
from scripts.collect.write_records import write_records
from scripts.common.cli import log, progress, step_main, step_parser
from scripts.common.errors import UserError
from scripts.common.files import write_json
from scripts.common.terminal import warn
from scripts.config.sites import RECORDS, UNKNOWN, Site


class SavedPage(NamedTuple):
    """A page in a file, the address of its match's first page, when it was saved (ISO 8601, UTC), and how it loaded."""

    path: Path
    url: str
    scraped_at: str
    status: str = "ok"


def read_page(html: str, url: str, scraped_at: str, site: Site, name: str) -> Page:
    """Return the records of a match's page, in order of time; `url` is the address of the match's first page.

    An entry without text or time becomes a line of `faults`. Raises UserError if the selector of entries finds nothing
    or if most entries lack text or time, as after a redesign.
    """
    tree, entry = parse(html), site.entry
    facts = {key: value(tree, getattr(site.match, key)) for key in type(site.match).model_fields}
    items = nodes(tree, entry.item)
    if not items:
        raise redesigned(f"sites.{name}.entry.item", entry.item, url)
    read = []
    # From the last to the first, and removed once read: where a tag is not closed, an entry contains those that follow.
    for item in reversed(items):
        read.append((joined(item, entry.time), value(item, entry.text), labels_of(item, entry)))
        item.decompose()
    read.reverse()
    for position, key in enumerate(("time", "text")):
        lacking = sum(each[position] is None for each in read)
        if 2 * lacking > len(read):
            what = f"no {key} in {lacking} of {len(read)} entries"
            raise redesigned(f"sites.{name}.entry.{key}", getattr(entry, key), url, what)
    has_labels = any(labels for _, _, labels in read)
    faults, records, unknown = [], [], Counter()
    for number, (time, text, labels) in enumerate(read, 1):
        if time is None or text is None:
            lacks = " and ".join(key for key, found in (("time", time), ("text", text)) if found is None)
            faults.append(f"entry {number} has no {lacks}; it has {(time or text or 'neither')[:60]}")
            continue
        minute, added = minute_of(time)
        kind = event_type(labels, entry, has_labels)
        if kind == UNKNOWN and labels:
            unknown[" + ".join(sorted(labels))] += 1
        record = {"time": time, "minute": minute, "added": added, "event_type": kind, "text": text, "source": name}
        records.append(record | {"url": url, "scraped_at": scraped_at, "licence_note": site.licence_note})
    timeless = [record["time"] for record in records if record["minute"] is None]
    if len(timeless) < len(records):  # words such as `HT` have no minute; numbers should
        timeless = [time for time in timeless if re.search(r"\d", time)]
    if timeless:
        what = f"{len(timeless)} of {len(records)} times are no minute of a match"
        faults.append(f"{what}; sites.{name}.entry.time finds '{timeless[0][:60]}'")
    if entry.type and not has_labels:
        faults.append(f"no entry has a label or icon; sites.{name}.entry.type '{entry.type}' finds none")
    return Page(url, oldest_first(records), facts, faults, unknown)


def extract_folder(folder: Path, site: Site, name: str) -> dict:
    """Write records.json and matches.jsonl of the saved matches in a site's folder; return the numbers of `extract`."""
    rows = SiteFolder(folder).saved("match")
    saved = [SavedPage(folder / row["file"], row["match"], row["scraped_at"], row["status"]) for row in rows]
    if not saved:
        raise UserError("has no saved page of a match", folder, remedy="collect some first, or name saved pages")
    return extract(saved, site, name, folder / RECORDS, folder / "matches.jsonl")


def extract(saved: list[SavedPage], site: Site, name: str, records: Path, matches: Path) -> dict:
    """Write the records and matches of saved pages; return the numbers of pages, failed pages, records and matches.

    A page that can't be read is listed in the file of matches. Raises UserError if most of those that loaded can't, or
    all, and writes nothing.
    """
    pages, failed, lost = [], {}, 0
    for path, url, scraped_at, status in progress(saved, "pages", len(saved)):
        try:
            pages.append(read_page(text_of(path), url, scraped_at, site, name))
        except UserError as error:
            failed[url] = str(error)
            lost += status == "ok"
            warn(f"{path}: {error}")
    if not pages or 2 * lost > sum(page.status == "ok" for page in saved):
        first, count = next(iter(failed.values())), len(saved) - len(pages)
        raise UserError(first if len(saved) == 1 else f"{count} of {len(saved)} pages can't be read; {first}")
    rows = write_records(pages, records, matches, site.coverage, failed)
    counts = {
        "pages": len(saved),
        "failed": len(saved) - len(pages),
        "records": sum(row["records"] for row in rows),
        "matches": len(rows) - len(failed),
        "full": sum(row["coverage"] == "full" for row in rows),
        "faults": sum(len(row["faults"]) for row in rows),
    }
    log.info("%s", ", ".join(f"{key}: {count}" for key, count in counts.items()))
    if counts["faults"]:
        first = next(row for row in rows if row["faults"])
        warn(f"{counts['faults']} faults are listed in {matches}; the first: {first['url']}: {first['faults'][0]}")
    if counts["full"] < counts["matches"]:
        warn(f"{counts['matches'] - counts['full']} of {counts['matches']} matches are not complete, see {matches}")
    if unknown := sum((Counter(row.get("unknown_labels")) for row in rows), Counter()):
        common = ", ".join(f"'{label}' ({count})" for label, count in unknown.most_common(10))
        warn(f"labels of unknown entries, for 'event_types' of the site: {common}")
    return counts


def named_page(path: Path, url: str | None) -> SavedPage:
    """Return a saved page that the command line names; without `url`, it gives its address itself.

    Raises UserError if it gives none. It was saved when the file was last changed.
    """
    url = url or value(parse(text_of(path)), "link[rel=canonical]@href")
    if not url:
        raise UserError("does not say which address it has", path, remedy="name one page at a time, with --url")
    return SavedPage(path, url, datetime.fromtimestamp(path.stat().st_mtime, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))


def text_of(path: Path) -> str:
    """Return the HTML of a saved page. Raises UserError if it can't be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"can't be read: {error.strerror}", path, remedy="name pages that were saved as HTML") from None
    except UnicodeDecodeError:
        raise UserError("is not UTF-8", path, remedy="save it in that encoding") from None


def step(arguments: argparse.Namespace) -> None:
    """Extract from named pages, or from those in the site's folder."""
    site, named, outputs = site_of(arguments), arguments.pages, (arguments.output, arguments.matches)
    if bool(named) != all(outputs) or (arguments.url and len(named) != 1):
        remedy = "name saved pages with --output and --matches (--url is for one page), or none of them"
        raise UserError("these options do not fit together", remedy=remedy)
    if named:
        counts = extract([named_page(path, arguments.url) for path in named], site, arguments.site, *outputs)
    else:
        counts = extract_folder(Path(site.folder_of(arguments.site)), site, arguments.site)
    if arguments.done:
        write_json(arguments.done, counts)


def parser() -> argparse.ArgumentParser:
    """Return the step's command line."""
    parser = step_parser(__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", type=Path, help="saved pages, HTML files (default: all of the site)")
    parser.add_argument("--url", help="address of the page, if it does not say it itself")
    parser.add_argument("--output", type=Path, help="JSON file of records to write")
    parser.add_argument("--matches", type=Path, help="JSONL file of matches to write")
    parser.add_argument("--done", type=Path, help="JSON file with the numbers, written at the end")
    add_site_options(parser)
    return parser


main = step_main(step, parser)

if __name__ == "__main__":
    sys.exit(main())
