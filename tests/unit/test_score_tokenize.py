"""Words as the language has them."""

import unicodedata

import pytest

from scripts.common.language import language_of
from scripts.score.tokenize_text import normalised_for_match, words


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("fr-FR", "L'arbitre n'a pas vu l’action.", "L' arbitre n' a pas vu l' action"),
        ("fr-FR", "Qu'il entre, jusqu'à la fin, lorsqu'on joue", "Qu' il entre jusqu' à la fin lorsqu' on joue"),
        ("fr-FR", "Aujourd'hui, quelqu'un d'habile", "Aujourd'hui quelqu'un d' habile"),
        ("fr-FR", "la demi-finale, peut-être à Saint-Étienne", "la demi-finale peut-être à Saint-Étienne"),
        ("fr-FR", "A-t-il marqué ? Donne-la-moi !", "A -t-il marqué Donne -la -moi"),
        ("fr-FR", "rendez-vous au-delà", "rendez-vous au-delà"),
        ("fr-FR", "90'+3, 2-1, 3,5 km à 20:45", "90'+3 2 1 3,5 km à 20:45"),
        ("fr-FR", "« But ! » … – 100 %", "But 100"),
        ("fr-FR", "", ""),
        ("vi", "Bãi rùa đẻ, năm 2024: “trứng” rùa!", "Bãi rùa đẻ năm 2024 trứng rùa"),
        ("vi", "quý quỳ hoàng toán", "quý quỳ hoàng toán"),
        ("en", "Don't re-enter, 3.5!", "Don't re-enter 3.5"),
        ("ja", "日本の2人", "日 本 の 2 人"),
        (None, "हिन्दी में", "हिन्दी में"),
    ],
)
def test_words_are_those_of_the_language_and_in_nfc(language, text, expected):
    assert words(text, language) == words(unicodedata.normalize("NFD", text), language) == expected.split()


def test_the_two_places_of_a_vietnamese_tone_mark_are_one_word():
    assert words("hoà khoẻ thuỷ", "vi") == words("hòa khỏe thủy", "vi")


def test_language_of_a_tag():
    assert [language_of(tag) for tag in ("fr-CA", "vi", "zh_Hans", None, "")] == ["fr", "vi", "zh", "", ""]


def test_normalised_comparison_forgets_case_and_punctuation_but_no_accent():
    assert normalised_for_match("L’Élan, gagné !", "fr") == normalised_for_match("l'élan  GAGNÉ", "fr")
    assert normalised_for_match("élan", "fr") != normalised_for_match("elan", "fr")
