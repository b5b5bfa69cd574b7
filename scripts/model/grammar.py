"""A phrase grammar: symbols expand to templates, and a slot may agree with what an earlier slot chose.

Slots in a template:

    [2..9]            a number between the two, both included
    [city]            one entry of the symbol `city`
    [p:person]        the same, remembered as `p`
    [p]               what was remembered as `p`
    [p?il|elle]       a form chosen by the gender (and number, when four forms are given) of `p`
    [p#part|partent]  a form chosen by the number of `p`
    [p&happy]         one entry of the symbol `happy`, whose forms agree with `p` as with `?`

An entry ends in `@m`, `@f`, `@mp` or `@fp` when others have to agree with it.
"""

import re
from collections.abc import Mapping, Sequence
from random import Random

SLOT = re.compile(r"\[([^\[\]]+)\]")
TAG = re.compile(r"@(mp|fp|m|f)$")
FORM_ORDER = ("m", "f", "mp", "fp")


class Grammar:
    """Expands templates with the entries of `rules`, drawing from `random`; no entry comes twice before all came."""

    def __init__(self, rules: Mapping[str, Sequence[str]], random: Random):
        self.rules = rules
        self.random = random
        self.remembered: dict[str, tuple[str, str]] = {}
        self.left: dict[str, list[str]] = {}

    def expand(self, template: str) -> str:
        """Fill every slot of `template`, left to right; raise KeyError for a name that is no symbol."""
        return SLOT.sub(lambda slot: self._fill(slot.group(1)), template)

    def _fill(self, slot: str) -> str:
        if ".." in slot:
            low, high = slot.split("..")
            return str(self.random.randint(int(low), int(high)))
        if "?" in slot:
            name, forms = slot.split("?", 1)
            return self._agree(name, forms)
        if "#" in slot:
            name, forms = slot.split("#", 1)
            singular, plural = forms.split("|")
            return plural if self._tag(name).endswith("p") else singular
        if "&" in slot:
            name, symbol = slot.split("&", 1)
            return self._agree(name, self.random.choice(self.rules[symbol]))
        if ":" in slot:
            name, symbol = slot.split(":", 1)
            self.remembered[name] = self._draw(symbol)
            return self.remembered[name][0]
        if slot in self.remembered:
            return self.remembered[slot][0]
        return self._draw(slot)[0]

    def _draw(self, symbol: str) -> tuple[str, str]:
        left = self.left.get(symbol) or list(self.rules[symbol])
        entry = left.pop(self.random.randrange(len(left)))
        self.left[symbol] = left
        tag = TAG.search(entry)
        text = entry[: tag.start()] if tag else entry
        return self.expand(text), tag.group(1) if tag else ""

    def _tag(self, name: str) -> str:
        tag = self.remembered[name][1]
        if not tag:
            raise KeyError(f"{name}: its entry has no gender to agree with")
        return tag

    def _agree(self, name: str, forms: str) -> str:
        options = forms.split("|")
        tag = self._tag(name)
        return options[FORM_ORDER.index(tag)] if len(options) == len(FORM_ORDER) else options[tag.startswith("f")]


def words(block: str) -> list[str]:
    """Return the words of a block of text."""
    return block.split()


def capitalize_sentences(text: str) -> str:
    """Give a capital to the first letter of the text and of each sentence after `.`, `!`, `?` or a line break."""
    return re.sub(r"(^|[.!?]\s+|\n)([«“\"—–\- ]*)([^\W\d_])", lambda m: m[1] + m[2] + m[3].upper(), text)
