"""Read the image limits from the header of an mmproj file."""

from pathlib import Path

from scripts.common.errors import UserError
from scripts.gguf.reader import read_gguf

LONGEST_EDGE = "clip.vision.preproc_image_size"  # the key of llama.cpp's other image processors
PATCH, MERGE = "clip.vision.patch_size", "clip.vision.spatial_merge_size"


def image_limits(mmproj: Path | str, longest_edge: int | None = None) -> tuple[int, int, int]:
    """Return the longest edge of images and the edge of a patch, in pixels, and the patches per token along an edge.

    `longest_edge` may lower the file's value. Raises UserError if the file lacks a value.
    """
    values = read_gguf(mmproj).values
    missing = [key for key in (LONGEST_EDGE, PATCH, MERGE) if key not in values]
    if missing:
        raise UserError(f"has no {missing[0]}", mmproj, remedy="make it with scripts/gguf/convert_mmproj.py")
    return min(values[LONGEST_EDGE], longest_edge or values[LONGEST_EDGE]), values[PATCH], values[MERGE]
