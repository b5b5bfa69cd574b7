"""Remove duplicates, split by hash, and augment the training split.

python scripts/dataset/split_records.py ingested.parquet --settings @settings.json --counts ingest.json
    --records records.parquet --train train.jsonl --validation validation.jsonl --test test.jsonl
    --duplicates duplicates.jsonl --facts split.json
"""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scripts.common.cli import step_main, step_parser
from scripts.common.errors import UserError
from scripts.common.files import read_json, write_json
from scripts.common.records import SPLITS
from scripts.dataset.canonical import batches_of, rows_of, value_of
from scripts.dataset.compare_texts import ComparedTexts, split_key
from scripts.dataset.deduplicate import distinct, exact_duplicates
from scripts.dataset.split_files import REMOVED, write_splits
from scripts.dataset.splits import check_not_empty, share_tolerance, split_numbers
from scripts.dataset.stratification import LabelsOf, stratification
from scripts.dataset.whole_files import check_whole, check_whole_groups, with_whole_files

if TYPE_CHECKING:
    from pyarrow import Array, RecordBatch

NO_LABELS: frozenset[str] = frozenset()
SEED_SEARCH = 20_000  # largest number of records for which a better seed is searched; more give close shares anyway


def duplicates_of(texts: ComparedTexts, settings: dict) -> dict[int, tuple[int, str, float]]:
    """Return the rows to remove: number to (number of the kept row, `exact` or `near`, similarity)."""
    exact = exact_duplicates(texts.ids) if settings["exact"] else {}
    found = {number: (first, "exact", 1.0) for number, first in exact.items()}
    if settings["near"]:
        others = np.delete(np.arange(len(texts.ids)), list(exact))
        near = texts.search().find(others)
        found |= {number: (first, "near", similarity) for number, (first, similarity) in near.items()}
    # An exact copy of a near duplicate points to the kept record.
    return {n: found.get(found[n][0], found[n]) for n in sorted(found)}


def splits_of_corrected(corrected: list[dict], settings: dict) -> list[str]:
    """Return the split of each corrected record, or in which a dropped one would be."""
    shares, compare = settings["splits"], settings["deduplicate"]["compare"]
    keys = np.array([split_key(entry["row"], compare) for entry in corrected], np.uint64)
    origins = [entry["origin"] for entry in corrected]
    split = with_whole_files(split_numbers(keys, shares, shares["seed"]), origins, whole_files(settings))
    return [SPLITS[number] for number in split]


def numbers_of(column: "Array", known: dict, name: Callable = lambda value: value) -> np.ndarray:
    """Number a column's values, null included: those with the same name get the same number, kept in `known`."""
    from pyarrow import compute

    encoded = compute.dictionary_encode(column, null_encoding="encode")
    numbers = [known.setdefault(name(value), len(known)) for value in encoded.dictionary.to_pylist()]
    return np.array(numbers, np.int32)[encoded.indices.to_numpy()]


def span_labels(spans: str | None) -> frozenset[str]:
    """Return the labels of a record's spans."""
    return frozenset(label for _, _, label in value_of(spans)) if spans else NO_LABELS


class Kept:
    """The kept rows: their numbers, and of each the key, the label and the set of span labels as numbers.

    A corrected record has the key of the original row, so that a correction moves no record to another split.
    """

    def __init__(self, ingested: Path, removed: dict, keys: np.ndarray, compare: str, corrected: list[dict]):
        self.ingested = ingested
        self.numbers = np.delete(np.arange(len(keys)), list(removed))
        self.keys = keys[self.numbers]
        originals = {(entry["origin"], entry["became"]): entry["row"] for entry in corrected}
        columns = ("label", "spans", *(("origin", "id") if originals else ()))
        labels, sets, place = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)], 0
        self.label_numbers: dict[str | None, int] = {}
        self.set_numbers: dict[frozenset[str], int] = {}
        for batch in self.batches(columns):
            if originals:
                for found in batch.select(["origin", "id"]).to_pylist():
                    if original := originals.get((found["origin"], found["id"])):
                        self.keys[place] = split_key(original, compare)
                    place += 1
            labels.append(numbers_of(batch["label"], self.label_numbers))
            sets.append(numbers_of(batch["spans"], self.set_numbers, span_labels))
        self.labels, self.span_sets = np.concatenate(labels), np.concatenate(sets)

    def span_members(self) -> np.ndarray:
        """Return which span labels, in alphabetical order, are in which set: shape (labels, sets)."""
        names = sorted(frozenset().union(*self.set_numbers))
        members = [[name in found for found in self.set_numbers] for name in names]
        return np.array(members, bool).reshape(len(names), len(self.set_numbers))

    def batches(self, columns: tuple[str, ...]) -> Iterator["RecordBatch"]:
        return batches_of(self.ingested, self.numbers, columns)

    def rows(self, columns: tuple[str, ...]) -> Iterator[dict]:
        return rows_of(self.ingested, self.numbers, columns)


