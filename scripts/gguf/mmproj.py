"""What the header of an mmproj file says of images; needs nothing but the file."""

from pathlib import Path

from scripts.common.errors import UserError
from scripts.gguf.reader import read_gguf

LONGEST_EDGE = "clip.vision.preproc_image_size"  # where llama.cpp's other image processors have it
PATCH, MERGE = "clip.vision.patch_size", "clip.vision.spatial_merge_size"


def image_limits(mmproj: Path | str, longest_edge: int | None = None) -> tuple[int, int, int]:
    """Return longest edge of images and edge of a patch, in pixels, and how many patches a token has in a row, by an
    mmproj file; `longest_edge` may lower the file's own.

    Raises UserError for a file that does not say.
    """
    values = read_gguf(mmproj).values
    missing = [key for key in (LONGEST_EDGE, PATCH, MERGE) if key not in values]
    if missing:
        raise UserError(f"has no {missing[0]}", mmproj, remedy="make it with scripts/gguf/convert_mmproj.py")
    return min(values[LONGEST_EDGE], longest_edge or values[LONGEST_EDGE]), values[PATCH], values[MERGE]
