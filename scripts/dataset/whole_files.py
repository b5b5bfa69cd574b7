"""Splits that come as files of their own, such as a validation file beside a training file."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from scripts.common.errors import UserError
from scripts.common.records import SPLITS


def with_whole_files(split: np.ndarray, origins: Iterable[str], whole: dict[str, list[str]]) -> np.ndarray:
    """Return the split of each record when some splits are whole files; `split` is what the hash drew, shape (n,).

    A record of such a file is in its split. Of the other records none is: those that the hash drew for it are trained
    on. `origins` is `file:line` of each record, `whole` maps splits to their files.
    """
    # Origins have paths as `Path` writes them: `./test.jsonl` is `test.jsonl` there.
    files = {str(Path(file)): SPLITS.index(name) for name, names in whole.items() for file in names}
    taken, train = {SPLITS.index(name) for name in whole}, SPLITS.index("train")
    result = split.copy()
    for number, origin in enumerate(origins):
        file = origin.rpartition(":")[0]
        result[number] = files.get(file, train if split[number] in taken else split[number])
    return result


def check_whole_groups(split: np.ndarray, keys: np.ndarray, origins: Iterable[str]) -> None:
    """Raise UserError when records that belong together (`splits.key_of`) are in different splits, as their files say.

    `split` and `keys`: one entry a record; `origins` is `file:line` of each.
    """
    order = np.lexsort((split, keys))
    apart = (keys[order][1:] == keys[order][:-1]) & (split[order][1:] != split[order][:-1])
    if not apart.any():
        return
    place = int(np.argmax(apart))
    first, second = order[place], order[place + 1]
    named = {number: origin for number, origin in enumerate(origins) if number in (first, second)}
    raise UserError(
        f"{named[first]} ({SPLITS[split[first]]}) and {named[second]} ({SPLITS[split[second]]}) have the same group, "
        "images or text: a model would be tested on what it was trained on",
        remedy="move one of them to the other's file, or drop it",
    )


def check_whole(split: np.ndarray, shares: dict, whole: dict[str, list[str]]) -> None:
    """Raise UserError when a split that has files or a share has no record."""
    counts = np.bincount(split, minlength=len(SPLITS))
    for number, name in enumerate(SPLITS):
        if counts[number]:
            continue
        if name in whole:
            raise UserError(
                f"none of its records is left for the split '{name}'",
                whole[name][0],
                remedy="they are bad records or duplicates: see the ledger's reasons",
            )
        if shares[name] > 0:
            raise UserError(
                f"the split '{name}' (share {shares[name]:g}) is empty", remedy=f"add records, or '{name}_files'"
            )
