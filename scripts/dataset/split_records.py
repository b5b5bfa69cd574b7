"""Remove duplicates, split by hash, and augment the training split.

python scripts/dataset/split_records.py ingested.parquet --settings @settings.json --counts ingest.json
    --records records.parquet --train train.jsonl --validation validation.jsonl --test test.jsonl
    --duplicates duplicates.jsonl --facts split.json
"""

import argparse
import json
import sys
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from scripts.common.cli import progress, step_main, step_parser
from scripts.common.errors import UserError
from scripts.common.files import atomic_path, read_json, write_json
from scripts.common.records import SPLITS
from scripts.dataset.augment import Augmenter
from scripts.dataset.canonical import COLUMNS, from_row, read_rows, row_count, row_writer
from scripts.dataset.deduplicate import NearDuplicates, TextStore, compared_text, exact_duplicates, images_in, number_of
from scripts.dataset.splits import check_not_empty, key_of, share_tolerance, split_numbers
from scripts.dataset.stratification import LabelsOf, stratification
from scripts.dataset.whole_files import check_whole, check_whole_groups, with_whole_files

COMPARED = ("messages", "expected", "spans")  # columns by which records are compared
SEED_SEARCH = 20_000  # largest number of records for which a better seed is searched; more give close shares anyway


def near_search(rows: Iterable[dict], settings: dict, folder: Path, seed: int) -> NearDuplicates:
    """Return a search among rows; `seed` draws its hash functions, and `folder` holds texts and signatures."""
    images, texts = array("Q"), TextStore(folder)
    for row in rows:
        images.append(number_of(images_in(row)))
        texts.add(compared_text(row, settings["compare"]))
    return NearDuplicates(texts, np.array(images), settings["shingle"], settings["threshold"], folder, seed)


def duplicates_of(ingested: Path, settings: dict, folder: Path) -> dict[int, tuple[int, str, float]]:
    """Return the rows to remove: number to (number of the kept row, `exact` or `near`, similarity)."""
    search = near_search(progress(read_rows(ingested, COMPARED), "comparing", row_count(ingested)), settings, folder, 1)
    ids = array("Q", (int(row["id"], 16) for row in read_rows(ingested, ("id",))))
    exact = exact_duplicates(np.array(ids)) if settings["exact"] else {}
    found = {number: (first, "exact", 1.0) for number, first in exact.items()}
    if settings["near"]:
        near = search.find(exact)
        found |= {number: (first, "near", similarity) for number, (first, similarity) in near.items()}
    # An exact copy of a near duplicate points to the kept record.
    return {n: found.get(found[n][0], found[n]) for n in sorted(found)}


def write_duplicates(ingested: Path, found: dict[int, tuple[int, str, float]], path: Path) -> None:
    """Write one line per removed row: its content, its origin, and the record that it duplicates."""
    stay = {first for first, _, _ in found.values()}
    known: dict[int, dict] = {}
    with atomic_path(path) as beside, open(beside, "w", encoding="utf-8") as file:
        for number, row in enumerate(read_rows(ingested)):
            if number in stay:
                known[number] = row
            if number not in found:
                continue
            first, kind, similarity = found[number]
            texts = [json.loads(each["messages"])[:-1] for each in (row, known[first])]
            line = {
                "origin": row["origin"],
                "kind": kind,
                "similarity": round(similarity, 4),
                "label": row["label"],
                "spans_differ": row["spans"] not in (None, known[first]["spans"]) and texts[0] == texts[1],
                "expected": row["expected"],
                "duplicate_of": {key: known[first][key] for key in ("id", "origin", "label")},
                "record": from_row(row).to_row(),
            }
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def split_key(row: dict, compare: str) -> int:
    """Return the key that decides the split of a row."""
    return key_of(row["group"], compared_text(row, compare), images_in(row))


def splits_of_corrected(corrected: list[dict], settings: dict) -> list[str]:
    """Return the split of each corrected record, or in which a dropped one would be."""
    shares, compare = settings["splits"], settings["deduplicate"]["compare"]
    keys = np.array([split_key(entry["row"], compare) for entry in corrected], np.uint64)
    origins = [entry["origin"] for entry in corrected]
    split = with_whole_files(split_numbers(keys, shares, shares["seed"]), origins, whole_files(settings))
    return [SPLITS[number] for number in split]


