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
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scripts.common.cli import Progress, step_main, step_parser
from scripts.common.errors import UserError
from scripts.common.files import atomic_path, read_json, write_json
from scripts.common.records import SPLITS
from scripts.dataset.augment import Augmenter
from scripts.dataset.canonical import COLUMNS, batches_of, from_row, json_lines, row_writer, rows_of, with_columns
from scripts.dataset.compare_texts import ComparedTexts, split_key
from scripts.dataset.deduplicate import exact_duplicates
from scripts.dataset.splits import check_not_empty, share_tolerance, split_numbers
from scripts.dataset.stratification import LabelsOf, stratification
from scripts.dataset.whole_files import check_whole, check_whole_groups, with_whole_files

if TYPE_CHECKING:
    from pyarrow import RecordBatch

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


def write_duplicates(ingested: Path, found: dict[int, tuple[int, str, float]], path: Path) -> None:
    """Write one line per removed row: its content, its origin, and the record that it duplicates."""
    stay = {first for first, _, _ in found.values()}
    known: dict[int, dict] = {}
    numbers = np.array(sorted(stay.union(found)), np.int64)
    with atomic_path(path) as beside, open(beside, "w", encoding="utf-8") as file:
        rows = (
            pair
            for batch in batches_of(ingested, numbers)
            for pair in zip(batch.to_pylist(), json_lines(batch).to_pylist(), strict=True)
        )
        for number, (row, text) in zip(numbers.tolist(), rows, strict=True):
            if number in stay:
                known[number] = row
            if number not in found:
                continue
            first, kind, similarity = found[number]
            line = {
                "origin": row["origin"],
                "kind": kind,
                "similarity": round(similarity, 4),
                "label": row["label"],
                "spans_differ": row["spans"] not in (None, known[first]["spans"]) and same_prompt(row, known[first]),
                "expected": row["expected"],
                "duplicate_of": {key: known[first][key] for key in ("id", "origin", "label")},
            }
            head = json.dumps(line, ensure_ascii=False)
            file.write(f'{head[:-1]}, "record": {text.rstrip()}}}\n')


def same_prompt(row: dict, other: dict) -> bool:
    """Return whether all messages but the last one of two rows are the same."""
    return json.loads(row["messages"])[:-1] == json.loads(other["messages"])[:-1]


def splits_of_corrected(corrected: list[dict], settings: dict) -> list[str]:
    """Return the split of each corrected record, or in which a dropped one would be."""
    shares, compare = settings["splits"], settings["deduplicate"]["compare"]
    keys = np.array([split_key(entry["row"], compare) for entry in corrected], np.uint64)
    origins = [entry["origin"] for entry in corrected]
    split = with_whole_files(split_numbers(keys, shares, shares["seed"]), origins, whole_files(settings))
    return [SPLITS[number] for number in split]


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
        labels, sets = array("i"), array("i")
        self.label_numbers: dict[str | None, int] = {}
        self.set_numbers: dict[frozenset[str], int] = {}
        for batch in self.batches(columns):
            if originals:
                for place, found in enumerate(batch.select(["origin", "id"]).to_pylist(), len(labels)):
                    if original := originals.get((found["origin"], found["id"])):
                        self.keys[place] = split_key(original, compare)
            for label in batch["label"].to_pylist():
                labels.append(self.label_numbers.setdefault(label, len(self.label_numbers)))
            for spans in batch["spans"].to_pylist():
                found = frozenset(label for _, _, label in json.loads(spans)) if spans else NO_LABELS
                sets.append(self.set_numbers.setdefault(found, len(self.set_numbers)))
        self.labels, self.span_sets = np.array(labels), np.array(sets)

    def span_members(self) -> np.ndarray:
        """Return which span labels, in alphabetical order, are in which set: shape (labels, sets)."""
        names = sorted(frozenset().union(*self.set_numbers))
        members = [[name in found for found in self.set_numbers] for name in names]
        return np.array(members, bool).reshape(len(names), len(self.set_numbers))

    def batches(self, columns: tuple[str, ...] | None = None) -> Iterator["RecordBatch"]:
        return batches_of(self.ingested, self.numbers, columns)

    def rows(self, columns: tuple[str, ...] | None = None) -> Iterator[dict]:
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


class Variants:
    """Makes the augmented records of the training split; `ids` are those of all kept records."""

    def __init__(self, settings: dict, ids: set[str]):
        self.augmenter, self.known, self.count = Augmenter(settings), ids, 0

    def lines(self, row: dict) -> Iterator[str]:
        """Yield the variants of a row of the training split as lines of JSON."""
        if row["split"] != "train":
            return
        for each in self.augmenter.variants(from_row(row)):
            if each.id not in self.known:
                self.known.add(each.id)
                self.count += 1
                yield json.dumps(each.to_row(), ensure_ascii=False) + "\n"


def write_splits(kept: Kept, split: np.ndarray, settings: dict, arguments: argparse.Namespace) -> int:
    """Write records.parquet and the JSONL files of the splits; return how many augmented records were added."""
    import pyarrow
    from pyarrow import compute

    variants = None
    if settings["augment"]:
        variants = Variants(settings["augment"], {row["id"] for row in kept.rows(("id",))})
    repeated: Counter[str] = Counter()
    with ExitStack() as stack:
        records = stack.enter_context(row_writer(arguments.records, (*COLUMNS, "split")))
        files = []
        for name in SPLITS:
            beside = stack.enter_context(atomic_path(getattr(arguments, name)))
            files.append(stack.enter_context(open(beside, "wb")))
        bar, done = Progress("writing", len(split)), 0
        for batch in kept.batches():
            columns = {"split": [SPLITS[number] for number in split[done : done + len(batch)].tolist()]}
            if not settings["deduplicate"]["exact"]:  # the n-th copy gets an id of its own
                columns["id"] = batch["id"].to_pylist()
                for place, found in enumerate(columns["id"]):
                    repeated[found] += 1
                    columns["id"][place] += f"-{repeated[found]}" if repeated[found] > 1 else ""
            batch = with_columns(batch, **columns)
            records.write_batch(batch)
            lines = json_lines(batch)
            if variants:  # each follows its record
                rows = zip(lines.to_pylist(), batch.to_pylist(), strict=True)
                lines = pyarrow.array(["".join([line, *variants.lines(row)]) for line, row in rows], pyarrow.string())
            for name, file in zip(SPLITS, files, strict=True):
                own = lines.filter(compute.equal(batch["split"], name))
                whole = pyarrow.ListArray.from_arrays(pyarrow.array([0, len(own)], pyarrow.int32()), own)
                file.write(compute.binary_join(whole, "")[0].as_buffer())
            done += len(batch)
            bar.advance(len(batch))
    return variants.count if variants else 0


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
    parser.add_argument("--threads", type=int, default=1, help="processes that compare many records")
    for split in SPLITS:
        parser.add_argument(f"--{split}", type=Path, required=True, help=f"JSONL file of the {split} split to write")
    parser.add_argument("--duplicates", type=Path, required=True, help="JSONL file of removed duplicates to write")
    parser.add_argument("--facts", type=Path, required=True, help="JSON file of facts to write")
    return parser


main = step_main(step, parser)

if __name__ == "__main__":
    sys.exit(main())
