"""Write the records of a site's pages, merged by match, and a line of facts for each match."""

from pathlib import Path

from scripts.common.files import write_json, write_jsonl


def write_records(pages: list, records: Path, matches: Path) -> None:
    """Write records.json and matches.jsonl of pages."""
    write_json(records, [record for page in pages for record in page.records], part=True)
    write_jsonl(matches, [{"url": page.url, **page.match, "records": len(page.records)} for page in pages], part=True)
