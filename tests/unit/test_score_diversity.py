"""Distinct words, repetition, lengths and phrases, on answers small enough to count by hand."""

import random

import pytest

from scripts.score.bootstrap import estimate
from scripts.score.measure import measured
from scripts.score.metrics import METRICS
from scripts.score.scoring_input import NotApplicableError, ScoringInput
from tests.support.score_fixtures import answer_rows


def of(*answers: str, **settings) -> ScoringInput:
    template = answer_rows("fr")[0]
    return ScoringInput([{**template, "id": str(i), "answer": a} for i, a in enumerate(answers)], "fr", **settings)


def value(metric: str, data: ScoringInput):
    return estimate(METRICS[metric].statistic, measured(metric, data).rows, 500)


def test_distinct_counts_different_words_over_all_words():
    answers = of("le ballon sort", "le ballon entre", "but")
    assert value("distinct_1", answers).value == pytest.approx(5 / 7)
    assert value("distinct_2", answers).value == pytest.approx(3 / 4)


def test_the_interval_of_distinct_is_as_wide_as_fresh_samples_spread():
    generator = random.Random(4)
    vocabulary = [f"mot{i}" for i in range(300)]
    texts = [" ".join(generator.choices(vocabulary, k=generator.randint(4, 20))) for _ in range(240 * 25)]
    found = [value("distinct_1", of(*texts[start : start + 25])) for start in range(0, len(texts), 25)]
    truth = sum(each.value for each in found[:120]) / 120
    assert sum(each.low <= truth <= each.high for each in found[120:]) / 120 >= 0.9


def test_repetition_is_the_share_of_word_triples_said_before_and_of_quadruples_that_others_have():
    # a b a b a b: triples aba bab aba bab, two of four repeat an earlier one.
    assert measured("repetition", of("a b a b a b", "un deux trois quatre", "but")).rows == [[0.5], [0.0], None]
    # "a b c d e" has abcd, bcde; "a b c d f" has abcd, bcdf; the third shares none.
    answers = of("a b c d e", "a b c d f", "u v w x")
    assert measured("repetition_across", answers).per_record == [0.5, 0.5, 0.0]
    assert value("repetition_across", answers).value == pytest.approx(1 / 3)


def test_lengths_seconds_and_answers_that_are_finished_which_an_empty_one_is_not():
    answers = of("un", "un deux trois", " \n", "", "un deux trois quatre cinq six")
    for row, seconds, stop in zip(answers.answers, (1, 2, 2.5, 3, 10), ("end", "length", *["end"] * 3), strict=True):
        row.update(seconds=seconds, stop=stop)
    assert value("length_mean", answers).value == pytest.approx(2)
    assert value("length_variation", of("a", "a b c", "a b c d e")).value == pytest.approx(2 / 3)
    assert value("seconds_p50", answers).value == 2.5
    assert value("seconds_p95", answers).value == pytest.approx(8.6)
    assert measured("finished", answers).rows == [[1], [0], [0], [0], [1]]


def test_generic_phrases_are_patterns_found_anywhere_case_apart_and_not_looked_for_in_an_empty_answer():
    phrases = {"generic_phrases": ("quel match", r"équipes\b")}
    answers = of("Quel match !", "Il marque.", "quel MATCH", "", "Les deux équipes", **phrases)
    assert measured("generic_phrase_rate", answers).rows == [[1], [0], [1], None, [1]]
    with pytest.raises(NotApplicableError, match="every answer is empty"):
        measured("generic_phrase_rate", of("", "", **phrases))


@pytest.mark.parametrize("metric", ["distinct_1", "distinct_2", "repetition_across"])
def test_the_influence_of_a_record_is_what_the_metric_loses_without_it(metric):
    answers = ["a b c d e", "a b c d f g", "c d e f g", "u v w x y", "u v w x z a"]
    whole = value(metric, of(*answers)).value
    without = [value(metric, of(*answers[:i], *answers[i + 1 :])).value for i in range(len(answers))]
    mean = sum(without) / len(without)
    expected = [whole + (len(answers) - 1) * (mean - other) for other in without]
    assert [row[0] for row in measured(metric, of(*answers)).rows] == pytest.approx(expected)
