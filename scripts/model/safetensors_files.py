"""Check safetensors files by their headers, and their index: it may name only files of the folder."""

import json
import math
import struct
from pathlib import Path, PurePath
from typing import NamedTuple

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


class Entry(NamedTuple):
    """One tensor of a file: number format as in the header, shape, and its bytes [start, end) in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_entries(path: Path) -> tuple[dict[str, Entry], dict]:
    """Return the tensors of a safetensors file by name, in the order of their bytes, and the file's metadata.

    Layout: https://huggingface.co/docs/safetensors: the length of the header in 8 bytes, the header as JSON, the data.
    Raises UserError for an invalid file.
    """
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > path.stat().st_size:
                raise ValueError(f"the header has {length} bytes")
            header = json.loads(file.read(length))
        metadata = header.pop("__metadata__", {})
        found = [
            (name, Entry(one["dtype"], tuple(one["shape"]), *(8 + length + place for place in one["data_offsets"])))
            for name, one in header.items()
        ]
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise UserError(f"is not a valid safetensors file: {error}", path) from None
    return dict(sorted(found, key=lambda pair: pair[1].start)), metadata


def weight_files(folder: Path) -> dict[str, Path]:
    """Map each tensor of a model folder to its file."""
    found = {}
    for path in sorted(folder.glob(WEIGHTS)):
        found |= dict.fromkeys(read_entries(path)[0], path)
    return found


def check_index(folder: Path) -> None:
    """Raise UserError for an index that names anything but safetensors files of the folder."""
    for path in sorted(path for path in folder.glob(INDEX) if is_taken(path.name, with_code=False)):
        named = read_json(path).get("weight_map", {})
        for name in set(named.values()) if isinstance(named, dict) else {path}:
            plain = isinstance(name, str) and name.endswith(".safetensors") and PurePath(name).name == name
            if not plain or not (folder / name).is_file():
                raise UserError(f"names {str(name)[:80]!r}, which is not a safetensors file of the folder", path)
