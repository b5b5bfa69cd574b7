"""Check safetensors files by their headers, and their index: it may name only files of the folder.

Source: the safetensors format (8 bytes of little-endian header size, then JSON).
"""

import json
import math
from pathlib import Path, PurePath

from scripts.common.errors import UserError
from scripts.common.files import read_json
from scripts.model.model_files import is_taken

LONGEST_HEADER = 100_000_000  # bytes, the library's limit
INDEX = "*.safetensors.index.json"
WORD_BITS = {
    "F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16, "U16": 16,
    "I8": 8, "U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "C64": 64,
}  # fmt: skip


def read_safetensors_header(path: Path) -> dict[str, dict]:
    """Return the checked entry of each tensor of a file. Raises UserError if the file is invalid or truncated."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(size - 8, LONGEST_HEADER):
            raise no_safetensors(path, "its header is longer than the file")
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError):
            raise no_safetensors(path, "its header is not JSON") from None
    if not isinstance(header, dict):
        raise no_safetensors(path, "its header is not an object")
    header.pop("__metadata__", None)
    for name, entry in header.items():
        if not is_sound(entry, size - 8 - length):
            raise no_safetensors(path, f"tensor {name[:80]!r} has an invalid shape, type or offset")
    return header


def is_sound(entry: object, size: int) -> bool:
    """Return whether a tensor's entry is consistent and within a file with `size` bytes of data."""
    if not isinstance(entry, dict) or entry.get("dtype") not in WORD_BITS:
        return False
    shape, place = entry.get("shape"), entry.get("data_offsets")
    numbers = [*shape, *place] if isinstance(shape, list) and isinstance(place, list) and len(place) == 2 else [-1]
    if not all(type(number) is int and 0 <= number < 2**63 for number in numbers):
        return False
    start, end = place
    return start <= end <= size and (end - start) * 8 == math.prod(shape) * WORD_BITS[entry["dtype"]]


def no_safetensors(path: Path, what: str) -> UserError:
    """Return the error for an invalid safetensors file."""
    return UserError(f"is not a valid safetensors file: {what}", path)


def count_parameters(path: Path) -> int:
    """Return the number of values in a safetensors file, read from its header. Raises UserError for an invalid file."""
    return sum(math.prod(entry["shape"]) for entry in read_safetensors_header(path).values())


def check_index(folder: Path) -> None:
    """Raise UserError for an index that names anything but safetensors files of the folder."""
    for path in sorted(path for path in folder.glob(INDEX) if is_taken(path.name, with_code=False)):
        named = read_json(path).get("weight_map", {})
        for name in set(named.values()) if isinstance(named, dict) else {path}:
            plain = isinstance(name, str) and name.endswith(".safetensors") and PurePath(name).name == name
            if not plain or not (folder / name).is_file():
                raise UserError(f"names {str(name)[:80]!r}, which is not a safetensors file of the folder", path)
