"""Escape text from users and data before a terminal shows it, and check names of files."""

import unicodedata

# Characters that change the direction of text or end a line.
DIRECTIONS = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
LINES = frozenset("\u2028\u2029")
LONGEST_NAME = 255  # bytes, on most file systems


def visible(text: str, keep: str = "") -> str:
    r"""Return text with control characters escaped, such as \x1b or \u202e; those in `keep` are unchanged."""
    if text.isprintable():
        return text

    def shown(character: str) -> str:
        control = unicodedata.category(character) in ("Cc", "Cs") or character in DIRECTIONS | LINES
        return character.encode("unicode_escape").decode("ascii") if control and character not in keep else character

    return "".join(map(shown, text))


def name_fault(path: str) -> str | None:
    """Return why a path can't be used, and what to do; None for a usable path.

    Spaces, quotes and `$` are allowed, because every path is quoted. Braces are not, because Snakemake expands them.
    """
    if "{" in path or "}" in path:
        return "has braces, which Snakemake would fill in; rename it"
    if visible(path) != path:
        return "has control characters; rename it"
    if any(len(name.encode()) > LONGEST_NAME for name in path.split("/")):
        return f"has a name of more than {LONGEST_NAME} bytes; shorten it"
    if path.startswith("-"):
        return f"starts like an option; write './{path}'"
    return None
