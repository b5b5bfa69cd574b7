"""Render small self-contained HTML pages: ledgers and reports. Jinja's autoescape escapes all data."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from scripts.common.files import write_text

PAGES = Path(__file__).parent / "pages"


def write_page(path: Path | str, template: str, folder: Path, **values) -> None:
    """Render a template of `folder`, which may extend `page.html` of scripts/common/pages, and write it atomically."""
    blocks = {"trim_blocks": True, "lstrip_blocks": True, "undefined": StrictUndefined}
    environment = Environment(loader=FileSystemLoader([folder, PAGES]), autoescape=True, **blocks)
    write_text(path, environment.get_template(template).render(**values))
