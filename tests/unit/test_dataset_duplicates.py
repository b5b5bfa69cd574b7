"""Duplicates: exactly those that the definition names, the first of each stays, and the result is always the same."""

import random
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from scripts.dataset.deduplicate import (
    SLOTS,
    TextStore,
    exact_duplicates,
    folded,
    jaccard,
    near_duplicates,
    pair_across_splits,
    rows_per_band,
    shingles,
)
from tests.support.dataset_steps import Stage, chat, settings_of, write_lines

WORDS = ("but", "tir", "corner", "carton", "gardien", "poteau", "centre", "passe", "lucarne", "arrêt", "rừng", "biển")


def store(folder: Path, texts: list[str]) -> TextStore:
    result = TextStore(folder)
    for text in texts:
        result.add(text)
    return result


def edited(text: str, edits: int, rng: random.Random) -> str:
    """Return the text with some words replaced."""
    words = text.split()
    for _ in range(edits):
        words[rng.randrange(len(words))] = rng.choice(WORDS)
    return " ".join(words)


def texts_of_all_similarities(rng: random.Random, count: int) -> list[str]:
    originals = [" ".join(rng.choices(WORDS, k=rng.randint(1, 40))) for _ in range(count // 3)]
    return [edited(rng.choice(originals), rng.randint(0, 4), rng) for _ in range(count)]


def brute_force(texts: list[str], size: int, threshold: float) -> dict[int, float]:
    """Return what is to be removed, by the definition: compare each with all that stay before it."""
    sets = [shingles(text, size) for text in texts]
    stay, removed = [], {}
    for number, each in enumerate(sets):
        similar = max((jaccard(each, sets[other]) for other in stay), default=0.0)
        if similar >= threshold:
            removed[number] = similar
        else:
            stay.append(number)
    return removed


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.85, 0.95, 1.0])
@pytest.mark.parametrize("size", [1, 5, 9])
def test_near_duplicates_are_those_of_brute_force(size: int, threshold: float, tmp_path: Path):
    texts = texts_of_all_similarities(random.Random(size), 400)
    found = near_duplicates(store(tmp_path, texts), size, threshold, {})
    expected = brute_force(texts, size, threshold)
    assert {number: similarity for number, (_, similarity) in found.items()} == expected
    assert all(jaccard(shingles(texts[n], size), shingles(texts[m], size)) == s for n, (m, s) in found.items())
    assert expected, "the sample has duplicates"
    assert not set(found) & {first for first, _ in found.values()}, "what others repeat stays"


def test_no_pair_that_stays_reaches_the_threshold(tmp_path: Path):
    texts = texts_of_all_similarities(random.Random(3), 300)
    found = near_duplicates(store(tmp_path, texts), 5, 0.8, {})
    stay = [shingles(text, 5) for number, text in enumerate(texts) if number not in found]
    assert all(jaccard(one, other) < 0.8 for one, other in combinations(stay, 2))


def test_the_seed_of_the_permutations_changes_nothing(tmp_path: Path):
    texts = store(tmp_path, texts_of_all_similarities(random.Random(4), 300))
    assert near_duplicates(texts, 5, 0.8, {}, seed=1) == near_duplicates(texts, 5, 0.8, {}, seed=99)


def test_skipped_texts_are_neither_found_nor_repeated(tmp_path: Path):
    texts = store(tmp_path, ["un tir de loin", "un tir de loin !", "un tir de loin ?"])
    assert set(near_duplicates(texts, 5, 0.7, {0: 0})) == {2}


