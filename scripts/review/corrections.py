"""Proposed corrections: their store and their routes."""

from pathlib import Path

from starlette.routing import Route

from scripts.review.library import Library


def routes(library: Library, folder: Path) -> list[Route]:
    """Return the routes of corrections."""
    return []


def correction_of(folder: Path, dataset: str, record: str) -> dict | None:
    """Return the latest correction of a record, as GET /api/corrections has it; None without one."""
    return None
