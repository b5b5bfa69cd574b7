"""The records of matches: in order of time, without repetitions, and how much of a match they cover."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise

from scripts.config.sites import UNKNOWN, Coverage, folded

# The last entry of a full commentary is at most so many minutes before the end: a final whistle may have no minute.
BEFORE_END = 5


@dataclass
class Page:
    """What a page of a match holds, or all of them: records in order of time, facts, and a line for each bad entry.

    `url` is the address of the match's first page.
    """

    url: str
    records: list[dict]
    facts: dict
    faults: list[str] = field(default_factory=list)
    # Labels that no event type lists, or several, with their number.
    unknown_labels: Counter = field(default_factory=Counter)


def time_of(record: dict) -> tuple[int, int] | None:
    """Return minute and added minutes of a record; None without a minute."""
    return None if record["minute"] is None else (record["minute"], record["added"] or 0)


def oldest_first(records: list[dict]) -> list[dict]:
    """Return a page's records with the first minute first; those of a page with the newest first are reversed."""
    steps = list(pairwise(time for record in records if (time := time_of(record)) is not None))
    falling, rising = sum(one > two for one, two in steps), sum(one < two for one, two in steps)
    return records[::-1] if falling > rising else records


def positions(records: list[dict]) -> list[tuple[int, int]]:
    """Return the time to sort each record by; one without a minute, such as half-time, follows the one before it."""
    times = [time_of(record) for record in records]
    minute, added = next((time for time in times if time is not None), (0, 0))
    position, found = (minute, added - 1), []
    for time in times:
        position = position if time is None else time
        found.append(position)
    return found


def by_match(pages: list[Page]) -> list[Page]:
    """Return the records of each match in order of time, from all of its pages, each entry once.

    Pages belong to one match by their address, or if the first pages name the same teams and date. All records of a
    match have the address of its first page, so that they stay together in one split. An entry that has different event
    types on two pages is unknown.
    """
    keys: dict[str, tuple] = {}
    together: dict[tuple, list[Page]] = {}
    for page in pages:
        known = [page.facts.get(key) for key in ("home", "away", "date")]
        key = tuple(map(folded, known)) if all(known) else (page.url,)
        together.setdefault(keys.setdefault(page.url, key), []).append(page)
    return [merged(group) for group in together.values()]


def merged(pages: list[Page]) -> Page:
    """Return the pages of one match as one."""
    first = pages[0]
    facts = {key: next((page.facts[key] for page in pages if page.facts[key]), None) for key in first.facts}
    placed = [pair for page in pages for pair in zip(positions(page.records), page.records, strict=True)]
    kept: dict[tuple, dict] = {}
    types = defaultdict(set)
    for _, record in sorted(placed, key=lambda pair: pair[0]):
        key = (time_of(record) or folded(record["time"]), " ".join(record["text"].split()))
        kept.setdefault(key, record | {"url": first.url})
        types[key] |= {record["event_type"]} - {UNKNOWN}
    for key, record in kept.items():
        record["event_type"] = types[key].pop() if len(types[key]) == 1 else UNKNOWN
    return Page(
        url=first.url,
        records=list(kept.values()),
        facts=facts | {"pages": len(pages)},
        faults=[fault for page in pages for fault in page.faults],
        unknown_labels=sum((page.unknown_labels for page in pages), Counter()),
    )


def coverage(records: list[dict], wanted: Coverage) -> dict:
    """Return first and last minute of a match's records, its gaps as pairs of minutes, and `full` or `partial`."""
    minutes = sorted({record["minute"] for record in records if record["minute"] is not None})
    last = minutes[-1] if minutes else 0
    ends = [0, *minutes, *([wanted.minutes] if last < wanted.minutes else [])]
    gaps = [[one, two] for one, two in pairwise(ends) if two - one > wanted.longest_gap]
    is_full = not gaps and last >= wanted.minutes - BEFORE_END
    return {
        "first": minutes[0] if minutes else None,
        "last": minutes[-1] if minutes else None,
        "gaps": gaps,
        "coverage": "full" if is_full else "partial",
    }
