"""Render small self-contained HTML pages: ledgers and reports. Jinja's autoescape escapes all data."""

import base64
import io
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from scripts.common.files import MANIFEST, read_json, write_text

PAGES = Path(__file__).parent / "pages"
QUALITY = 80  # of a thumbnail's JPEG


def write_page(path: Path | str, template: str, folder: Path, **values) -> None:
    """Render a template of `folder`, which may extend `page.html` of scripts/common/pages, and write it atomically."""
    blocks = {"trim_blocks": True, "lstrip_blocks": True, "undefined": StrictUndefined}
    environment = Environment(loader=FileSystemLoader([folder, PAGES]), autoescape=True, **blocks)
    write_text(path, environment.get_template(template).render(**values))


def thumbnail(path: Path, longest: int) -> str:
    """Return an image, reduced to this length of its longer side in pixels, as a JPEG in a `data:` URL."""
    from PIL import Image

    with Image.open(path) as image:
        small = image.convert("RGB")
    small.thumbnail((longest, longest))
    written = io.BytesIO()
    small.save(written, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(written.getvalue()).decode("ascii")


def image_names(folder: Path) -> dict[str, str]:
    """Return the raw file name of each image that records of a dataset's folder name, such as `images/<sha256>.png`.

    Empty for a folder without a manifest of images. Of several raw files with the same pixels it is the first.
    """
    manifest = folder / "images" / MANIFEST
    files = read_json(manifest)["files"] if manifest.is_file() else {}
    return {f"images/{file}": facts["origins"][0] for file, facts in files.items()}
