"""Splits: a hash decides, so nothing moves when the data grow; groups stay whole; empty splits are refused."""

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scripts.common.errors import UserError
from scripts.common.records import SPLITS, content_id
from scripts.dataset.splits import check_not_empty, key_of, positions, split_numbers
from tests.support.dataset_steps import Stage, chat, settings_of, write_lines

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
HALVES = {"train": 0.5, "validation": 0.25, "test": 0.25}
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def keys_of(groups: list[str]) -> np.ndarray:
    return np.array([key_of(group, b"") for group in groups], np.uint64)


def random_chats(seed: int, count: int) -> list[dict]:
    """Return records of random words; `match` is one of 20 groups."""
    rng = random.Random(seed)
    texts = [[" ".join("".join(rng.choices(LETTERS, k=6)) for _ in range(10)) for _ in "qa"] for _ in range(count)]
    return [chat(*pair, type=rng.choice("abc"), match=f"m{rng.randrange(20)}") for pair in texts]


def test_shares_are_met_on_many_groups_by_the_positions_of_splitmix64():
    """The reference values of the generator's authors for the seed 1234567, first two outputs."""
    outputs = [positions(np.array([1234567], np.uint64), seed)[0] for seed in (0, 1)]
    assert outputs == [(6457827717110365317 >> 11) / 2**53, (3203168211198807973 >> 11) / 2**53]
    split = split_numbers(keys_of([f"group {number}" for number in range(40_000)]), SHARES, 0)
    assert np.bincount(split) / len(split) == pytest.approx([SHARES[name] for name in SPLITS], abs=0.005)


def test_a_group_decides_before_images_and_these_in_any_order_before_the_text():
    assert key_of(None, b"q", ["b", "a", "a"]) == key_of(None, b"other", ["a", "b"]) != key_of(None, b"q", ["a"])
    assert key_of("g", b"q", ["a"]) == key_of("g", b"other") != key_of(None, b"q")


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1000), extra=st.integers(1, 20), grouped=st.booleans(), place=st.randoms(use_true_random=False)
)
def test_added_records_move_no_record_of_the_dataset(seed, extra, grouped, place, stage: Stage, tmp_path: Path):
    stage.settings["group_by"] = "match" if grouped else None
    old = random_chats(seed, 40)
    mixed = list(old)
    for record in random_chats(seed + 5000, extra):
        mixed.insert(place.randrange(len(mixed) + 1), record)
    splits = []
    for records in (old, mixed):
        assert stage.ingest(write_lines(tmp_path / "raw.jsonl", records)) == 0
        if stage.split() != 0:
            assert "is empty" in stage.error()
            return
        splits.append({row["id"]: row["split"] for row in stage.records()})
    assert splits[0].items() <= splits[1].items()


def test_groups_stay_whole_and_every_record_is_in_the_file_of_its_split(stage: Stage, tmp_path: Path):
    stage.settings["group_by"] = "match"
    stage.run(write_lines(tmp_path / "raw.jsonl", random_chats(1, 200)))
    groups = {split: {row["group"] for row in stage.lines(split)} for split in SPLITS}
    assert sum(map(len, groups.values())) == len(set.union(*groups.values())) == 20
    counted = {share["split"]: share["groups"] for share in stage.facts("split")["shares"]}
    assert counted == {split: len(found) for split, found in groups.items()}
    for split in SPLITS:
        expected = [row["id"] for row in stage.records() if row["split"] == split]
        assert [row["id"] for row in stage.lines(split)] == expected != []
    first = stage.lines("train")[0]
    assert list(first) == ["id", "messages", "expected", "spans", "label", "group", "meta", "origin"]
    assert first["id"] == content_id(first["messages"])


