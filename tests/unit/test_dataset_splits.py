"""Splits: a hash decides, so nothing moves when the data grow; groups stay whole; empty splits are refused."""

import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scripts.common.errors import UserError
from scripts.common.records import SPLITS, content_id
from scripts.dataset.splits import best_seed, cells, check_not_empty, key_of, misfit, positions, split_numbers
from tests.support.dataset_steps import Stage, chat, settings_of, write_lines

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
HALVES = {"train": 0.5, "validation": 0.25, "test": 0.25}
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def keys_of(groups: list[str]) -> np.ndarray:
    return np.array([key_of(group, "") for group in groups], np.uint64)


def random_text(rng: random.Random) -> str:
    return " ".join("".join(rng.choices(LETTERS, k=6)) for _ in range(10))


def random_chats(seed: int, count: int, groups: int = 0) -> list[dict]:
    rng = random.Random(seed)
    extra = [{"match": f"m{rng.randrange(groups)}"} if groups else {} for _ in range(count)]
    return [chat(random_text(rng), random_text(rng), type=rng.choice("abc"), **fields) for fields in extra]


@pytest.fixture
def stage(tmp_path: Path, capsys: pytest.CaptureFixture) -> Stage:
    return Stage(tmp_path, settings_of(splits=HALVES), capsys)


@given(
    before=st.lists(st.text(max_size=8), min_size=1, unique=True),
    added=st.lists(st.text(max_size=8), unique=True),
    seed=st.integers(0, 2**31),
)
def test_added_groups_move_no_other(before: list[str], added: list[str], seed: int):
    alone = split_numbers(keys_of(before), SHARES, seed)
    together = split_numbers(keys_of(added + before), SHARES, seed)
    assert together[len(added) :].tolist() == alone.tolist()


@given(st.lists(st.text(max_size=8), min_size=1), st.integers(0, 2**31), st.floats(0.05, 0.45))
def test_a_larger_test_share_only_adds_to_the_test_split(groups: list[str], seed: int, share: float):
    smaller, larger = (
        split_numbers(keys_of(groups), {"test": test, "validation": 0.0, "train": 1 - test}, seed)
        == SPLITS.index("test")
        for test in (share, share * 2)
    )
    assert not (smaller & ~larger).any()


def test_shares_are_met_on_many_groups():
    split = split_numbers(keys_of([f"group {number}" for number in range(40_000)]), SHARES, 0)
    achieved = np.bincount(split) / len(split)
    assert achieved == pytest.approx([SHARES[name] for name in SPLITS], abs=0.005)


def test_seeds_draw_independently():
    keys = keys_of([f"group {number}" for number in range(20_000)])
    first, second = (positions(keys, seed) for seed in (0, 1))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
    assert 0 <= first.min() < first.max() < 1


def test_positions_are_those_of_splitmix64():
    """The reference values of the generator's authors for the seed 1234567, first two outputs."""
    outputs = [positions(np.array([1234567], np.uint64), seed)[0] for seed in (0, 1)]
    assert outputs == [(6457827717110365317 >> 11) / 2**53, (3203168211198807973 >> 11) / 2**53]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1000), extra=st.integers(1, 20), grouped=st.booleans(), place=st.randoms(use_true_random=False)
)
def test_added_records_move_no_record_of_the_dataset(seed, extra, grouped, place, stage: Stage, tmp_path: Path):
    stage.settings["group_by"] = "match" if grouped else None
    old = random_chats(seed, 40, groups=15)
    new = random_chats(seed + 5000, extra, groups=15)
    mixed = list(old)
    for record in new:
        mixed.insert(place.randrange(len(mixed) + 1), record)
    splits = []
    for records in (old, mixed):
        assert stage.ingest(write_lines(tmp_path / "raw.jsonl", records)) == 0
        if stage.split() != 0:
            assert "is empty" in stage.error()
            return
        splits.append({row["id"]: row["split"] for row in stage.records()})
    assert splits[0].items() <= splits[1].items()


def test_groups_stay_whole(stage: Stage, tmp_path: Path):
    stage.settings["group_by"] = "match"
    stage.run(write_lines(tmp_path / "raw.jsonl", random_chats(1, 200, groups=20)))
    splits_of = {}
    for row in stage.records():
        splits_of.setdefault(row["group"], set()).add(row["split"])
    assert len(splits_of) == 20
    assert all(len(splits) == 1 for splits in splits_of.values())
    groups = {share["split"]: share["groups"] for share in stage.facts("split")["shares"]}
    assert groups == Counter(min(splits) for splits in splits_of.values())


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


