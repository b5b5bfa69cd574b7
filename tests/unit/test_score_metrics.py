"""Metrics of text against values counted by hand, and BLEU and chrF against sacrebleu itself."""

import math
import unicodedata

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF

from scripts.common.records import Record, content_id
from scripts.config.runs import ASSISTANT_PHRASES
from scripts.score.intervals import interval, point
from scripts.score.measure import measured, single_values
from scripts.score.metrics import METRICS, has_quality_gate
from scripts.score.reference import Reference, read_reference
from scripts.score.scoring_input import MetricResult, NotApplicableError, ScoringInput
from scripts.score.similarity import signatures
from scripts.score.statistics import COLUMNS
from tests.support.data import load
from tests.support.score_fixtures import (
    answer_rows,
    babble,
    first_half,
    gate,
    likelihood_rows,
    record_rows,
    scored,
    write_rows,
)

TABLE = load("metrics.yaml")
SETTINGS = {
    "completions": ("What a goal by the keeper! 🔥", "Off the bar and in!"),
    "generic_phrases": ("quel match", r"équipes\b"),
    "assistant_phrases": ASSISTANT_PHRASES,
}


def of(*answers: str, expected: str | None = "Le but !", completions=None, **settings) -> ScoringInput:
    rows = [{**answer_rows("fr")[0], "id": str(i), "answer": a, "expected": expected} for i, a in enumerate(answers)]
    reference = None if completions is None else Reference(tuple(completions), "en")
    return ScoringInput(rows, "fr", reference=reference, **settings)


@pytest.mark.parametrize("metric", ["bleu", "chrf", "length_variation", "perplexity", "repetition", "seconds_p95"])
def test_the_value_of_a_single_record_is_that_of_a_data_set_with_this_record_only(metric):
    kind = METRICS[metric].statistic
    rows = [None, *np.random.default_rng(0).integers(1, 9, (4, COLUMNS[kind])).tolist(), None]
    alone = [None if row is None else point(kind, np.array([row], dtype=float)) for row in rows]
    expected = [None if value is None or math.isnan(value) else pytest.approx(value) for value in alone]
    assert single_values(metric, MetricResult(rows)) == expected
    assert single_values(metric, MetricResult([None, None])) == [None, None]


def value(metric: str, data: ScoringInput) -> float:
    return interval(METRICS[metric].statistic, measured(metric, data).rows).value


@pytest.mark.parametrize(("metric", "answers", "values"), TABLE["single"])
def test_the_values_of_single_answers_are_those_counted_by_hand(metric, answers, values):
    assert single_values(metric, measured(metric, of(*answers, **SETTINGS))) == pytest.approx(values)


@pytest.mark.parametrize(("metric", "answers", "expected"), TABLE["together"])
def test_the_value_of_all_answers_is_the_one_counted_by_hand(metric, answers, expected):
    assert value(metric, of(*answers, **SETTINGS)) == pytest.approx(expected)


@pytest.mark.parametrize(("metric", "answers", "given", "reason"), TABLE["reasons"])
def test_a_metric_that_does_not_apply_says_why(metric, answers, given, reason):
    with pytest.raises(NotApplicableError, match=f"^{reason}$"):
        measured(metric, of(*answers, **given))


@pytest.mark.parametrize("language", ["fr", "vi"])
def test_answers_that_are_the_expected_ones_are_perfect_short_ones_too(language):
    rows = [*answer_rows(language), {**answer_rows(language)[0], "answer": "But", "expected": "But"}]
    for data in (rows, rows[-1:] * 3):
        perfect = ScoringInput(data, language)
        assert [value(metric, perfect) for metric in ("bleu", "chrf")] == pytest.approx([100, 100])
        assert [value(m, perfect) for m in ("rouge_l", "exact_match", "normalised_match")] == [1, 1, 1]


@pytest.mark.parametrize("language", ["fr", "vi", None, "ja"])
@pytest.mark.parametrize("change", [first_half, babble, lambda text, i: "", lambda text, i: f"{text.split()[0]} x"])
def test_bleu_and_chrf_are_those_of_sacrebleu_and_the_signature_says_how_they_were_computed(language, change):
    rows = answer_rows("vi" if language == "vi" else "fr", change)
    answers, expected = [row["answer"] for row in rows], [[row["expected"] for row in rows]]
    tokenizer = {"fr": "intl", "vi": "intl", None: "13a", "ja": "char"}[language]
    found, signed = ScoringInput(rows, language), signatures(language)
    bleu = BLEU(tokenize=tokenizer, effective_order=True)
    assert value("bleu", found) == pytest.approx(bleu.corpus_score(answers, expected).score, abs=1e-9)
    assert value("chrf", found) == pytest.approx(CHRF().corpus_score(answers, expected).score, abs=1e-9)
    assert {f"tok:{tokenizer}", "eff:yes"} <= set(signed["bleu"].split("|"))
    assert "nc:6" in signed["chrf"]


