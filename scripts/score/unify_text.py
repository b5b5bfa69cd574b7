"""One form for the characters that people and models write in several: for metrics of n-grams, words and patterns.

Exact match, character error rate and spans compare texts as they are, in NFC.
"""

import functools
import re
import unicodedata

import regex

from scripts.common.language import language_of

APOSTROPHES = "'’ʼ‘′"
HYPHENS = "‐‑-"
LIGATURES = {"œ": "oe", "Œ": "Oe", "æ": "ae", "Æ": "Ae"}
FORMS = {
    **dict.fromkeys(APOSTROPHES[1:], "'"),
    **dict.fromkeys(HYPHENS[:-1], "-"),
    "\u00ad": "",  # a soft hyphen
    **LIGATURES,
}
IN_CAPITALS = regex.compile(r"[ŒÆ](?=\p{Lu})|(?<=\p{Lu})[ŒÆ]")
# In NFD: a tone mark on the second vowel of an open syllable (hoà, khoẻ, thuỷ), which also stands on the first one.
VIETNAMESE_TONE = regex.compile(
    r"(?<!q)(o(?=[ae])|u(?=y))([aey])([\u0300\u0301\u0303\u0309\u0323])(?![\p{L}\p{M}])", regex.IGNORECASE
)
# In a regular expression: what is kept (escapes, character classes, flags), or else a form of a character.
NAMED = re.compile(
    r"\\N\{[^}]*\}|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?[a-zA-Z]*-[a-z]+[:)]"
    rf"|\\[^{APOSTROPHES}{HYPHENS}]|\\?(?P<form>[{''.join(LIGATURES)}{APOSTROPHES}{HYPHENS}])",
    re.DOTALL,
)


def unified(text: str, tag: str | None = None) -> str:
    """Return a text in NFC with one form of each character that has several.

    Apostrophes and hyphens are those of ASCII (dashes stay), soft hyphens are removed, œ and æ are two letters. In
    Vietnamese a tone mark on `oa`, `oe` or `uy` stands on the first vowel (hoà = hòa).
    """
    if text.isascii():
        return text
    text = unicodedata.normalize("NFC", text)
    if "Œ" in text or "Æ" in text:
        text = IN_CAPITALS.sub(lambda found: LIGATURES[found[0]].upper(), text)
    for form, kept in FORMS.items():  # most texts have one or two of them: much faster than `translate`
        if form in text:
            text = text.replace(form, kept)
    if language_of(tag) != "vi":
        return text
    return unicodedata.normalize("NFC", VIETNAMESE_TONE.sub(r"\1\3\2", unicodedata.normalize("NFD", text)))


@functools.cache
def pattern_for(pattern: str, *, is_unified: bool) -> re.Pattern:
    """Return a pattern, in NFC and ignoring case, for texts as they are or for unified ones.

    It matches any form of the apostrophes and hyphens that it names outside of character classes (`[...]`), and in a
    unified text `oe` for `œ`.
    """

    def any_form(found: re.Match) -> str:
        form = found["form"]
        if form is None:
            return found[0]
        if form in LIGATURES:
            return f"(?:{LIGATURES[form]})" if is_unified else form
        return f"[{APOSTROPHES if form in APOSTROPHES else HYPHENS}]"

    return re.compile(NAMED.sub(any_form, unicodedata.normalize("NFC", pattern)), re.IGNORECASE)