class Kept:
    """The kept rows as numbers: 8 bytes for the key, 4 for the label, 4 for the set of span labels.

    A corrected record has the key of the original row, so that a correction moves no record to another split.
    """

    def __init__(self, ingested: Path, removed: dict, compare: str, corrected: list[dict]):
        self.ingested, self.removed = ingested, removed
        originals = {(entry["origin"], entry["became"]): entry["row"] for entry in corrected}
        columns = ("group", "label", *COMPARED, *(("origin", "id") if originals else ()))
        keys, labels, sets = array("Q"), array("i"), array("i")
        self.label_numbers: dict[str | None, int] = {}
        self.set_numbers: dict[frozenset[str], int] = {}
        for row in self.rows(columns):
            original = originals.get((row["origin"], row["id"]), row) if originals else row
            keys.append(split_key(original, compare))
            labels.append(self.label_numbers.setdefault(row["label"], len(self.label_numbers)))
            found = frozenset(label for _, _, label in json.loads(row["spans"] or "[]"))
            sets.append(self.set_numbers.setdefault(found, len(self.set_numbers)))
        self.keys, self.labels, self.span_sets = np.array(keys), np.array(labels), np.array(sets)

    def span_members(self) -> np.ndarray:
        """Return which span labels, in alphabetical order, are in which set: shape (labels, sets)."""
        names = sorted(frozenset().union(*self.set_numbers))
        members = [[name in found for found in self.set_numbers] for name in names]
        return np.array(members, bool).reshape(len(names), len(self.set_numbers))

    def rows(self, columns: tuple[str, ...] | None = None) -> Iterator[dict]:
        for number, row in enumerate(read_rows(self.ingested, columns)):
            if number not in self.removed:
                yield row


def check_apart(kept: Kept, split: np.ndarray, settings: dict, folder: Path) -> None:
    """Raise UserError if near duplicates are in different splits: a model would be tested on training data."""
    pair = near_search(kept.rows(COMPARED), settings, folder, 2).first_across(split)
    if pair is None:
        return
    first, second, similarity = pair
    origins = [row["origin"] for row in kept.rows(("origin",))]
    other = ", or set deduplicate.compare to conversation" if settings["compare"] == "answer" else ""
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
                "groups": len(np.unique(kept.keys[split == number])),
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


def write_splits(kept: Kept, split: np.ndarray, settings: dict, arguments: argparse.Namespace) -> int:
    """Write records.parquet and the JSONL files of the splits; return how many augmented records were added."""
    augmenter = Augmenter(settings["augment"])
    known: set[str] = {row["id"] for row in kept.rows(("id",))} if settings["augment"] else set()
    repeated: Counter[str] = Counter()
    augmented = 0
    with ExitStack() as stack:
        records = stack.enter_context(row_writer(arguments.records, (*COLUMNS, "split")))
        files = {}
        for name in SPLITS:
            beside = stack.enter_context(atomic_path(getattr(arguments, name)))
            files[name] = stack.enter_context(open(beside, "w", encoding="utf-8"))
        for number, row in zip(split, progress(kept.rows(), "writing", len(split)), strict=True):
            name = SPLITS[number]
            if not settings["deduplicate"]["exact"]:  # the n-th copy gets an id of its own
                repeated[row["id"]] += 1
                row["id"] += f"-{repeated[row['id']]}" if repeated[row["id"]] > 1 else ""
            records.write(row | {"split": name})
            record = from_row(row)
            variants = augmenter.variants(record) if name == "train" else ()
            for each in (record, *variants):
                if each is not record:
                    if each.id in known:
                        continue
                    known.add(each.id)
                    augmented += 1
                files[name].write(json.dumps(each.to_row(), ensure_ascii=False) + "\n")
    return augmented


def whole_files(settings: dict) -> dict[str, list[str]]:
    """Return the files of the splits that come as files."""
    return {name: files for name, files in settings["whole_files"].items() if files}


def step(arguments: argparse.Namespace) -> None:
    """Deduplicate, split, check and augment."""
    settings = arguments.settings
    with tempfile.TemporaryDirectory(prefix="snaketune-") as folder:
        found = duplicates_of(arguments.ingested, settings["deduplicate"], Path(folder))
    corrected = read_json(arguments.counts)["corrected"]
    kept = Kept(arguments.ingested, found, settings["deduplicate"]["compare"], corrected)
    shares = settings["splits"]
    split = split_numbers(kept.keys, shares, shares["seed"])
    whole = whole_files(settings)
    if whole:
        split = with_whole_files(split, (row["origin"] for row in kept.rows(("origin",))), whole)
        check_whole(split, shares, whole)
        check_whole_groups(split, kept.keys, (row["origin"] for row in kept.rows(("origin",))))
    else:
        check_not_empty(split, kept.keys, shares)
    with tempfile.TemporaryDirectory(prefix="snaketune-") as folder:
        check_apart(kept, split, settings["deduplicate"], Path(folder))
    write_duplicates(arguments.ingested, found, arguments.duplicates)
    facts = split_facts(kept, split, settings)
    augmented = write_splits(kept, split, settings, arguments)
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
    for split in SPLITS:
        parser.add_argument(f"--{split}", type=Path, required=True, help=f"JSONL file of the {split} split to write")
    parser.add_argument("--duplicates", type=Path, required=True, help="JSONL file of removed duplicates to write")
    parser.add_argument("--facts", type=Path, required=True, help="JSON file of facts to write")
    return parser


main = step_main(step, parser)

if __name__ == "__main__":
    sys.exit(main())
