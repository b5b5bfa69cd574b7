"""The routes of judging."""

from pathlib import Path

from starlette.routing import Route

from scripts.review.library import Library


def routes(library: Library, folder: Path) -> list[Route]:
    """Return the routes of studies, tasks and votes."""
    return []
