"""Duplicates: exactly those that the definition names, the first of each stays, and the result is always the same."""

import os
import random
import signal
import tracemalloc
from math import comb
from pathlib import Path

import numpy as np
import pytest

from scripts.common import pool
from scripts.common.errors import UserError
from scripts.dataset import deduplicate
from scripts.dataset.compare_texts import MISS, SEED, SLOTS
from scripts.dataset.compared import folded
from scripts.dataset.deduplicate import SMALL, NearDuplicates, TextStore
from scripts.dataset.sketches import COARSE, Shape, band_keys, coarse, shingle_hashes, signatures
from tests.support.dataset_steps import Stage, chat, write_lines

WORDS = ("but", "tir", "corner", "carton", "gardien", "poteau", "centre", "passe", "lucarne", "arrêt", "rừng", "biển")


def search(folder: Path, texts: list[str], size: int, shape: Shape, threshold: float) -> NearDuplicates:
    store, images = TextStore(folder), np.zeros(len(texts), np.uint64)
    encoded = [text.encode("utf-8") for text in texts]
    store.add(b"".join(encoded), np.array([len(each) for each in encoded], np.int64))
    found = signatures(*shingle_hashes(texts, size), shape)
    return NearDuplicates(store, band_keys(found, images, shape), coarse(found), images, size, threshold, threads=2)


def near_duplicates(folder: Path, texts: list[str], size: int, threshold: float) -> dict[int, tuple[int, float]]:
    shape = Shape.of(threshold, SLOTS, MISS, SEED)
    return search(folder, texts, size, shape, threshold).find(np.arange(len(texts)))


def texts_of_all_similarities(rng: random.Random, count: int, originals: int | None = None) -> list[str]:
    """Return texts, many of them another one with some words replaced."""
    words_of = [rng.choices(WORDS, k=rng.randint(1, 40)) for _ in range(originals or count // 3)]
    texts = [list(rng.choice(words_of)) for _ in range(count)]
    for words in texts:
        for _ in range(rng.randint(0, 4)):
            words[rng.randrange(len(words))] = rng.choice(WORDS)
    return [" ".join(words) for words in texts]


def shingles(text: str, size: int) -> set[str]:
    return {text[start : start + size] for start in range(max(1, len(text) - size + 1))}


def jaccard(one: set[str], other: set[str]) -> float:
    return len(one & other) / len(one | other)


def brute_force(texts: list[str], size: int, threshold: float) -> dict[int, tuple[int, float]]:
    """Return what is to be removed, by the definition: compare each with all that stay before it."""
    sets = [shingles(text, size) for text in texts]
    stay, removed = [], {}
    for number, each in enumerate(sets):
        similar = max(((jaccard(each, sets[other]), -other) for other in stay), default=(0.0, 0))
        if similar[0] >= threshold:
            removed[number] = (-similar[1], similar[0])
        else:
            stay.append(number)
    return removed


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.85, 0.95, 1.0])
def test_signatures_have_as_many_bands_as_the_misses_need(threshold: float):
    bands, rows, _ = Shape.of(threshold, SLOTS, MISS, SEED)
    assert (1 - threshold**rows) ** bands <= MISS
    assert COARSE <= bands * rows <= SLOTS
    assert (bands - 1) * rows < COARSE or (1 - threshold**rows) ** (bands - 1) > MISS


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.85, 0.95, 1.0])
@pytest.mark.parametrize("size", [1, 5, 9])
def test_near_duplicates_are_those_of_brute_force(size: int, threshold: float, tmp_path: Path):
    texts = texts_of_all_similarities(random.Random(size), 400)
    expected = brute_force(texts, size, threshold)
    assert near_duplicates(tmp_path, texts, size, threshold) == expected
    assert expected, "the sample has duplicates"
    for few in (["seul"], ["", "", "a", "ab", "ab"]):
        assert near_duplicates(tmp_path, few, size, threshold) == brute_force(few, size, threshold)


@pytest.mark.parametrize("threshold", [0.7, 0.95])
def test_large_groups_of_similar_texts_are_compared_with_those_that_stay(threshold: float, tmp_path: Path):
    texts = texts_of_all_similarities(random.Random(3), 600, originals=4)
    found = near_duplicates(tmp_path, texts, 5, threshold)
    assert found == brute_force(texts, 5, threshold)
    assert len(found) > 4 * SMALL


