"""Duplicates: exactly those that the definition names, the first of each stays, and the result is always the same."""

import random
from pathlib import Path

import numpy as np
import pytest

from scripts.dataset.deduplicate import NearDuplicates, TextStore, folded, jaccard, shingles
from tests.support.dataset_steps import Stage, chat, write_lines

WORDS = ("but", "tir", "corner", "carton", "gardien", "poteau", "centre", "passe", "lucarne", "arrêt", "rừng", "biển")


def near_duplicates(folder: Path, texts: list[str], size: int, threshold: float) -> dict[int, tuple[int, float]]:
    store = TextStore(folder)
    for text in texts:
        store.add(text)
    return NearDuplicates(store, np.zeros(len(texts), np.uint64), size, threshold, folder, 1).find({})


def texts_of_all_similarities(rng: random.Random, count: int) -> list[str]:
    """Return texts, many of them another one with some words replaced."""
    originals = [rng.choices(WORDS, k=rng.randint(1, 40)) for _ in range(count // 3)]
    texts = [list(rng.choice(originals)) for _ in range(count)]
    for words in texts:
        for _ in range(rng.randint(0, 4)):
            words[rng.randrange(len(words))] = rng.choice(WORDS)
    return [" ".join(words) for words in texts]


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
    found = near_duplicates(tmp_path, texts, size, threshold)
    expected = brute_force(texts, size, threshold)
    assert {number: similarity for number, (_, similarity) in found.items()} == expected
    assert all(jaccard(shingles(texts[n], size), shingles(texts[m], size)) == s for n, (m, s) in found.items())
    assert expected, "the sample has duplicates"
    assert not set(found) & {first for first, _ in found.values()}, "what others repeat stays"
    for few in ([], ["seul"], ["", "", "a", "ab", "ab"]):
        assert set(near_duplicates(tmp_path, few, size, threshold)) == set(brute_force(few, size, threshold))


def test_case_and_punctuation_don_t_count_but_accents_do():
    assert folded("« But ! », dit-il…") == folded("but dit il")
    assert folded("pêche") != folded("pêché")
    assert folded("?!") == "?!"
    assert folded("⚽ But") == "⚽ but"


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


def test_duplicates_may_stay_when_they_share_a_group(tmp_path: Path, stage: Stage):
    stage.settings["deduplicate"] |= {"near": False, "exact": False, "threshold": 1.0}
    stage.settings["group_by"] = "text"
    texts = sorted({row["messages"][1]["content"] for row in FILLER if len(row["messages"][1]["content"]) > 60})[:8]
    stage.run(write_lines(tmp_path / "raw.jsonl", [chat("q", text, text=text) for text in texts] * 2))
    ids = [row["id"] for row in stage.records()]
    assert len(ids) == len(set(ids)) == 2 * len(texts), "a kept copy has an id of its own"
    assert sum(identity.endswith("-2") for identity in ids) == len(texts)
