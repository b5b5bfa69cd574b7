"""Splits given as separate files, such as a validation file in addition to a training file."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from scripts.common.errors import UserError
from scripts.common.records import SPLITS


def with_whole_files(split: np.ndarray, origins: Iterable[str], whole: dict[str, list[str]]) -> np.ndarray:
    """Return the split of each record if some splits are whole files; `split` is the split by hash, shape (n,).

    Such a split holds exactly the records of its files; others that the hash assigns to it go to train. `origins` is
    `file:line` of each record, `whole` maps splits to their files.
    """
    # Paths are normalised, as in origins: `./test.jsonl` becomes `test.jsonl`.
    files = {str(Path(file)): SPLITS.index(name) for name, names in whole.items() for file in names}
    taken, train = {SPLITS.index(name) for name in whole}, SPLITS.index("train")
    result = split.copy()
    for number, origin in enumerate(origins):
        file = origin.rpartition(":")[0]
        result[number] = files.get(file, train if split[number] in taken else split[number])
    return result


def check_whole_groups(split: np.ndarray, keys: np.ndarray, origins: Iterable[str]) -> None:
    """Raise UserError if the files put records with the same key (`splits.key_of`) into different splits."""
    first: dict[int, tuple[int, str]] = {}
    for key, number, origin in zip(keys.tolist(), split.tolist(), origins, strict=True):
        other, place = first.setdefault(key, (number, origin))
        if other != number:
            raise UserError(
                f"{place} ({SPLITS[other]}) and {origin} ({SPLITS[number]}) have the same group, images or text: a "
                "model would be tested on what it was trained on",
                remedy="move one of them to the other's file, or remove it",
            )


def check_whole(split: np.ndarray, shares: dict, whole: dict[str, list[str]]) -> None:
    """Raise UserError if a split with files or a share has no record."""
    counts = np.bincount(split, minlength=len(SPLITS))
    for number, name in enumerate(SPLITS):
        if counts[number] or (name not in whole and not shares[name]):
            continue
        if name == "train" or name in whole:
            key = "files" if name == "train" else f"{name}_files"
            remedy = f"add records to '{key}': bad records, and those that repeat a record of any file, are left out"
        else:
            remedy = f"enlarge splits.{name}, add records to 'files', or give '{name}_files'"
        raise UserError(f"no record is left for the split '{name}'", remedy=remedy)
