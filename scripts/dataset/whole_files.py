"""Splits that come as files of their own, such as a validation file beside a training file."""

from collections.abc import Iterable

import numpy as np

from scripts.common.errors import UserError
from scripts.common.records import SPLITS


def with_whole_files(split: np.ndarray, origins: Iterable[str], whole: dict[str, list[str]]) -> np.ndarray:
    """Return the split of each record when some splits are whole files; `split` is what the hash drew, shape (n,).

    A record of such a file is in its split. Of the other records none is: those that the hash drew for it are trained
    on. `origins` is `file:line` of each record, `whole` maps splits to their files.
    """
    files = {file: SPLITS.index(name) for name, names in whole.items() for file in names}
    taken, train = {SPLITS.index(name) for name in whole}, SPLITS.index("train")
    result = split.copy()
    for number, origin in enumerate(origins):
        file = origin.rpartition(":")[0]
        result[number] = files.get(file, train if split[number] in taken else split[number])
    return result


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
