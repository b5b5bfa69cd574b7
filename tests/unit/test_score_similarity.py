"""Perplexity, BLEU, chrF, ROUGE-L and matches against hand-computed values and the libraries themselves."""

import math

import pytest
from sacrebleu.metrics import BLEU, CHRF

from scripts.score.bootstrap import estimate
from scripts.score.measure import measured
from scripts.score.metrics import METRICS
from scripts.score.scoring_input import NotApplicableError, ScoringInput
from scripts.score.similarity import signatures
from tests.support.score_fixtures import answer_rows, babble, first_half, likelihood_rows


def value(metric: str, data: ScoringInput) -> float:
    return estimate(METRICS[metric].statistic, measured(metric, data).rows, 200).value


@pytest.mark.parametrize("language", ["fr", "vi"])
def test_answers_that_are_the_expected_ones_are_perfect_short_ones_too(language):
    rows = [*answer_rows(language), {**answer_rows(language)[0], "answer": "But", "expected": "But"}]
    for data in (rows, rows[-1:] * 3):
        perfect = ScoringInput(data, language)
        assert [value(metric, perfect) for metric in ("bleu", "chrf")] == pytest.approx([100, 100])
        assert [value(m, perfect) for m in ("rouge_l", "exact_match", "normalised_match")] == [1, 1, 1]


@pytest.mark.parametrize("language", ["fr", "vi", None, "ja"])
@pytest.mark.parametrize("change", [first_half, babble, lambda text, i: "", lambda text, i: f"{text.split()[0]} x"])
def test_bleu_and_chrf_are_those_of_sacrebleu(language, change):
    rows = answer_rows(language if language in ("fr", "vi") else "fr", change)
    answers, expected = [row["answer"] for row in rows], [[row["expected"] for row in rows]]
    tokenizer = {"fr": "intl", "vi": "intl", None: "13a", "ja": "char"}[language]
    found = ScoringInput(rows, language)
    bleu = BLEU(tokenize=tokenizer, effective_order=True)
    assert value("bleu", found) == pytest.approx(bleu.corpus_score(answers, expected).score, abs=1e-9)
    assert value("chrf", found) == pytest.approx(CHRF().corpus_score(answers, expected).score, abs=1e-9)


def test_the_signature_says_how_bleu_and_chrf_were_computed():
    found = signatures("fr")
    assert {"tok:intl", "eff:yes"} <= set(found["bleu"].split("|"))
    assert "nc:6" in found["chrf"]
    assert "tok:13a" in signatures("en")["bleu"]


def test_rouge_l_counts_words_with_accents():
    row = {**answer_rows("fr")[0], "expected": "l'été a été très beau", "answer": "l'été très beau"}
    # Words: l' été a été très beau (6) and l' été très beau (4); the longest common subsequence has 4.
    assert value("rouge_l", ScoringInput([row, row], "fr")) == pytest.approx(2 * (4 / 4) * (4 / 6) / (4 / 4 + 4 / 6))
    wrong = {**row, "answer": "l'ete tres beau"}
    assert value("rouge_l", ScoringInput([wrong, wrong], "fr")) < 0.5


def test_matches_raw_and_normalised():
    answers = ["Le but !", " Le but !\n", "le BUT", "Le but ?", "Le butin"]
    rows = [{**answer_rows("fr")[0], "expected": "Le but !", "answer": answer} for answer in answers]
    assert value("exact_match", ScoringInput(rows, "fr")) == pytest.approx(2 / 5)
    assert value("normalised_match", ScoringInput(rows, "fr")) == pytest.approx(4 / 5)
    mixed = ScoringInput([rows[0], {**rows[1], "expected": None}], "fr")
    assert measured("exact_match", mixed).rows == [[1], None]  # without an expected answer it is left out


def test_perplexity_is_exp_of_the_mean_over_tokens_and_over_characters():
    likelihood = {row["id"]: row for row in likelihood_rows("fr", perplexity=12.0)}
    nll = sum(row["nll"] for row in likelihood.values())
    found = ScoringInput(answer_rows("fr"), "fr", likelihood=likelihood)
    assert value("perplexity", found) == pytest.approx(math.exp(nll / sum(r["tokens"] for r in likelihood.values())))
    per_character = math.exp(nll / sum(r["characters"] for r in likelihood.values()))
    assert value("perplexity_per_character", found) == pytest.approx(per_character)


@pytest.mark.parametrize(
    ("metric", "change", "records", "reason"),
    [
        ("bleu", {"expected": None}, 8, "no record has an expected answer"),
        ("perplexity", {}, 8, "the likelihood of expected answers was not computed for these records"),
        ("exact_match", {}, 0, "there is no record"),
        ("generic_phrase_rate", {}, 8, "score.generic_phrases is not given"),
        ("length_variation", {}, 1, "one answer has no variation"),
        ("distinct_2", {"answer": "But"}, 8, "no answer has 2 words"),
    ],
)
def test_a_metric_that_does_not_apply_says_why(metric, change, records, reason):
    with pytest.raises(NotApplicableError, match=f"^{reason}$"):
        measured(metric, ScoringInput([row | change for row in answer_rows("fr")[:records]], "fr"))