def test_rouge_l_counts_words_with_accents():
    # l' été a été très beau (6) and l' été très beau (4): the longest common subsequence has 4 (2 without accents).
    data = of("l'été très beau", "l'ete tres beau", expected="l'été a été très beau")
    expected = [2 * precision * recall / (precision + recall) for precision, recall in ((4 / 4, 4 / 6), (2 / 4, 2 / 6))]
    assert single_values("rouge_l", measured("rouge_l", data)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("language", "answer", "expected"),
    [
        (
            "fr",
            "L'oeuvre du mi-temps : n'oublions pas l'entrée",
            "L’œuvre du mi\u2011temps : n’oub\u00adlions pas l’entrée",
        ),
        ("en", "It's a well-known back-heel, isn't it?", "It’s a well\u2010known back\u2011heel, isn’t it?"),
        ("vi", "Hòa bình ở KHÁNH HÒA, sức khỏe", "Hoà bình ở KHÁNH HOÀ, sức khoẻ"),
        ("fr", "Une tete\u0302 e\u0301crase\u0301e", "Une tetê écrasée"),
    ],
)
def test_forms_of_a_character_are_one_for_words_and_ngrams_and_differ_for_an_exact_match(language, answer, expected):
    data = ScoringInput(of(answer, expected=expected).answers, language)
    assert [value(metric, data) for metric in ("bleu", "chrf")] == pytest.approx([100, 100])
    assert [value(metric, data) for metric in ("rouge_l", "normalised_match")] == [1, 1]
    is_same = unicodedata.normalize("NFC", answer) == unicodedata.normalize("NFC", expected)
    assert (value("exact_match", data) == 1, value("character_error_rate", data) == 0) == (is_same, is_same)
    dashes = ScoringInput(of("un but \u2013 le second", expected="un but - le second").answers, language)
    assert value("chrf", dashes) < 100


@pytest.mark.parametrize(
    ("pattern", "text", "is_found"),
    [
        ("n'hésitez", "N’hésitez", True),
        ("n’hésitez", "n'he\u0301sitez", True),
        ("he\u0301", "hé", True),
        ("porte-à", "porte\u2011à", True),
        (r"porte\-a", "porte\u2010a", True),
        ("porte-à", "porte\u2013à", False),
        ("abso", "ab\u00adso", True),
        ("cœur", "coeur", True),
        ("coeur", "CŒUR", True),
        ("n[’]h", "n’h", True),
        ("n[’]h", "n'h", False),
        ("a[\u2010-\u2015]b", "a\u2013b", True),  # a range from a hyphen to a dash
        ("(?-i:e-f)", "e\u2010f", True),
    ],
)
def test_a_pattern_matches_each_form_of_what_it_names_outside_of_character_classes(pattern, text, is_found):
    data = of(text, generic_phrases=(pattern,))
    assert measured("generic_phrase_rate", data).rows == [[int(is_found)]]


def test_a_record_without_an_expected_answer_is_left_out():
    mixed = ScoringInput([of("Le but !").answers[0], of("a", expected=None).answers[0]], "fr")
    assert measured("exact_match", mixed).rows == [[1], None]


def test_the_character_error_rate_sums_before_it_divides():
    pairs = (("abcd", "abxd"), ("ab", "abcdef"), ("e\u0301", "é"))
    rows = [of(answer, expected=expected).answers[0] for expected, answer in pairs]
    assert value("character_error_rate", ScoringInput(rows)) == pytest.approx((1 + 4 + 0) / (4 + 2 + 1))
    assert not any(METRICS[metric].is_share for metric in ("character_error_rate", "length_ratio"))


def test_perplexity_is_exp_of_the_mean_over_tokens_and_over_characters():
    likelihood = {row["id"]: row for row in likelihood_rows("fr", perplexity=12.0)}
    nll = sum(row["nll"] for row in likelihood.values())
    found = ScoringInput(answer_rows("fr"), "fr", likelihood=likelihood)
    for metric, unit in (("perplexity", "tokens"), ("perplexity_per_character", "characters")):
        assert value(metric, found) == pytest.approx(math.exp(nll / sum(row[unit] for row in likelihood.values())))


def test_seconds_and_answers_that_are_finished_which_an_empty_one_is_not():
    answers = of("un", "un deux trois", " \n", "", "un deux trois quatre cinq six")
    for row, seconds, stop in zip(answers.answers, (1, 2, 2.5, 3, 10), ("end", "length", *["end"] * 3), strict=True):
        row.update(seconds=seconds, stop=stop)
    assert [value(metric, answers) for metric in ("seconds_p50", "seconds_p95")] == pytest.approx([2.5, 8.6])
    assert measured("finished", answers).rows == [[1], [0], [0], [0], [1]]


