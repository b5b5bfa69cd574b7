"""Change the metadata of a GGUF file.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import struct

from scripts.gguf.reader import ARCHITECTURE, ARRAY, BOOL, FLOAT32, INT32, MAGIC, TEXT, UINT32, GgufFile


class Int32(int):
    """A signed integer for keys that require it; other integers are written unsigned."""


Value = bool | int | float | str | list[str]


def encoded_text(text: str) -> bytes:
    """Encode a text for GGUF: its length in bytes, then UTF-8."""
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def encoded_value(value: Value) -> bytes:
    """Encode a value for GGUF: its type, then its bytes."""
    if isinstance(value, bool):
        return struct.pack("<I?", BOOL, value)
    if isinstance(value, Int32):
        return struct.pack("<Ii", INT32, value)
    if isinstance(value, int):
        return struct.pack("<II", UINT32, value)
    if isinstance(value, float):
        return struct.pack("<If", FLOAT32, value)
    if isinstance(value, str):
        return struct.pack("<I", TEXT) + encoded_text(value)
    return struct.pack("<IIQ", ARRAY, TEXT, len(value)) + b"".join(encoded_text(text) for text in value)


def changed_head(head: bytes, header: GgufFile, changes: dict[str, Value | None]) -> bytes:
    """Return a file's header with some entries changed, added, or removed (None), padded to the file's alignment.

    `head` has the bytes before the tensors' data, or more. Changed entries follow the architecture, in the given order;
    the others keep their order.
    """
    kept = {key: head[start:end] for key, (start, end) in header.places.items() if key not in changes}
    new = {key: encoded_text(key) + encoded_value(value) for key, value in changes.items() if value is not None}
    first = [entries.pop(ARCHITECTURE) for entries in (new, kept) if ARCHITECTURE in entries]
    entries = [*first, *new.values(), *kept.values()]
    start, end = header.tensor_place
    counts = struct.pack("<IQQ", header.version, len(header.tensors), len(entries))
    changed = MAGIC + counts + b"".join(entries) + head[start:end]
    return changed + b"\0" * (-len(changed) % header.alignment)
