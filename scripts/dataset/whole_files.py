"""Splits that come as files of their own, such as a validation file beside a training file."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from scripts.common.canonical import read_rows
from scripts.common.errors import UserError
from scripts.common.records import SPLITS


def files_of(whole: dict[str, list[str]]) -> dict[str, int]:
    """Return the split, as its place in `SPLITS`, of each file of `whole`.

    Origins have paths as `Path` writes them: `./test.jsonl` is `test.jsonl` there, and so it is here.
    """
    return {str(Path(file)): SPLITS.index(name) for name, names in whole.items() for file in names}


def check_named_once(whole: dict[str, list[str]], origins: Iterable[str]) -> None:
    """Raise UserError when a file of `whole` is named for another split too, or under 'files'.

    `origins` is `file:line` of every record that was read, in the order of reading: a file that is read again begins
    anew.
    """
    remedy = "name it under one of 'files', 'validation_files' and 'test_files' only; mind globs, which may cover it"
    named: dict[str, str] = {}
    for name, files in whole.items():
        for file in files:
            other = named.setdefault(str(Path(file)), name)
            if other != name:
                raise UserError(f"is named under '{other}_files' and under '{name}_files'", file, remedy=remedy)
    done: set[str] = set()
    last, last_line = "", 0
    for origin in origins:
        file, _, line = origin.rpartition(":")
        if file in named and (file in done or (file == last and int(line) < last_line)):
            raise UserError(f"is named under '{named[file]}_files' and once more", file, remedy=remedy)
        if file != last:
            done.add(last)
        last, last_line = file, int(line)


def repeats(ingested: Path, firsts: dict[int, int], whole: dict[str, list[str]]) -> int:
    """Return how many removed records, none of them in a file of `whole`, repeat a record of one.

    `firsts` maps the number of each removed record in `ingested` to that of the record that stays.
    """
    files = files_of(whole)
    held_out = [row["origin"].rpartition(":")[0] in files for row in read_rows(ingested, ("origin",))]
    return sum(held_out[first] and not held_out[number] for number, first in firsts.items())


def with_whole_files(split: np.ndarray, origins: Iterable[str], whole: dict[str, list[str]]) -> np.ndarray:
    """Return the split of each record when some splits are whole files; `split` is what the hash drew, shape (n,).

    A record of such a file is in its split. Of the other records none is: those that the hash drew for it are trained
    on. `origins` is `file:line` of each record, `whole` maps splits to their files.
    """
    files = files_of(whole)
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


def check_whole(split: np.ndarray, shares: dict, whole: dict[str, list[str]], repeated: Callable[[], int]) -> None:
    """Raise UserError when a split that has files or a share has no record.

    `repeated` counts the records of other files that were removed because they repeat a record of a file of `whole`.
    """
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
        if shares[name] > 0 and name == "train":
            removed = repeated()
            held_out = " and ".join(f"'{other}_files'" for other in whole)
            why = f": {removed} records of 'files' repeat records of {held_out} and were removed" if removed else ""
            raise UserError(f"the split 'train' is empty{why}", remedy="add other records to 'files'")
        if shares[name] > 0:
            raise UserError(
                f"the split '{name}' (share {shares[name]:g}) is empty", remedy=f"add records, or '{name}_files'"
            )