def test_a_record_keeps_its_split_when_prompt_label_or_system_change(stage: Stage, tmp_path: Path):
    records = random_chats(2, 60)
    seen = []
    for change in ({}, {"system": "Sois bref."}, {"label": "type", "label_map": {"a": "A"}}):
        stage.settings = settings_of(splits=HALVES, deduplicate={"compare": "answer"}, **change)
        stage.run(write_lines(tmp_path / "raw.jsonl", records))
        seen.append([row["split"] for row in stage.records()])
        for record in records:
            record["messages"][0]["content"] += " ?"
    assert seen[0] == seen[1] == seen[2]


def test_an_empty_split_of_few_groups_asks_for_a_larger_test_split():
    keys = np.repeat(np.arange(12, dtype=np.uint64), 5)
    shares = {"train": 0.8, "validation": 0.1, "test": 0.1}
    with pytest.raises(UserError, match=r"12 groups; set splits\.seed to .*enlarge the share of test"):
        check_not_empty(np.zeros(60, dtype=int), keys, shares)


def test_an_empty_split_names_a_seed_that_fills_all(stage: Stage, tmp_path: Path):
    assert stage.ingest(write_lines(tmp_path / "raw.jsonl", random_chats(4, 24))) == 0
    failed = 0
    for seed in range(12):
        stage.settings["splits"] = SHARES | {"seed": seed}
        if stage.split() == 0:
            continue
        failed += 1
        error = stage.error()
        assert "is empty: there are 24 records; set splits.seed to " in error
        stage.settings["splits"]["seed"] = int(error.rpartition(" ")[2])
        assert stage.split() == 0
        assert min(len(stage.lines(split)) for split in SPLITS) >= 1
    assert failed, "some seeds leave a split of 24 records empty"
    keys = keys_of(["one", "two"])
    with pytest.raises(UserError, match=r"is empty: there are 2 records; enlarge the share, or add records or groups"):
        check_not_empty(split_numbers(keys, SHARES, 0), keys, SHARES)


AUGMENT = {"templates": ["{{ user }} ({{ type }})", "En bref : {{ user }}", "{{ label }}: {{ meta.type }}, {{ user }}"]}


def test_augmentation_rephrases_training_prompts_only(stage: Stage, tmp_path: Path):
    stage.settings = settings_of(splits=HALVES, label="type", augment=AUGMENT | {"copies": 2})
    stage.run(write_lines(tmp_path / "raw.jsonl", random_chats(7, 60)))
    rows = stage.lines("train")
    originals = {row["id"]: row for row in rows if "augmented" not in row["meta"]}
    added = [row for row in rows if row["meta"].get("augmented") is True]
    assert len(added) == 2 * len(originals) == stage.facts("ledger")["records"]["augmented"]
    for row in added:
        original = originals[row["meta"]["augmented_from"]]
        assert (row["expected"], row["messages"][-1]) == (original["expected"], original["messages"][-1])
        assert original["messages"][0]["content"] in row["messages"][0]["content"] != original["messages"][0]["content"]
        assert row["id"] == content_id(row["messages"])
    assert {row["meta"]["augmented_by"] for row in added} == {0, 1, 2}
    assert not any("augmented" in row["meta"] for split in ("validation", "test") for row in stage.lines(split))
    assert len(stage.records()) == 60, "records.parquet holds no copies"


def test_augmentation_of_a_record_does_not_depend_on_others_and_repeats_none(stage: Stage, tmp_path: Path):
    stage.settings = settings_of(splits=HALVES, augment={"templates": AUGMENT["templates"][:2], "copies": 1})
    records = random_chats(8, 60)
    prompts = []
    for chosen in (records, records[7:]):
        stage.run(write_lines(tmp_path / "raw.jsonl", chosen))
        prompts.append({r["id"] for r in stage.lines("train") if "augmented" in r["meta"]})
    assert prompts[1] < prompts[0]
    stage.settings["augment"] = {"templates": ["{{ user }}", "Bref : {{ user }}"], "copies": 9}
    stage.run(tmp_path / "raw.jsonl")
    rows = stage.lines("train")
    assert sum("augmented" in row["meta"] for row in rows) * 2 == len(rows)
    stage.settings["augment"] = {"templates": ["{{ minute }}"], "copies": 1}
    assert stage.split() == 1
    assert "augment.templates[0]: has no field 'minute'; its fields are type, match, meta, user" in stage.error()