def test_answers_that_were_made_in_batches_have_no_times_and_no_cost():
    answers = of("un", "deux", "trois", price_per_hour=3.6)
    for row, times in zip(answers.answers, ({}, {"seconds": 2}, {"seconds": 4}), strict=True):
        del row["seconds"]
        row.update(times)
    assert measured("seconds_p95", answers).rows == [None, [2], [4]]
    assert (value("seconds_p50", answers), value("cost_per_1000", answers)) == pytest.approx((3, 3))
    for row in answers.answers:
        row.pop("seconds", None)
    for metric in ("seconds_p50", "seconds_p95", "cost_per_1000"):
        with pytest.raises(NotApplicableError, match="answers of this variant were generated in batches"):
            measured(metric, answers)


@pytest.mark.parametrize("metric", ["distinct_1", "distinct_2"])
def test_the_influence_of_a_record_is_what_the_metric_loses_without_it(metric):
    answers = ["a b c d e", "a b c d f g", "c d e f g", "u v w x y", "u v w x z a"]
    whole = value(metric, of(*answers))
    without = [value(metric, of(*answers[:i], *answers[i + 1 :])) for i in range(len(answers))]
    mean = sum(without) / len(without)
    expected = [whole + (len(answers) - 1) * (mean - other) for other in without]
    assert [row[0] for row in measured(metric, of(*answers)).rows] == pytest.approx(expected)


def test_repetition_looks_five_answers_back_in_the_order_of_match_and_minute_or_of_the_raw_lines():
    said = {"a": ["X Y Z", "I J K", "c c c", "d d d", "e e e"], "b": ["X Y Z", "f f f", "I J K"]}
    minutes = {"a": ["9'", "12'", "45'", "45'+2", "46'"], "b": [1, "1'+1", "90'+10"]}
    told = [(url, minutes[url][i], text) for url, texts in said.items() for i, text in enumerate(texts)]
    order = (7, 2, 5, 0, 6, 3, 1, 4)
    urls, times, texts = zip(*(told[place] for place in order), strict=True)
    answers = of(*texts).answers
    by_column = record_rows(answers, url=urls, time=times)
    by_line = [{**row, "origin": f"raw.json:{place + 8}"} for row, place in zip(by_column, order, strict=True)]
    by_group = [{**row, "origin": f"raw.json:9#{place + 8}"} for row, place in zip(by_column, order, strict=True)]
    by_group = [{**row, "group": url} for row, url in zip(by_group, urls, strict=True)]
    for records, order_by in ((by_column, ("url", "time")), (by_line, ()), (by_group, ())):
        data = ScoringInput(answers, records={row["id"]: row for row in records}, order_by=order_by)
        # X Y Z is said five answers later again, in the next match, and I J K six answers later.
        assert measured("repetition_recent", data).rows == [[int(place == 5)] for place in order]


@pytest.mark.parametrize(
    ("metric", "variant", "expected"),
    [
        ("perplexity", "shipped", True),
        ("chrf", "q4_k_m", True),
        ("perplexity", "adapter", False),
        ("finished", "shipped", False),
        ("style_overlap", "shipped", False),
    ],
)
def test_a_gate_of_quality_is_on_the_shipped_variant_and_compares_with_expected_answers(metric, variant, expected):
    other = gate("length_mean")
    assert has_quality_gate({"a": other, "b": gate(metric, variant=variant)}, "q4_k_m") is expected
    assert not has_quality_gate({}, "q4_k_m")


def test_assistants_are_known_by_what_they_say_and_no_fan_is_taken_for_one():
    said = load("assistant_phrases.yaml")
    for share, texts in ((1, said["assistants"]), (0, said["fans"])):
        found = single_values("assistant_phrase_rate", measured("assistant_phrase_rate", of(*texts, **SETTINGS)))
        assert dict(zip(texts, found, strict=True)) == dict.fromkeys(texts, share)


def test_the_reference_is_each_different_last_answer_of_the_training_split(tmp_path):
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "!"}]
    rows = [{"id": "a", "messages": [*turns, {"role": "assistant", "content": answer}]} for answer in ("G", "S", "G")]
    assert read_reference(write_rows(tmp_path / "train.jsonl", rows), "en").texts == ("G", "S")


def test_the_step_compares_with_the_training_split_and_says_how_it_writes(tmp_path):
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "Quelle tête de Tessonnier ! 🔥"}]
    reference = write_rows(tmp_path / "train.jsonl", [Record(content_id(messages), messages).to_row()])
    phrases = {"assistant_phrases": list(ASSISTANT_PHRASES)}
    found = scored(tmp_path, answer_rows("fr"), score=phrases, more=("--reference", reference))
    assert found["metrics"]["style_overlap"]["value"] > 0
    assert found["metrics"]["assistant_phrase_rate"]["value"] == 0
    assert found["reference"] == {"completions": 1, "length_mean": 4, "exclamation_rate": 1, "emoji_rate": 1}
