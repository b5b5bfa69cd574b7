"""Counts of n-grams for many records at once, against those that sacrebleu has for each."""

import random

import pytest
from sacrebleu.metrics import CHRF

from scripts.score import ngram_counts
from scripts.score.scoring_input import ScoringInput
from scripts.score.similarity import bleu, bleu_metric, chrf

IDEOGRAPHS = "".join(map(chr, range(0x4E00, 0x4E00 + 2000)))
ALPHABETS = ["ab ", " aé!«’ -45", "漢字仮名 ab。", IDEOGRAPHS + " ", "🦊👨‍👩‍👧 \n\t\u00a0x\ud800"]
LENGTHS = [0, 1, 3, 6, 20, 100]


def strange_pairs(source: random.Random, longest: int) -> list[dict]:
    """Return records with answers and expected answers of few or very many different characters, or without one."""

    def text(alphabet: str) -> str:
        return "".join(source.choices(alphabet, k=source.choice([*LENGTHS, longest if alphabet[0] == "一" else 200])))

    rows = []
    for number in range(40):
        alphabet = source.choice(ALPHABETS)
        answer = text(alphabet)
        others = [text(alphabet), answer, answer[: len(answer) // 2] + text(alphabet), None if number else "a"]
        rows.append({"id": str(number), "answer": answer, "expected": source.choice(others)})
    return rows


def by_sacrebleu(scorer, data: ScoringInput) -> list[list[int] | None]:
    pairs = zip(data.unified_texts, data.unified_expected, strict=True)
    return [
        None if expected is None else scorer._extract_corpus_statistics([answer], [[expected]])[0]
        for answer, expected in pairs
    ]


@pytest.mark.parametrize("language", [None, "fr", "zh", "ja"])
@pytest.mark.parametrize("block", [1, 1000, 200_000])
def test_each_record_has_the_statistics_of_sacrebleu_whatever_its_characters(monkeypatch, block, language):
    monkeypatch.setattr(ngram_counts, "BLOCK", block)
    data = ScoringInput(strange_pairs(random.Random(block), longest=3000), language)
    assert bleu(data).rows == by_sacrebleu(bleu_metric(language), data)
    assert chrf(data).rows == by_sacrebleu(CHRF(), data)