@pytest.mark.parametrize("originals", [2, 50])
def test_texts_that_agree_in_every_band_are_removed_only_if_they_are_similar(
    originals: int, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr(deduplicate, "TOGETHER", 64)
    texts = texts_of_all_similarities(random.Random(7), 60, originals)
    compared = search(tmp_path, texts, 5, Shape.of(0.7, SLOTS, MISS, SEED), 0.7)
    compared.keys[:] = 0
    _, members = compared.candidates(np.arange(60), None)
    assert len(members) == (60 * len(compared.keys) if originals == 2 else 0), "dense or not"
    assert compared.find(np.arange(60)) == brute_force(texts, 5, 0.7)
    compared.images[:] = np.arange(60)
    assert not compared.find(np.arange(60)), "of different images"


def test_thousands_of_equal_texts_need_few_comparisons(tmp_path: Path):
    shape = Shape.of(0.85, SLOTS, MISS, SEED)
    compared = search(tmp_path, [LONG] * 3000, 5, shape, 0.85)
    for split in (None, np.zeros(3000, np.int8)):  # in one split
        pairs, members = compared.candidates(np.arange(3000), split)
        assert not len(pairs)
        assert len(members) == 3000 * shape.bands
    assert compared.find(np.arange(3000)) == dict.fromkeys(range(1, 3000), (0, 1.0))


@pytest.mark.parametrize("copies", [SMALL, 40])
def test_groups_of_equal_texts_need_memory_for_each_pair_once(copies: int, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(deduplicate, "TOGETHER", 64)
    rng, shape = random.Random(2), Shape.of(0.85, SLOTS, MISS, SEED)
    texts = [f"{rng.getrandbits(400):x}" for _ in range(8000 // copies)] * copies
    compared = search(tmp_path, texts, 5, shape, 0.85)
    tracemalloc.start()
    pairs, members = compared.candidates(np.arange(len(texts)), None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(pairs) == (len(texts) * (SMALL - 1) / 2 if copies == SMALL else 0)
    assert len(members) == (0 if copies == SMALL else len(texts) * shape.bands)
    assert peak / len(texts) < 800, "bytes a text, with two threads"


@pytest.mark.parametrize("threshold", [0.5, 0.85, 0.99])
def test_coarse_signatures_exclude_one_pair_in_a_hundred_million(threshold: float):
    found = deduplicate.rarely_below(64, threshold, 1e-8)
    each = [comb(64, n) * threshold**n * (1 - threshold) ** (64 - n) for n in range(64)]
    assert sum(each[:found]) <= 1e-8 < sum(each[: found + 1])
    assert deduplicate.rarely_below(64, 1.0, 1e-8) == 64


@pytest.mark.parametrize("originals", [4, 200])
def test_the_first_pair_in_different_splits_is_found(originals: int, tmp_path: Path):
    rng = random.Random(5)
    texts = texts_of_all_similarities(rng, 400, originals)
    split = np.array(rng.choices((0, 0, 0, 1, 2), k=len(texts)), np.int8)
    sets = [shingles(text, 5) for text in texts]
    expected = next(
        (first, second, jaccard(sets[first], sets[second]))
        for second in range(len(texts))
        for first in range(second)
        if split[first] != split[second] and jaccard(sets[first], sets[second]) >= 0.7
    )
    compared = search(tmp_path, texts, 5, Shape.of(0.7, SLOTS, MISS, SEED), 0.7)
    assert compared.first_across(np.arange(len(texts)), split) == expected
    assert compared.first_across(np.arange(len(texts)), np.zeros(len(texts), np.int8)) is None


def test_case_and_punctuation_don_t_count_but_accents_do():
    assert folded(["« But ! », dit-il…", "but dit il"]) == ["but dit il"] * 2
    assert folded(["pêche", "pêché"]) == ["pêche", "pêché"]
    assert folded(["", "?!", "⚽ But", "", "\x1c\u0085 ", "STRASSE ?", "Straße"]) == [
        "", "?!", "⚽ but", "", "\x1c\u0085 ", "strasse", "strasse",
    ]  # fmt: skip


FILLER = [chat(f"q{n}", text) for n, text in enumerate(texts_of_all_similarities(random.Random(8), 60))]
LONG = "Larrieu remplace Hourcade, averti plus tôt et proche de l’expulsion"


def test_different_questions_with_the_same_short_answer_stay(tmp_path: Path, stage: Stage):
    stage.settings["system"] = "Tu arbitres. " * 40  # shared by all: it makes none a duplicate of another
    questions = ["Le hors-jeu était-il net ?", "Brest a-t-il déjà gagné ici ?", "Le gardien a-t-il touché la balle ?"]
    raw = write_lines(tmp_path / "raw.jsonl", [*[chat(question, "Oui.") for question in questions], *FILLER])
    stage.run(raw)
    assert sum(row["expected"] == "Oui." for row in stage.records()) == 3
    stage.settings["deduplicate"]["compare"] = "answer"
    stage.run(raw)
    assert sum(row["expected"] == "Oui." for row in stage.records()) == 1


def test_removed_ones_are_listed_with_what_they_repeat_and_labels_that_differ(tmp_path: Path, stage: Stage):
    stage.settings["deduplicate"]["compare"] = "answer"
    stage.settings |= {"group_by": "match", "label": "type"}
    texts = [("q", LONG + "."), ("autre question", LONG)] * 2
    records = [chat(question, answer) for question, answer in texts] + FILLER
    records = [record | {"match": f"m{n}", "type": f"t{n % 2}"} for n, record in enumerate(records)]
    raw = write_lines(tmp_path / "raw.jsonl", records)
    stage.run(raw)
    listed = [row for row in stage.lines("duplicates") if row["expected"].startswith("Larrieu")]
    assert [(row["origin"], row["kind"]) for row in listed] == [
        (f"{raw}:2", "near"), (f"{raw}:3", "exact"), (f"{raw}:4", "near"),
    ]  # fmt: skip
    assert {row["duplicate_of"]["origin"] for row in listed} == {f"{raw}:1"}
    assert listed[0]["record"]["meta"] == {"match": "m1", "type": "t1"}, "a removed record is never lost"
    assert "labels differ: t0, t1" in (tmp_path / "ledger.html").read_text(encoding="utf-8")
    facts = stage.facts("split")
    assert facts["read"] == facts["kept"] + sum(facts["duplicates"].values()) == len(records)


def test_duplicates_that_straddle_splits_fail_the_build(tmp_path: Path, stage: Stage):
    stage.settings["deduplicate"]["near"] = False
    records = [chat("q", f"{LONG} {number}") for number in range(30)]
    assert stage.ingest(write_lines(tmp_path / "raw.jsonl", records)) == 0
    assert stage.split() == 1
    error = stage.error()
    assert "are near duplicates in different splits (similarity 0.9" in error
    assert error.endswith("; set deduplicate.near to true, or put them in one group with group_by")
    stage.settings["deduplicate"]["compare"] = "answer"
    assert stage.split() == 1
    assert stage.error().endswith(", or set deduplicate.compare to conversation")
    assert not (tmp_path / "train.jsonl").exists()


def test_several_processes_give_results_in_order_and_one_fault_ends_them():
    tasks = [str(number) for number in range(20)]
    assert list(pool.in_order(int, tasks, 2)) == list(range(20))
    with pytest.raises(ValueError, match="zwanzig"):
        list(pool.in_order(int, [*tasks, "zwanzig", *tasks], 2))
    with pytest.raises(UserError, match="killed, probably for lack of memory; use a machine with more memory"):
        list(pool.in_order(os._exit, [137] * 20, 2))
    assert list(pool.in_order(signal.getsignal, [signal.SIGINT] * 4, 2)) == [signal.SIG_IGN] * 4
    assert list(pool.in_order(abs, [-1, -2, -3], 2)) == [1, 2, 3]


def test_processes_keep_freed_memory_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1")
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "")  # restored after the test
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_")
    found = pool.in_order(os.getenv, ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"] * 2, 2)
    assert list(found) == ["1", pool.KEPT_MEMORY["MALLOC_MMAP_THRESHOLD_"]] * 2


def test_few_tasks_are_ahead_of_the_results():
    drawn = []
    tasks = (drawn.append(number) or number for number in range(20))
    for number, result in enumerate(pool.in_threads(abs, tasks, 3)):
        assert result == number
        assert len(drawn) <= number + 3


def test_duplicates_may_stay_when_they_share_a_group(tmp_path: Path, stage: Stage):
    stage.settings["deduplicate"] |= {"near": False, "exact": False, "threshold": 1.0}
    stage.settings["group_by"] = "text"
    texts = sorted({row["messages"][1]["content"] for row in FILLER if len(row["messages"][1]["content"]) > 60})[:8]
    stage.run(write_lines(tmp_path / "raw.jsonl", [chat("q", text, text=text) for text in texts] * 2))
    ids = [row["id"] for row in stage.records()]
    assert len(ids) == len(set(ids)) == 2 * len(texts), "a kept copy has an id of its own"
    assert sum(identity.endswith("-2") for identity in ids) == len(texts)
