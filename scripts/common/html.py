"""Render small self-contained HTML pages: ledgers and reports. Jinja's autoescape escapes all data."""

import base64
import io
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from scripts.common.files import MANIFEST, read_json, write_text

PAGES = Path(__file__).parent / "pages"
QUALITY = 80  # of a thumbnail's JPEG
TABLE = re.compile(r"<thead>(?P<head>.*?)</thead>.*?</table>", re.DOTALL)
TITLE = re.compile(r"<th\b[^>]*>(.*?)</th>", re.DOTALL)
ROW = re.compile(r"<tr\b[^>]*>.*?</tr>", re.DOTALL)
CELL = re.compile(r"<t[dh]\b(?! colspan)")


def write_page(path: Path | str, template: str, folder: Path, **values) -> None:
    """Render a template of `folder`, which may extend `page.html` of scripts/common/pages, and write it atomically."""
    blocks = {"trim_blocks": True, "lstrip_blocks": True, "undefined": StrictUndefined}
    environment = Environment(loader=FileSystemLoader([folder, PAGES]), autoescape=True, **blocks)
    write_text(path, with_labels(environment.get_template(template).render(**values)))


def with_labels(page: str) -> str:
    """Give each cell of a table with a head the title of its column as `data-label`.

    On a phone, where each row is a card, page.html shows the title above the value.
    """

    def table(found: re.Match) -> str:
        titles = [" ".join(re.sub(r"<[^>]*>", " ", title).split()) for title in TITLE.findall(found["head"])]

        def row(found: re.Match) -> str:
            labels = iter(titles)
            return CELL.sub(lambda cell: labelled(cell.group(), next(labels, "")), found.group())

        head = len(found["head"]) + len("<thead></thead>")
        return found.group()[:head] + ROW.sub(row, found.group()[head:])

    def labelled(cell: str, title: str) -> str:
        return f'{cell} data-label="{title}"' if title else cell

    return TABLE.sub(table, page)


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
