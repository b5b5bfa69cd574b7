"""Render small self-contained HTML pages: ledgers and reports. Jinja's autoescape escapes all data."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from scripts.common.files import write_text

PAGES = Path(__file__).parent / "pages"


def render_page(template: str, folder: Path, **values) -> str:
    """Render a template of `folder` (which may extend `page.html` of scripts/common/pages) with autoescape on."""
    blocks = {"trim_blocks": True, "lstrip_blocks": True, "undefined": StrictUndefined}
    environment = Environment(loader=FileSystemLoader([folder, PAGES]), autoescape=True, **blocks)
    return environment.get_template(template).render(**values)


def write_page(path: Path | str, template: str, folder: Path, **values) -> None:
    """Render a template and write it atomically."""
    write_text(path, render_page(template, folder, **values))
