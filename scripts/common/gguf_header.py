"""The head of a GGUF file, checked in Python before native code is given the file.

llama.cpp checks much of a file, but not all: it ends the process where metadata have a value that it did not expect,
and reads beyond its memory where shapes and sizes contradict each other. Whoever opens a GGUF file calls this first.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

from scripts.common.errors import UserError
from scripts.common.gguf_layout import Cursor, Header, header_of
from scripts.common.gguf_model import model_faults
from scripts.common.gguf_projector import projector_faults
from scripts.common.gguf_vocabulary import vocabulary_faults

ARCHITECTURE, PROJECTOR = "general.architecture", "clip"


def read_header(path: Path | str) -> Header:
    """Read and check a GGUF file's head: layout, metadata, vocabulary, and the tensors' shapes and places.

    Raises UserError for a file that is missing, cut off, no GGUF, or that contradicts itself.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError("is missing", path)
    if not path.stat().st_size:
        raise UserError("is no GGUF file: it is empty", path)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
        return checked_header(buffer, path)


def checked_header(buffer: bytes | mmap.mmap, path: Path | str) -> Header:
    """Return the checked head of a file whose content is given; `path` is for messages.

    Raises UserError as `read_header` does.
    """
    cursor = Cursor(buffer, path)
    header = header_of(cursor)
    if fault := next(faults(header, cursor), None):
        raise cursor.fault(fault)
    return header


def faults(header: Header, cursor: Cursor) -> Iterator[str]:
    """Yield what is wrong with a file whose layout is sound; only the first is sure to be right."""
    architecture = header.values.get(ARCHITECTURE)
    if not isinstance(architecture, str):
        yield f"it has no {ARCHITECTURE}"
    if header.values.get("split.count", 0) not in (0, 1):
        yield "it is one part of several, and llama.cpp would open the others unchecked: join them first"
    if architecture == PROJECTOR:
        yield from projector_faults(header, cursor)
    else:
        yield from vocabulary_faults(header, cursor)
        yield from model_faults(header, architecture)