@pytest.mark.parametrize("texts", [[], ["seul"], ["", "", "a", "ab", "ab"]])
def test_tiny_and_empty_inputs(texts: list[str], tmp_path: Path):
    assert set(near_duplicates(store(tmp_path, texts), 5, 0.85, {})) == set(brute_force(texts, 5, 0.85))


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.85, 0.99])
def test_bands_miss_no_pair_at_the_threshold(threshold: float):
    rows = rows_per_band(threshold)
    assert (1 - threshold**rows) ** (SLOTS // rows) < 1e-7


def test_a_pair_across_splits_is_found_and_one_inside_is_not(tmp_path: Path):
    texts = store(tmp_path, ["la tête de Jovanic passe à côté", "autre chose", "la tête de Jovanic passe à côté"])
    assert pair_across_splits(texts, 5, 0.85, np.array([0, 0, 0])) is None
    assert pair_across_splits(texts, 5, 0.85, np.array([0, 0, 2])) == (0, 2, 1.0)


def test_exact_duplicates_point_to_the_first():
    ids = np.array([7, 3, 7, 9, 3, 7], np.uint64)
    assert exact_duplicates(ids) == {2: 0, 4: 1, 5: 0}
    assert exact_duplicates(np.zeros(0, np.uint64)) == {}


def test_case_and_punctuation_don_t_count_but_accents_do():
    assert folded("« But ! », dit-il…") == folded("but dit il")
    assert folded("pêche") != folded("pêché")
    assert folded("?!") == "?!"
    assert folded("⚽ But") == "⚽ but"


@pytest.fixture
def stage(tmp_path: Path, capsys: pytest.CaptureFixture) -> Stage:
    half = {"train": 0.5, "validation": 0.0, "test": 0.5}
    return Stage(tmp_path, settings_of(splits=half), capsys)


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


def test_removed_ones_are_listed_with_what_they_repeat(tmp_path: Path, stage: Stage):
    stage.settings["deduplicate"]["compare"] = "answer"
    records = [
        chat("q", LONG + ".", n=1),
        chat("autre question", LONG, n=2),
        chat("q", LONG + ".", n=3),
        chat("autre question", LONG, n=4),
        *FILLER,
    ]
    raw = write_lines(tmp_path / "raw.jsonl", records)
    stage.run(raw)
    listed = [row for row in stage.lines("duplicates") if row["expected"].startswith("Larrieu")]
    assert [(row["origin"][-1], row["kind"], row["duplicate_of"]["origin"][-1]) for row in listed] == [
        ("2", "near", "1"),
        ("3", "exact", "1"),
        ("4", "near", "1"),
    ]
    assert listed[0]["record"]["meta"] == {"n": 2}, "a removed record is never lost"
    facts = stage.facts("split")
    assert facts["read"] == facts["kept"] + sum(facts["duplicates"].values()) == len(records)
    shown = [row for row in stage.facts("ledger")["duplicates"] if row["text"].startswith("Larrieu")]
    assert [row["duplicate_of"] for row in shown] == [f"{raw}:1"] * 3


def test_near_duplicates_of_different_groups_are_removed_too(tmp_path: Path, stage: Stage):
    stage.settings["group_by"] = "match"
    records = [
        record | {"match": f"m{n}"} for n, record in enumerate([chat("q", LONG), chat("q", LONG + "!"), *FILLER])
    ]
    stage.run(write_lines(tmp_path / "raw.jsonl", records))
    assert sum(row["expected"].startswith("Larrieu") for row in stage.records()) == 1


def test_contradicting_labels_of_duplicates_are_said(tmp_path: Path, stage: Stage):
    stage.settings["label"] = "type"
    records = [record | {"type": f"t{n % 2}"} for n, record in enumerate([chat("q", LONG), chat("q", LONG), *FILLER])]
    stage.run(write_lines(tmp_path / "raw.jsonl", records))
    assert stage.facts("ledger")["duplicates"][0]["labels"] == ["t1", "t0"]
    assert "labels differ: t1, t0" in (tmp_path / "ledger.html").read_text(encoding="utf-8")


def test_duplicates_that_straddle_splits_fail_the_build(tmp_path: Path, stage: Stage):
    stage.settings["deduplicate"]["near"] = False
    records = [chat("q", f"{LONG} {number}") for number in range(30)]
    assert stage.ingest(write_lines(tmp_path / "raw.jsonl", records)) == 0
    assert stage.split() == 1
    error = stage.error()
    assert "are near duplicates in different splits (similarity 0.9" in error
    assert error.endswith("; set deduplicate.near to true, or keep them in one group by group_by")
    stage.settings["deduplicate"]["compare"] = "answer"
    assert stage.split() == 1
    assert stage.error().endswith(", or set deduplicate.compare to conversation")
    assert not (tmp_path / "train.jsonl").exists()


def test_duplicates_may_stay_when_they_share_a_group(tmp_path: Path, stage: Stage):
    stage.settings["deduplicate"] |= {"near": False, "exact": False}
    stage.settings["group_by"] = "text"
    records = [
        chat("q", text, text=text) for text in [LONG, *sorted({f["messages"][1]["content"] for f in FILLER})[:8]]
    ]
    records = [record for record in records if len(record["text"]) > 60] * 2
    stage.settings["deduplicate"]["threshold"] = 1.0
    stage.run(write_lines(tmp_path / "raw.jsonl", records))
    ids = [row["id"] for row in stage.records()]
    assert len(ids) == len(set(ids)) == len(records), "a kept copy has an id of its own"
    assert sum(identity.endswith("-2") for identity in ids) == len(records) // 2
