"""The text of a record that is compared for duplicates, without case and punctuation; many texts at once."""

import hashlib
import unicodedata
from collections.abc import Iterable
from itertools import accumulate

import numpy as np

from scripts.common.records import images_of, text_of
from scripts.dataset.canonical import value_of

SPACE, UNKNOWN, SEVERAL = 32, -1, -2  # entries of the table FOLD that are not letters


def raw_compared_text(row: dict, compare: str) -> str:
    """Return the text of a row (of `canonical`) to compare: its answer, or questions and answers.

    System messages don't count: a long one that all records share would make all records similar. For a record with
    spans only the text counts: a text annotated twice is a duplicate, and equal short answers such as `[]` are not.
    """
    if row["spans"] is not None:
        return text_of(value_of(row["messages"])[-2]["content"])
    if compare == "answer":
        return row["expected"]
    messages = value_of(row["messages"])
    return " ".join([f"{each['role']} {text_of(each['content'])}" for each in messages if each["role"] != "system"])


def images_in(row: dict) -> list[str]:
    """Return the images of a row (of `canonical`), in order."""
    return images_of(value_of(row["messages"])) if '"image"' in row["messages"] else []


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
    """Return texts (at least one) without case and punctuation; a text of punctuation only is returned unchanged."""
    codes = code_points([f"{text} " for text in texts])
    mapped = FOLD.take(codes)
    if mapped.min() < 0:
        for code in np.unique(codes[mapped == UNKNOWN]).tolist():
            FOLD[code] = fold_of(code)
        mapped = FOLD.take(codes)
        if (mapped == SEVERAL).any():
            # Folding twice changes nothing further, so the table may fold these again.
            return folded([text.casefold() for text in texts])
    # Of each run of spaces the first stays; each text ends with one, which is cut off below.
    stays = mapped != SPACE
    stays[1:] |= stays[:-1]
    starts = list(accumulate((len(text) + 1 for text in texts[:-1]), initial=0))
    left = np.add.reduceat(stays.view(np.uint8), starts, dtype=np.int32).tolist()
    joined, end, result = mapped[stays].tobytes().decode("utf-32-le", "surrogatepass"), 0, []
    for text, length in zip(texts, left, strict=True):
        result.append(joined[end : end + length - 1] if length else text)
        end += length
    return result
