"""Small self-contained pages: ledgers, curves, reports. Everything from data is escaped by Jinja's autoescape."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from scripts.common.files import write_text

PAGES = Path(__file__).parent / "pages"


def render_page(template: str, folder: Path, **values) -> str:
    """Render a template of `folder` (which may extend `page.html` of scripts/common/pages) with autoescape on."""
    loader = FileSystemLoader([folder, PAGES])
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template).render(**values)


def write_page(path: Path | str, template: str, folder: Path, **values) -> None:
    """Render a template and write it as a whole file."""
    write_text(path, render_page(template, folder, **values))
