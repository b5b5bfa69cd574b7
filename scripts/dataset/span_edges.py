"""Spans whose edges look wrong: within a word, or on a separator. Some are meant, so they are shown and not refused."""

import unicodedata

SEPARATORS = ".,;:"
EXAMPLES = 5
AROUND = 12  # characters shown on each side of a span
SHOWN = 40  # characters shown of a span


def kind_of(character: str) -> str:
    """Return `letter`, `digit` or nothing.

    Letters without case make no word here: Chinese or Thai have no spaces, and Arabic or Korean join particles.
    """
    category = unicodedata.category(character)
    return "letter" if category in ("Lu", "Ll", "Lt") else "digit" if category == "Nd" else ""


def within_word(text: str, place: int) -> bool:
    """Say whether a letter stands on each side of a place in the text, or a digit; `5kg` is two words."""
    return 0 < place < len(text) and kind_of(text[place - 1]) == kind_of(text[place]) != ""


def edge_faults(text: str, start: int, end: int) -> list[str]:
    """Say in words what looks wrong at the ends of a span, which is not empty."""
    faults = []
    for place, character, verb in ((start, text[start], "starts"), (end, text[end - 1], "ends")):
        if within_word(text, place):
            faults.append(f"{verb} within a word")
        if character in SEPARATORS or character.isspace():
            faults.append(f"{verb} with a separator")
    return faults


class SpanEdges:
    """How many spans look wrong at an edge, and the first of them."""

    def __init__(self):
        self.spans, self.examples = 0, []

    def add(self, text: str, start: int, end: int, label: str, origin: str) -> None:
        """Look at one span of a text; `origin` is `file:line` of its record."""
        faults = edge_faults(text, start, end)
        if not faults:
            return
        self.spans += 1
        if len(self.examples) < EXAMPLES:
            covered = text[start:end] if end - start <= SHOWN else f"{text[start : start + SHOWN - 1]}…"
            self.examples.append(
                {
                    "origin": origin,
                    "label": label,
                    "fault": " and ".join(faults),
                    "before": text[max(start - AROUND, 0) : start],
                    "text": covered,
                    "after": text[end : end + AROUND],
                }
            )

    def as_json(self) -> dict:
        """Return the count and up to five examples, in the order of the records."""
        return {"spans": self.spans, "examples": self.examples}