def check_apart(texts: ComparedTexts, kept: Kept, split: np.ndarray) -> None:
    """Raise UserError if near duplicates are in different splits: a model would be tested on training data."""
    of_all = np.zeros(len(texts.ids), np.int8)
    of_all[kept.numbers] = split
    pair = texts.search().first_across(kept.numbers, of_all)
    if pair is None:
        return
    *numbers, similarity = pair
    first, second = (np.searchsorted(kept.numbers, number) for number in numbers)
    origins = [row["origin"] for row in kept.rows(("origin",))]
    other = ", or set deduplicate.compare to conversation" if texts.settings["compare"] == "answer" else ""
    raise UserError(
        f"{origins[first]} ({SPLITS[split[first]]}) and {origins[second]} ({SPLITS[split[second]]}) are near "
        f"duplicates in different splits (similarity {similarity:.2f})",
        remedy=f"set deduplicate.near to true, or put them in one group with group_by{other}",
    )


def split_facts(kept: Kept, split: np.ndarray, settings: dict) -> dict:
    """Return the wanted and achieved shares, and a seed that would come closer."""
    shares, seed = settings["splits"], settings["splits"]["seed"]
    total = max(len(split), 1)
    records = np.bincount(split, minlength=len(SPLITS)).tolist()
    drawn = not any(settings["whole_files"].values())
    tolerance = share_tolerance(kept.keys)
    facts = {
        "seed": seed,
        "share_tolerance": round(tolerance, 6) if drawn else None,
        "shares": [
            {
                "split": name,
                "wanted": shares[name],
                "achieved": round(records[number] / total, 6),
                "records": records[number],
                "groups": len(distinct(kept.keys[split == number])),
                "off": drawn and abs(records[number] / total - shares[name]) > tolerance,
            }
            for number, name in enumerate(SPLITS)
        ],
        "stratification": None,
    }
    if settings["stratify"] and drawn and len(split) <= SEED_SEARCH:
        labels = LabelsOf(kept.labels, len(kept.label_numbers), kept.span_sets, kept.span_members())
        facts["stratification"] = stratification(kept.keys, labels, split, shares)
    return facts


def whole_files(settings: dict) -> dict[str, list[str]]:
    """Return the files of the splits that come as files."""
    return {name: files for name, files in settings["whole_files"].items() if files}


def splits_without_duplicates(
    arguments: argparse.Namespace, corrected: list[dict], folder: Path
) -> tuple[dict[int, tuple[int, str, float]], Kept, np.ndarray]:
    """Return the rows to remove (see `duplicates_of`), the kept rows, and the split of each of them."""
    settings = arguments.settings
    shares, compare = settings["splits"], settings["deduplicate"]["compare"]
    texts = ComparedTexts(arguments.ingested, settings["deduplicate"], folder, arguments.threads)
    found = duplicates_of(texts, settings["deduplicate"])
    kept = Kept(arguments.ingested, found, texts.keys, compare, corrected)
    split = split_numbers(kept.keys, shares, shares["seed"])
    whole = whole_files(settings)
    if whole:
        split = with_whole_files(split, (row["origin"] for row in kept.rows(("origin",))), whole)
        check_whole(split, shares, whole)
        check_whole_groups(split, kept.keys, (row["origin"] for row in kept.rows(("origin",))))
    else:
        check_not_empty(split, kept.keys, shares)
    if not settings["deduplicate"]["near"]:  # otherwise they are removed
        check_apart(texts, kept, split)
    return found, kept, split


def step(arguments: argparse.Namespace) -> None:
    """Deduplicate, split, check and augment."""
    settings = arguments.settings
    corrected = read_json(arguments.counts)["corrected"]
    with tempfile.TemporaryDirectory(prefix="snaketune-") as folder:
        found, kept, split = splits_without_duplicates(arguments, corrected, Path(folder))
    facts = split_facts(kept, split, settings)
    of_all = np.full(len(found) + len(split), REMOVED, np.int8)
    of_all[kept.numbers] = split
    files = {name: getattr(arguments, name) for name in (*SPLITS, "records", "duplicates")}
    augmented = write_splits(arguments.ingested, of_all, found, settings, files)
    kinds = Counter(kind for _, kind, _ in found.values())
    duplicates = {"exact": kinds["exact"], "near": kinds["near"]}
    counts = {"read": len(found) + len(split), "kept": len(split), "duplicates": duplicates, "augmented": augmented}
    write_json(arguments.facts, counts | facts | {"corrected": splits_of_corrected(corrected, settings)})


def parser() -> argparse.ArgumentParser:
    """Return the step's command line."""
    parser = step_parser(__doc__.splitlines()[0])
    parser.add_argument("ingested", type=Path, help="Parquet file of records in raw order")
    parser.add_argument("--counts", type=Path, required=True, help="JSON file of the ingestion's counts")
    parser.add_argument("--records", type=Path, required=True, help="Parquet file of kept records to write")
    parser.add_argument("--threads", type=int, default=1, help="processes that compare many records")
    for split in SPLITS:
        parser.add_argument(f"--{split}", type=Path, required=True, help=f"JSONL file of the {split} split to write")
    parser.add_argument("--duplicates", type=Path, required=True, help="JSONL file of removed duplicates to write")
    parser.add_argument("--facts", type=Path, required=True, help="JSON file of facts to write")
    return parser


main = step_main(step, parser)

if __name__ == "__main__":
    sys.exit(main())
