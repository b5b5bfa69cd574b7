"""Splits given as separate files, such as a validation file in addition to a training file."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from scripts.common.errors import UserError
from scripts.common.records import SPLITS
from scripts.dataset.canonical import read_rows


def files_of(whole: dict[str, list[str]]) -> dict[str, int]:
    """Return the split of each file of `whole`, as an index into `SPLITS`.

    Paths are normalised by `Path`, as in origins: `./test.jsonl` becomes `test.jsonl`.
    """
    return {str(Path(file)): SPLITS.index(name) for name, names in whole.items() for file in names}


def check_named_once(whole: dict[str, list[str]], origins: Iterable[str]) -> None:
    """Raise UserError if a file of `whole` is also named for another split or under 'files'.

    `origins` is `file:line` of every record in the order of reading; line numbers restart when a file is read again.
    """
    remedy = "name it under one of 'files', 'validation_files' and 'test_files' only; check whether a glob matches it"
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
            raise UserError(f"is named under '{named[file]}_files' and a second time", file, remedy=remedy)
        if file != last:
            done.add(last)
        last, last_line = file, int(line)


def repeats(ingested: Path, firsts: dict[int, int], whole: dict[str, list[str]]) -> int:
    """Return the number of removed records outside the files of `whole` that repeat a record in such a file.

    `firsts` maps the number of each removed record in `ingested` to that of the kept record.
    """
    files = files_of(whole)
    held_out = [row["origin"].rpartition(":")[0] in files for row in read_rows(ingested, ("origin",))]
    return sum(held_out[first] and not held_out[number] for number, first in firsts.items())


def with_whole_files(split: np.ndarray, origins: Iterable[str], whole: dict[str, list[str]]) -> np.ndarray:
    """Return the split of each record if some splits are whole files; `split` is the split by hash, shape (n,).

    Such a split holds exactly the records of its files. Other records that the hash assigns to it go to train.
    `origins` is `file:line` of each record, `whole` maps splits to their files.
    """
    files = files_of(whole)
    taken, train = {SPLITS.index(name) for name in whole}, SPLITS.index("train")
    result = split.copy()
    for number, origin in enumerate(origins):
        file = origin.rpartition(":")[0]
        result[number] = files.get(file, train if split[number] in taken else split[number])
    return result


def check_whole_groups(split: np.ndarray, keys: np.ndarray, origins: Iterable[str]) -> None:
    """Raise UserError if the files put records with the same key (`splits.key_of`) into different splits.

    `split` and `keys`: one entry per record; `origins` is `file:line` of each.
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
        remedy="move one of them to the other's file, or remove it",
    )


def check_whole(split: np.ndarray, shares: dict, whole: dict[str, list[str]], repeated: Callable[[], int]) -> None:
    """Raise UserError if a split with files or a share has no record.

    `repeated` is the number of records of other files that were removed as duplicates of records in files of `whole`.
    """
    counts = np.bincount(split, minlength=len(SPLITS))
    for number, name in enumerate(SPLITS):
        if counts[number]:
            continue
        if name in whole:
            raise UserError(
                f"no record is left for the split '{name}'",
                whole[name][0],
                remedy="its records are bad or duplicates: see the reasons in the ledger",
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
