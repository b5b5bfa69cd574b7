"""Words as the language has them."""

import unicodedata

import pytest

from scripts.common.language import language_of
from scripts.score.tokenize_text import normalised_for_match, words
from tests.support.data import load


@pytest.mark.parametrize(("language", "text", "expected"), load("words.yaml"))
def test_words_are_those_of_the_language_and_in_nfc(language, text, expected):
    assert words(text, language) == words(unicodedata.normalize("NFD", text), language) == expected.split()


def test_the_two_places_of_a_vietnamese_tone_mark_are_one_word():
    assert words("hoà khoẻ thuỷ", "vi") == words("hòa khỏe thủy", "vi")


def test_language_of_a_tag():
    assert [language_of(tag) for tag in ("fr-CA", "vi", "zh_Hans", None, "")] == ["fr", "vi", "zh", "", ""]


def test_normalised_comparison_forgets_case_and_punctuation_but_no_accent():
    assert normalised_for_match("L’Élan, gagné !", "fr") == normalised_for_match("l'élan  GAGNÉ", "fr")
    assert normalised_for_match("élan", "fr") != normalised_for_match("elan", "fr")
