"""The folder of a site: saved pages, and `pages.jsonl` with a line for each page that was asked for."""

import fcntl
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from scripts.common.errors import UserError
from scripts.common.files import read_jsonl, write_jsonl, write_text

INDEX = "pages.jsonl"


class SiteFolder:
    """The saved pages of a site, by URL.

    A row of the index has `url`, `kind` (listing or match), `status` (ok, failed, refused, or found: not asked for
    yet), `why`, `scraped_at`, and for a saved page `file`, `address`, the URL after redirects, and `match`, the address
    of the first page of its match. Pages are written before their rows, and the index atomically, so a kill loses one
    match.
    """

    def __init__(self, path: Path):
        self.path = path
        index = path / INDEX
        self.rows = {row["url"]: row for row in read_jsonl(index)} if index.exists() else {}

    def row(self, url: str) -> dict | None:
        """Return the row of a page that was saved as it should be; None if it was not, or if its file is gone."""
        row = self.rows.get(url)
        return row if row and row["status"] == "ok" and (self.path / row["file"]).is_file() else None

    def read(self, row: dict) -> str:
        """Return the HTML of a saved page."""
        return (self.path / row["file"]).read_text(encoding="utf-8")

    def saved(self, kind: str) -> Iterator[dict]:
        """Yield the rows of the saved pages of a kind, also of those without entries, in the order of the index."""
        for row in self.rows.values():
            if row["kind"] == kind and "file" in row and (self.path / row["file"]).is_file():
                yield row

    def save(self, kind: str, pages: dict[str, tuple[str, str]], why: str | None = None) -> dict:
        """Save the pages of a match, or a listing page, and return the row of the first; with `why` it failed.

        `pages` has HTML and address of each URL.
        """
        first, match = next((url, address) for url, (_, address) in pages.items())
        status = "failed" if why else "ok"
        if why and kind == "match" and self.row(first):
            return self.note([first], kind, status, why)
        for url, (html, address) in pages.items():
            file = f"pages/{hashlib.sha256(url.encode()).hexdigest()[:16]}.html"
            write_text(self.path / file, html, part=True)
            self.rows[url] = row_of(url, kind, status, why) | {"file": file, "address": address, "match": match}
        self.write_index()
        return self.rows[first]

    def note(self, urls: Iterable[str], kind: str, status: str, why: str | None = None) -> dict | None:
        """Note pages without a file, and return the row of the last; a page that was saved before keeps its own."""
        row = None
        for url in urls:
            row = row_of(url, kind, status, why)
            if self.row(url) is None and not (status == "found" and url in self.rows):
                self.rows[url] = row
        self.write_index()
        return row

    def write_index(self) -> None:
        """Write the index."""
        write_jsonl(self.path / INDEX, list(self.rows.values()), part=True)


def row_of(url: str, kind: str, status: str, why: str | None) -> dict:
    """Return a row of the index without a file."""
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return {"url": url, "kind": kind, "status": status, "why": why, "scraped_at": now}


@contextmanager
def locked(path: Path) -> Iterator[SiteFolder]:
    """Yield a site's folder, which no other process changes during the block. Raises UserError if one does."""
    path.mkdir(parents=True, exist_ok=True)
    with open(path / ".lock", "w", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError("another process is collecting into this folder", path, remedy="wait for it") from None
        yield SiteFolder(path)
