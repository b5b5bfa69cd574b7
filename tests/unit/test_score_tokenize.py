"""Words as the language has them."""

import unicodedata

import pytest

from scripts.common.language import language_of
from scripts.score.tokenize_text import normalised_for_match, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("L'arbitre n'a pas vu l’action.", ["L'", "arbitre", "n'", "a", "pas", "vu", "l'", "action"]),
        (
            "Qu'il entre, jusqu'à la fin, lorsqu'on joue",
            ["Qu'", "il", "entre", "jusqu'", "à", "la", "fin", "lorsqu'", "on", "joue"],
        ),
        ("Aujourd'hui, quelqu'un d'habile", ["Aujourd'hui", "quelqu'un", "d'", "habile"]),
        ("la demi-finale, peut-être à Saint-Étienne", ["la", "demi-finale", "peut-être", "à", "Saint-Étienne"]),
        ("A-t-il marqué ? Donne-la-moi !", ["A", "-t-il", "marqué", "Donne", "-la", "-moi"]),
        ("rendez-vous au-delà", ["rendez-vous", "au-delà"]),
        ("90'+3, 2-1, 3,5 km à 20:45", ["90'+3", "2", "1", "3,5", "km", "à", "20:45"]),
        ("« But ! » … – 100 %", ["But", "100"]),
        ("", []),
    ],
)
def test_french_words(text, expected):
    assert words(text, "fr-FR") == expected


def test_vietnamese_words_are_syllables_in_nfc():
    text = "Bãi rùa đẻ, năm 2024: “trứng” rùa!"
    expected = ["Bãi", "rùa", "đẻ", "năm", "2024", "trứng", "rùa"]
    assert words(text, "vi") == expected
    assert words(unicodedata.normalize("NFD", text), "vi") == expected


def test_the_two_places_of_a_vietnamese_tone_mark_are_one_word():
    assert words("hoà khoẻ thuỷ", "vi") == words("hòa khỏe thủy", "vi")
    assert words("quý quỳ hoàng toán", "vi") == ["quý", "quỳ", "hoàng", "toán"]


def test_other_languages():
    assert words("Don't re-enter, 3.5!", "en") == ["Don't", "re-enter", "3.5"]
    assert words("日本の2人", "ja") == ["日", "本", "の", "2", "人"]
    assert words("हिन्दी में") == ["हिन्दी", "में"]


def test_language_of_a_tag():
    assert [language_of(tag) for tag in ("fr-CA", "vi", "zh_Hans", None, "")] == ["fr", "vi", "zh", "", ""]


def test_normalised_comparison_forgets_case_and_punctuation_but_no_accent():
    assert normalised_for_match("L’Élan, gagné !", "fr") == normalised_for_match("l'élan  GAGNÉ", "fr")
    assert normalised_for_match("élan", "fr") != normalised_for_match("elan", "fr")
