"""The title of a page, read from its picture by the bundle of config/recipes/titles.yaml. Needs Pillow."""

import base64
import io
import os
import re
from pathlib import Path

from bundle_client import ask
from PIL import Image, ImageOps

BUNDLE = os.environ.get("BUNDLE", "results/titles/runs/titles/bundle")


def title(image, question="What is the title of this document?", bundle=BUNDLE, **options):
    """Return the title of the page in an image (a path or an open file).

    The question for French pages is "Quel est le titre de ce document ?". The image is made upright, with white behind
    transparent parts, and scaled as in training, so that the server keeps its size. `options` are those of `ask`.
    """
    program = Path(bundle, "example_llama_cpp.py").read_text(encoding="utf-8")
    edge, cell = (int(re.search(rf"(?m)^{name} = (\d+)$", program)[1]) for name in ("LONGEST_EDGE", "CELL"))
    with Image.open(image) as file:
        upright = ImageOps.exif_transpose(file).convert("RGBA")
    page = Image.new("RGBA", upright.size, "white")
    page.alpha_composite(upright)
    ratio = max(max(page.size) / edge, 1)
    size = [-(-int(length / ratio) // cell) * cell for length in page.size]
    data = io.BytesIO()
    page.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(data, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question}]
    return ask(bundle, parts, **options)