def test_every_record_is_in_the_file_of_its_split(stage: Stage, tmp_path: Path):
    stage.run(write_lines(tmp_path / "raw.jsonl", random_chats(3, 80)))
    for split in SPLITS:
        expected = [row["id"] for row in stage.records() if row["split"] == split]
        assert [row["id"] for row in stage.lines(split)] == expected != []
    sample = stage.lines("train")[0]
    assert list(sample) == ["id", "messages", "expected", "spans", "label", "group", "meta", "origin"]
    assert sample["id"] == content_id(sample["messages"])


def test_an_empty_split_names_a_seed_that_fills_all(stage: Stage, tmp_path: Path):
    raw = write_lines(tmp_path / "raw.jsonl", random_chats(4, 24))
    stage.settings["label"] = "type"
    assert stage.ingest(raw) == 0
    stage.settings["splits"] = SHARES | {"seed": 0}
    failed = 0
    for seed in range(12):
        stage.settings["splits"]["seed"] = seed
        if stage.split() == 0:
            continue
        failed += 1
        error = stage.error()
        assert "is empty: there are 24 records; set splits.seed to " in error
        stage.settings["splits"]["seed"] = int(error.rpartition(" ")[2])
        assert stage.split() == 0
        counts = [len(stage.lines(split)) for split in SPLITS]
        assert sum(counts) == 24
        assert min(counts) >= 1
    assert failed, "some seeds leave a split of 24 records empty"


def test_a_split_that_no_seed_can_fill_is_an_error_with_another_remedy():
    keys = keys_of(["one", "two"])
    with pytest.raises(UserError, match=r"is empty: there are 2 records; enlarge the share, or add records or groups"):
        check_not_empty(split_numbers(keys, SHARES, 0), keys, np.zeros(2, np.int64), 1, SHARES)


def test_a_validation_share_of_zero_makes_an_empty_file(stage: Stage, tmp_path: Path):
    stage.settings["splits"] = {"train": 0.5, "validation": 0.0, "test": 0.5, "seed": 0}
    stage.run(write_lines(tmp_path / "raw.jsonl", random_chats(5, 40)))
    assert stage.lines("validation") == []


def test_the_named_seed_keeps_the_labels_shares_closer(stage: Stage, tmp_path: Path):
    stage.settings |= {"label": "type"}
    raw = write_lines(tmp_path / "raw.jsonl", random_chats(6, 60))
    stage.run(raw)
    fit = stage.facts("split")["stratification"]
    stage.settings["splits"]["seed"] = fit["best_seed"]
    assert stage.split() == 0
    better = stage.facts("split")["stratification"]
    assert better["distance"] == fit["best_distance"] < fit["distance"]
    assert better["best_seed"] == fit["best_seed"]
    for row in stage.facts("split")["labels"]:
        total = sum(row[split] for split in SPLITS)
        assert all(abs(row[split] - total * HALVES[split]) < 2 for split in SPLITS)


def test_best_seed_is_the_smallest_with_the_least_misfit():
    keys, label = keys_of([str(number) for number in range(30)]), np.arange(30) % 3
    wanted = np.array([HALVES[split] for split in SPLITS])
    seed, fit = best_seed(keys, label, 3, HALVES)
    fits = [misfit(cells(split_numbers(keys, HALVES, s), label, 3), wanted) for s in range(seed + 50)]
    assert fits[seed] == fit == min(fits)
    assert fits.index(fit) == seed


AUGMENT = {"templates": ["{{ user }} ({{ type }})", "En bref : {{ user }}", "{{ label }}: {{ meta.type }}, {{ user }}"]}


