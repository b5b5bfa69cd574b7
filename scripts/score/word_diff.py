"""The words in which an answer differs from the expected one."""

import difflib
import unicodedata

import regex

from scripts.common.language import language_of
from scripts.score.tokenize_text import LETTERS, WITHOUT_SPACES

WORD = regex.compile(rf"(?:{LETTERS}|\S)\s*")
CHARACTER = regex.compile(r"\X\s*")  # of languages written without spaces
LONGEST = 2000  # words of a text
ALIKE = 0.2  # below this share of common words the differences would be the whole text


def word_diff(answer: str, expected: str, tag: str | None = None) -> list[dict] | None:
    """Return an answer as pieces {"text", "kind"}; None for texts that have nearly nothing in common, or are very long.

    The kind is `same`, `added` (not in the expected answer) or `missing` (in the expected answer only). Texts are
    compared in NFC; an elided word (l', qu'), a syllable of Vietnamese and a mark are words of their own.
    """
    units = CHARACTER if language_of(tag) in WITHOUT_SPACES else WORD
    found, wanted = (units.findall(unicodedata.normalize("NFC", text).strip()) for text in (answer, expected))
    if max(len(found), len(wanted)) > LONGEST:
        return None
    keys = [[word.strip() for word in words] for words in (wanted, found)]
    matcher = difflib.SequenceMatcher(None, *keys, autojunk=False)
    if matcher.ratio() < ALIKE:
        return None
    pieces = []
    for kind, start, end, start_found, end_found in matcher.get_opcodes():
        if kind == "equal":
            pieces.append({"kind": "same", "text": "".join(found[start_found:end_found])})
            continue
        pieces.append({"kind": "missing", "text": "".join(wanted[start:end])})
        pieces.append({"kind": "added", "text": "".join(found[start_found:end_found])})
    return [piece for piece in pieces if piece["text"]]
