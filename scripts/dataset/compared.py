"""The text of a record that is compared for duplicates, without case and punctuation; many texts at once."""

import hashlib
import json
import unicodedata
from collections.abc import Iterable

import numpy as np

from scripts.common.records import images_of, text_of

SPACE, UNKNOWN, SEVERAL = 32, -1, -2  # entries of the table FOLD that are not letters


def raw_compared_text(row: dict, compare: str) -> str:
    """Return the text of a row (of `canonical`) to compare: its answer, or questions and answers.

    System messages don't count: a long one that all records share would make all records similar. For a record with
    spans only the text counts: a text annotated twice is a duplicate, and equal short answers such as `[]` are not.
    """
    if row["spans"] is not None:
        return text_of(json.loads(row["messages"])[-2]["content"])
    if compare == "answer":
        return row["expected"]
    messages = [message for message in json.loads(row["messages"]) if message["role"] != "system"]
    return " ".join(f"{message['role']} {text_of(message['content'])}" for message in messages)


def images_in(row: dict) -> list[str]:
    """Return the images of a row (of `canonical`), in order."""
    return images_of(json.loads(row["messages"])) if '"image"' in row["messages"] else []


def number_of(images: Iterable[str]) -> int:
    """Return a 64-bit hash of image names; 0 if there are none."""
    names = "\n".join(images)
    return int.from_bytes(hashlib.blake2b(names.encode("utf-8"), digest_size=8).digest(), "big") if names else 0


# For each code point the one that it becomes; filled in when a code point is first seen.
FOLD = np.full(0x110000, UNKNOWN, np.int32)


def fold_of(code: int) -> int:
    """Return what a code point becomes: its lower case, or a space for punctuation, white space and control characters.

    SEVERAL: it becomes more than one character (such as `ß`).
    """
    character = chr(code).casefold()
    if len(character) > 1:
        return SEVERAL
    return SPACE if unicodedata.category(character)[0] in "PZC" else ord(character)


def code_points(texts: list[str]) -> np.ndarray:
    """Return the code points of all texts, one after the other: int32. Halves of surrogate pairs are kept."""
    return np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.int32)


def folded(texts: list[str]) -> list[str]:
    """Return texts without case and punctuation; a text of punctuation only is returned unchanged."""
    codes = code_points([f"{text} " for text in texts])
    mapped = FOLD[codes]
    if (mapped < 0).any():
        for code in np.unique(codes[mapped == UNKNOWN]).tolist():
            FOLD[code] = fold_of(code)
        mapped = FOLD[codes]
        if (mapped == SEVERAL).any():
            # Folding twice changes nothing further, so the table may fold these again.
            return folded([text.casefold() for text in texts])
    # Of each run of spaces the first stays; each text ends with one, which is cut off below.
    stays = mapped != SPACE
    stays[1:] |= stays[:-1]
    ends = np.cumsum([len(text) + 1 for text in texts])
    left = np.cumsum(stays)[ends - 1].tolist() if texts else []
    joined = mapped[stays].tobytes().decode("utf-32-le", "surrogatepass")
    starts = [0, *left[:-1]]
    return [joined[start : max(start, end - 1)] or text for start, end, text in zip(starts, left, texts, strict=True)]