def test_augmentation_rephrases_training_prompts_only(stage: Stage, tmp_path: Path):
    stage.settings = settings_of(splits=HALVES, label="type", augment=AUGMENT | {"copies": 2})
    raw = write_lines(tmp_path / "raw.jsonl", random_chats(7, 60))
    stage.run(raw)
    rows = stage.lines("train")
    originals = {row["id"]: row for row in rows if "augmented" not in row["meta"]}
    added = [row for row in rows if row["meta"].get("augmented") is True]
    assert len(added) == 2 * len(originals) == stage.facts("ledger")["records"]["augmented"]
    assert len({row["id"] for row in rows}) == len(rows)
    for row in added:
        original = originals[row["meta"]["augmented_from"]]
        assert row["expected"] == original["expected"]
        assert row["messages"][-1] == original["messages"][-1]
        assert original["messages"][0]["content"] in row["messages"][0]["content"] != original["messages"][0]["content"]
        assert row["id"] == content_id(row["messages"])
    assert {row["meta"]["augmented_by"] for row in added} == {0, 1, 2}
    for split in ("validation", "test"):
        assert not any("augmented" in row["meta"] for row in stage.lines(split))
    assert len(stage.records()) == 60, "records.parquet holds no copies"


def test_augmentation_of_a_record_does_not_depend_on_others(stage: Stage, tmp_path: Path):
    stage.settings = settings_of(splits=HALVES, augment={"templates": AUGMENT["templates"][:2], "copies": 1})
    records = random_chats(8, 60)
    prompts = []
    for chosen in (records, records[7:]):
        stage.run(write_lines(tmp_path / "raw.jsonl", chosen))
        prompts.append({r["id"] for r in stage.lines("train") if "augmented" in r["meta"]})
    assert prompts[1] < prompts[0]


def test_more_copies_than_templates_add_no_repeats(stage: Stage, tmp_path: Path):
    stage.settings = settings_of(splits=HALVES, augment={"templates": ["{{ user }}", "Bref : {{ user }}"], "copies": 9})
    stage.run(write_lines(tmp_path / "raw.jsonl", random_chats(9, 40)))
    rows = stage.lines("train")
    assert sum("augmented" in row["meta"] for row in rows) * 2 == len(rows)


def test_a_template_that_fails_names_record_and_template(stage: Stage, tmp_path: Path):
    stage.settings = settings_of(splits=HALVES, augment={"templates": ["{{ minute }}"], "copies": 1})
    raw = write_lines(tmp_path / "raw.jsonl", random_chats(10, 30))
    assert stage.ingest(raw) == 0
    assert stage.split() == 1
    assert "augment.templates[0]: has no field 'minute'; its fields are type, meta, user" in stage.error()


def test_the_same_input_gives_the_same_bytes(stage: Stage, tmp_path: Path):
    stage.settings = settings_of(splits=HALVES, label="type", augment=AUGMENT, on_bad_record="quarantine")
    records = random_chats(11, 60)
    raw = write_lines(tmp_path / "raw.jsonl", [*records, records[3], {"messages": []}])
    contents = []
    for _ in range(2):
        stage.run(raw)
        contents.append(
            {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path != raw}
        )
    assert contents[0] == contents[1]
    assert len(contents[0]) == 24  # twelve files, each with its seal
    assert json.loads(contents[0]["ledger.json"])["records"] == {
        "read": 62, "quarantined": 1, "exact_duplicates": 1, "near_duplicates": 0, "kept": 60,
        "augmented": len([row for row in stage.lines("train") if "augmented" in row["meta"]]),
    }  # fmt: skip


def test_a_file_of_its_own_is_its_split_and_nothing_else_is_drawn_for_it(stage: Stage, tmp_path: Path):
    files = {name: tmp_path / f"{name}_raw.jsonl" for name in ("train", "validation")}
    for seed, path in enumerate(files.values()):
        write_lines(path, random_chats(seed, 40))
    stage.settings = settings_of(splits=HALVES, validation_files=[str(files["validation"])])
    stage.run(files["validation"], files["train"])
    splits = Counter((Path(r["origin"].rpartition(":")[0]).stem, r["split"]) for r in stage.records())
    assert splits["validation_raw", "validation"] == 40
    assert splits["train_raw", "train"] + splits["train_raw", "test"] == 40
    assert splits["train_raw", "test"] > 0
    assert sum(splits.values()) == 80


