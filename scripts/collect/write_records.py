"""Write the records of a site's pages, merged by match, and a line of facts for each match."""

import json
from collections.abc import Mapping
from pathlib import Path

from scripts.collect.matches import Page, by_match, coverage
from scripts.common.errors import UserError
from scripts.common.files import write_text
from scripts.config.sites import Coverage


def facts_of(match: Page, wanted: Coverage) -> dict:
    """Return a match's line of matches.jsonl."""
    return {
        "url": match.url,
        **match.facts,
        "records": len(match.records),
        **coverage(match.records, wanted),
        "unknown_labels": dict(match.unknown_labels),
        "faults": match.faults,
    }


def write_records(
    pages: list[Page], records: Path, matches: Path, wanted: Coverage, failed: Mapping[str, str]
) -> list[dict]:
    """Write the JSON array of records and the JSONL file of matches; return the lines of the latter.

    `failed` has the reason of each page that could not be read, by its address; matches.jsonl lists them with the
    coverage `none`. The files have no checksums: like all raw data they may be corrected by hand. Raises UserError,
    and writes nothing, if there is no record.
    """
    found = by_match(pages)
    rows = [facts_of(match, wanted) for match in found]
    rows += [{"url": url, "records": 0, "coverage": "none", "faults": [why]} for url, why in failed.items()]
    if not any(match.records for match in found):
        raise UserError("there are no records to write", records, remedy="collect or name at least one page of a match")
    array = [record for match in found for record in match.records]
    write_if_changed(records, json.dumps(array, ensure_ascii=False, indent=2) + "\n")
    write_if_changed(matches, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return rows


def write_if_changed(path: Path, text: str) -> None:
    """Write a text file, unless it has that text: with its time of change, all that is made from it would run again."""
    if not path.is_file() or path.read_bytes() != text.encode("utf-8"):
        write_text(path, text, part=True)
