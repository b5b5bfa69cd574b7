"""Which texts an Ollama Modelfile can hold.

Its parser (parser/parser.go in Ollama) has no escapes: a text in triple quotes ends at the next triple quotes, and
characters that Go does not call printable are dropped without a word.
"""

import unicodedata

PRINTABLE = ("L", "M", "N", "P", "S")
QUOTES = '"""'
NO_BREAK_SPACES = str.maketrans({"\u00a0": " ", "\u202f": " "})


def is_printable(character: str) -> bool:
    """Return whether Ollama's Modelfile parser keeps a character: Go's strconv.IsPrint, line ends and tab."""
    return character in " \n\t" or unicodedata.category(character).startswith(PRINTABLE)


def with_plain_spaces(text: str) -> str:
    """Return text with the no-break spaces, usual in French before `!` and `:`, as plain ones."""
    return text.translate(NO_BREAK_SPACES)


def modelfile_fault(text: str) -> str | None:
    """Say why a Modelfile can't hold a text and what to do, or None when it can."""
    if QUOTES in text:
        return f"holds {QUOTES}, which a Modelfile can't; use other quotation marks"
    place = next((place for place, character in enumerate(text) if not is_printable(character)), None)
    if place is None:
        return None
    return f"has U+{ord(text[place]):04X} at character {place}, which Ollama drops from a Modelfile; write it without"
