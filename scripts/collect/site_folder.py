"""The folder of a site: saved pages, and `pages.jsonl` with a line for each page that was asked for."""

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from scripts.common.errors import UserError
from scripts.common.files import read_jsonl, write_jsonl, write_text

INDEX = "pages.jsonl"


class SiteFolder:
    """The saved pages of a site, by URL.

    A row of the index has `url`, `kind` (listing or match), `status` (ok, failed or refused), `why`, `scraped_at`, and
    for a saved page `file` and `address`, the URL after redirects. The page is written before its row, and the index
    atomically, so a kill loses one page at most.
    """

    def __init__(self, path: Path):
        self.path = path
        index = path / INDEX
        self.rows = {row["url"]: row for row in read_jsonl(index)} if index.exists() else {}

    def row(self, url: str) -> dict | None:
        """Return the row of a page that was saved; None if it was not, or if its file is gone."""
        row = self.rows.get(url)
        return row if row and row["status"] == "ok" and (self.path / row["file"]).is_file() else None

    def read(self, row: dict) -> str:
        """Return the HTML of a saved page."""
        return (self.path / row["file"]).read_text(encoding="utf-8")

    def saved(self, kind: str) -> Iterator[dict]:
        """Yield the rows of the saved pages of a kind, in the order in which they were first asked for."""
        yield from filter(None, (self.row(url) for url, row in self.rows.items() if row["kind"] == kind))

    def save(self, url: str, kind: str, html: str, address: str) -> dict:
        """Save a page and return its row."""
        file = f"pages/{hashlib.sha256(url.encode()).hexdigest()[:16]}.html"
        write_text(self.path / file, html, part=True)
        return self.note(url, kind, "ok", None, file=file, address=address)

    def note(self, url: str, kind: str, status: str, why: str | None, **more: str) -> dict:
        """Return the row of a page, and write it to the index; a page that was saved before stays there if it fails."""
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        row = {"url": url, "kind": kind, "status": status, "why": why, "scraped_at": now, **more}
        if status == "ok" or self.row(url) is None:
            self.rows[url] = row
            write_jsonl(self.path / INDEX, list(self.rows.values()), part=True)
        return row


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
