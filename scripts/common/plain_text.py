"""Text from elsewhere as a terminal may show it, and names of files that every program takes for names.

What a terminal would obey is spelled out.
"""

import unicodedata

# Control characters, halves of surrogate pairs, and what changes the direction of the text around it.
SPELLED = ("Cc", "Cs")
DIRECTIONS = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
LINES = frozenset("\u2028\u2029")


def visible(text: str, keep: str = "") -> str:
    r"""Return text whose control characters are spelled as \x1b or \u202e; those in `keep` stay."""
    if text.isprintable():
        return text
    return "".join(
        character if character in keep or not is_obeyed(character) else spelled(character) for character in text
    )


def is_obeyed(character: str) -> bool:
    """Say whether a terminal acts upon a character instead of showing it."""
    return unicodedata.category(character) in SPELLED or character in DIRECTIONS or character in LINES


def spelled(character: str) -> str:
    """Return a character as Python writes it in a text."""
    return character.encode("unicode_escape").decode("ascii")


def name_fault(path: str) -> str | None:
    """Say what keeps a path from being used, and what to do; None for all the usual ones.

    Spaces, quotes, `$` and the like are fine, for every path is quoted. Braces are not: Snakemake fills them in.
    """
    if "{" in path or "}" in path:
        return "has braces, which Snakemake would fill in; rename it"
    if visible(path) != path:
        return "has control characters; rename it"
    if path.startswith("-"):
        return f"begins like an option; write './{path}'"
    return None