def test_files_of_a_split_are_known_however_their_paths_are_written(stage: Stage, tmp_path: Path):
    for seed, name in enumerate(("raw", "one", "two")):
        write_lines(tmp_path / f"{name}.jsonl", random_chats(seed, 20))
    held_out = [f"{tmp_path}/./one.jsonl", f"{tmp_path}//two.jsonl"]
    stage.settings = settings_of(splits=HALVES, test_files=held_out)
    stage.run(*map(Path, held_out), tmp_path / "raw.jsonl")
    splits = Counter((Path(r["origin"].rpartition(":")[0]).stem, r["split"]) for r in stage.records())
    assert (splits["one", "test"], splits["two", "test"]) == (20, 20)


def test_of_a_record_in_two_files_the_held_out_copy_stays(stage: Stage, tmp_path: Path):
    held_out, trained = tmp_path / "test_raw.jsonl", tmp_path / "raw.jsonl"
    rows = random_chats(0, 30)
    write_lines(held_out, rows[:10])
    write_lines(trained, rows)
    stage.settings = settings_of(splits=HALVES, test_files=[str(held_out)])
    stage.run(held_out, trained)
    assert Counter(r["split"] for r in stage.records())["test"] == 10
    assert stage.facts("split")["duplicates"]["exact"] == 10


def test_a_group_that_files_tear_apart_is_refused(stage: Stage, tmp_path: Path):
    held_out, trained = tmp_path / "test_raw.jsonl", tmp_path / "raw.jsonl"
    write_lines(held_out, [{**row, "match": f"held-{i}"} for i, row in enumerate(random_chats(0, 10))])
    write_lines(trained, [{**row, "match": f"m{i}"} for i, row in enumerate(random_chats(1, 29))])
    stage.settings = settings_of(splits=HALVES, test_files=[str(held_out)], group_by="match")
    stage.run(held_out, trained)
    with open(trained, "a", encoding="utf-8") as file:
        file.write(json.dumps({**random_chats(2, 1)[0], "match": "held-4"}) + "\n")
    assert stage.ingest(held_out, trained) == 0
    assert stage.split() == 1
    error = stage.error()
    assert f"{held_out}:5 (test)" in error
    assert f"{trained}:30 (" in error
    assert "have the same group, images or text" in error


def test_a_file_of_its_own_without_a_record_left_is_refused(stage: Stage, tmp_path: Path):
    empty, trained = tmp_path / "empty.jsonl", tmp_path / "raw.jsonl"
    write_lines(empty, [])
    write_lines(trained, random_chats(0, 30))
    stage.settings = settings_of(splits=HALVES, validation_files=[str(empty)])
    assert stage.ingest(empty, trained) == 0
    assert stage.split() == 1
    assert "none of its records is left for the split 'validation'" in stage.error()


def test_a_training_file_that_repeats_the_test_file_is_told_so(stage: Stage, tmp_path: Path):
    held_out, trained = tmp_path / "test_raw.jsonl", tmp_path / "raw.jsonl"
    for path in (held_out, trained):
        write_lines(path, random_chats(0, 30))
    stage.settings = settings_of(splits=HALVES | {"validation": 0.0}, test_files=[str(held_out)])
    assert stage.ingest(held_out, trained) == 0
    assert stage.split() == 1
    assert stage.error() == (
        "the split 'train' is empty: 30 records of 'files' repeat records of 'test_files' and were removed; "
        "add other records to 'files'"
    )


def test_a_file_that_is_named_for_two_splits_is_refused(stage: Stage, tmp_path: Path):
    one, two = (write_lines(tmp_path / f"{n}.jsonl", random_chats(n, 30)) for n in range(2))
    stage.settings = settings_of(splits=HALVES, test_files=[str(one)], validation_files=[f"{tmp_path}/./0.jsonl"])
    assert stage.ingest(one, one, two) == 0
    assert stage.split() == 1
    assert "is named under 'validation_files' and under 'test_files'; name it under one of" in stage.error()


@pytest.mark.parametrize("order", [(0, 0, 1), (0, 1, 0)], ids=["one after the other", "another between"])
def test_a_file_that_is_both_trained_and_tested_on_is_refused(order, stage: Stage, tmp_path: Path):
    files = [write_lines(tmp_path / f"{n}.jsonl", random_chats(n, 30)) for n in range(2)]
    stage.settings = settings_of(splits=HALVES, test_files=[str(files[0])])
    assert stage.ingest(*(files[n] for n in order)) == 0
    assert stage.split() == 1
    assert f"{files[0]}: is named under 'test_files' and once more; name it under one of" in stage.error()
