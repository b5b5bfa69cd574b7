"""Split text into words by language, for lengths, ROUGE-L, distinct-n and repetition.

French: elided words are separate (l' homme, qu' il), compounds stay whole (demi-finale, peut-être), pronouns after a
verb are split off (a-t-il -> a -t-il). Vietnamese: syllables. Languages written without spaces: single characters.
All others: letters and digits, inner apostrophes and hyphens kept. Punctuation is dropped.
"""

import unicodedata

import regex

from scripts.common.language import language_of
from scripts.score.unify_text import unified

WITHOUT_SPACES = ("zh", "ja", "th", "lo", "km", "my")
# A minute of play (45'+2) or a number with separators is one word.
NUMBER = r"\p{N}+(?:[.,:\u202f\u00a0]\p{N}+)*(?:'\+?\p{N}*)?"
LETTERS = r"[\p{L}\p{M}\p{N}_]+"
COMPOUND = rf"{LETTERS}(?:['-]{LETTERS})*"

WHOLE = r"aujourd'hui|quelqu'une?s?|quelques-un(?:e)?s|presqu'îles?|prud'hom\w+|entr'\w+|rendez-vous|o'\p{Lu}\w+"
ELIDED = r"(?:[ldjmtsnc]|qu|jusqu|lorsqu|puisqu|quoiqu|quelqu)'(?=[\p{L}\p{N}])"
FRENCH_COMPOUND = rf"{LETTERS}(?:-{LETTERS})*"
AFTER_VERB = "je|tu|il|elle|on|nous|vous|ils|elles|ce|le|la|les|lui|leur|moi|toi|y|en|ci|là"
TAIL = regex.compile(rf"(.*?[^-])((?:-t)?-(?:{AFTER_VERB}))", regex.IGNORECASE)

# What most words are: found first, because the others take longer to look for.
PLAIN = r"[\p{L}\p{M}_]++(?!['\-\p{N}])"
FRENCH = regex.compile(rf"{PLAIN}|(?i:\b(?:{WHOLE})(?!\p{{L}})|\b{ELIDED})|{NUMBER}(?!\p{{L}})|{FRENCH_COMPOUND}")
DEFAULT = regex.compile(rf"{NUMBER}(?!\p{{L}})|{COMPOUND}")
BEGINNING = 8  # parts between spaces: most texts that differ do so in these
CHARACTERS = regex.compile(r"\p{N}+|\p{Latin}+|\X")
VIETNAMESE = regex.compile(rf"{NUMBER}(?!\p{{L}})|{LETTERS}")


def words(text: str, tag: str | None = None) -> list[str]:
    """Return the words of a text in a language, in order, with their case; see `unified` for their characters."""
    text = unified(text, tag)
    language = language_of(tag)
    if language == "fr":
        return french_words(text)
    if language == "vi":
        return VIETNAMESE.findall(text)
    if language in WITHOUT_SPACES:
        return [piece for piece in CHARACTERS.findall(text) if regex.match(r"[\p{L}\p{M}\p{N}]", piece)]
    return DEFAULT.findall(text)


def french_words(text: str) -> list[str]:
    """Return the words of a French text with straight apostrophes."""
    found = []
    for word in FRENCH.findall(text):
        pronouns: list[str] = []
        while "-" in word and word.lower() != "rendez-vous" and (tail := TAIL.fullmatch(word)):
            word = tail[1]
            pronouns.insert(0, tail[2])
        found += [word, *pronouns]
    return found


def lowered_words(text: str, tag: str | None = None) -> list[str]:
    """Return the words of a text in lower case, for counting and comparing."""
    return [word.lower() for word in words(text, tag)]


def words_for_match(text: str, tag: str | None = None) -> list[str]:
    """Return the words of a text for the normalised comparison, in NFKC and case folded."""
    return words(unicodedata.normalize("NFKC", text).casefold(), tag)


def match_normalised(first: str, second: str, tag: str | None = None) -> bool:
    """Whether two texts have the same words in the normalised comparison."""
    beginnings = (" ".join(text.split(" ", BEGINNING)[:BEGINNING]) for text in (first, second))
    pairs = zip(*(words_for_match(text, tag) for text in beginnings), strict=False)
    return all(a == b for a, b in pairs) and words_for_match(first, tag) == words_for_match(second, tag)


def ngrams(items: list[str], order: int) -> list[tuple[str, ...]]:
    """Return the n-grams of a list of words, in order."""
    return list(zip(*(items[start:] for start in range(order)), strict=False))