def test_the_same_input_gives_the_same_bytes(stage: Stage, tmp_path: Path):
    stage.settings = settings_of(splits=HALVES, label="type", augment=AUGMENT, on_bad_record="quarantine")
    records = random_chats(11, 60)
    raw = write_lines(tmp_path / "raw.jsonl", [*records, records[3], {"messages": []}])
    contents = []
    for _ in range(2):
        stage.run(raw)
        contents.append({path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path != raw})
    assert contents[0] == contents[1]
    assert len(contents[0]) == 24, "twelve files, each with its checksum"


@pytest.fixture
def files(stage: Stage, tmp_path: Path) -> tuple[Path, Path]:
    """Two raw files of 30 records each, the first held out for the test split."""
    files = [
        write_lines(tmp_path / f"{name}.jsonl", random_chats(seed, 30)) for seed, name in enumerate(("held", "raw"))
    ]
    stage.settings = settings_of(splits=HALVES, test_files=[f"{tmp_path}/.//held.jsonl"])
    return tuple(files)


def test_a_file_of_its_own_is_its_split_and_of_what_stands_in_two_files_its_copy_stays(stage: Stage, files):
    write_lines(files[1], [*random_chats(0, 10), *random_chats(1, 40)])
    stage.run(*files)
    splits = Counter((row["origin"].partition(".jsonl")[0].rpartition("/")[2], row["split"]) for row in stage.records())
    assert splits["held", "test"] == 30
    assert splits["raw", "train"] + splits["raw", "validation"] == 40
    assert splits["raw", "validation"] > 0
    assert stage.facts("split")["duplicates"]["exact"] == 10


def test_a_group_that_files_tear_apart_is_refused(stage: Stage, files):
    held_out = [{**row, "match": f"held-{n}"} for n, row in enumerate(random_chats(0, 10))]
    rest = [{**row, "match": f"m{n}"} for n, row in enumerate(random_chats(1, 29))]
    write_lines(files[0], held_out)
    stage.settings["group_by"] = "match"
    stage.run(files[0], write_lines(files[1], rest))
    write_lines(files[1], [*rest, {**random_chats(2, 1)[0], "match": "held-4"}])
    assert stage.ingest(*files) == 0
    assert stage.split() == 1
    error = stage.error()
    assert f"{files[0]}:5 (test)" in error
    assert f"{files[1]}:30 (" in error
    assert "have the same group, images or text" in error


def test_a_file_without_a_record_that_stays_is_refused(stage: Stage, files):
    write_lines(files[0], [])
    assert stage.ingest(*files) == 0
    assert stage.split() == 1
    assert stage.error().startswith("no record is left for the split 'test'; add records to 'test_files'")


def test_a_training_file_that_repeats_the_test_file_is_told_so(stage: Stage, files):
    stage.settings["splits"] |= {"validation": 0.0, "train": 0.75}
    write_lines(files[1], random_chats(0, 30))
    assert stage.ingest(*files) == 0
    assert stage.split() == 1
    assert stage.error().startswith("no record is left for the split 'train'; add records to 'files'")


def test_a_share_without_a_file_that_gets_no_record_is_told_what_fills_it(stage: Stage, files):
    stage.settings["splits"] |= {"validation": 0.001, "train": 0.749}
    write_lines(files[1], random_chats(1, 5))
    assert stage.ingest(*files) == 0
    assert stage.split() == 1
    remedy = "enlarge splits.validation, add records to 'files', or give 'validation_files'"
    assert stage.error() == f"no record is left for the split 'validation'; {remedy}"
