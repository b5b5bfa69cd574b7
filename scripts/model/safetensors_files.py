"""Check safetensors files by their headers, and their index: it may name only files of the folder."""

import math
from pathlib import Path, PurePath

from scripts.common.errors import UserError
from scripts.common.files import read_json
from scripts.model.model_files import WEIGHTS, is_taken

INDEX = "*.safetensors.index.json"


def count_parameters(path: Path) -> int:
    """Return the number of values in a safetensors file, read from its header. Raises UserError for an invalid file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"is not a valid safetensors file: {error}", path) from None


def weight_files(folder: Path) -> dict[str, Path]:
    """Map each tensor of a model folder to its file."""
    from safetensors import safe_open

    found = {}
    for path in sorted(folder.glob(WEIGHTS)):
        with safe_open(path, framework="pt") as file:
            found |= dict.fromkeys(file.keys(), path)
    return found


def check_index(folder: Path) -> None:
    """Raise UserError for an index that names anything but safetensors files of the folder."""
    for path in sorted(path for path in folder.glob(INDEX) if is_taken(path.name, with_code=False)):
        named = read_json(path).get("weight_map", {})
        for name in set(named.values()) if isinstance(named, dict) else {path}:
            plain = isinstance(name, str) and name.endswith(".safetensors") and PurePath(name).name == name
            if not plain or not (folder / name).is_file():
                raise UserError(f"names {str(name)[:80]!r}, which is not a safetensors file of the folder", path)
