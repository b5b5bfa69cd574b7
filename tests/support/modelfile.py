"""What Ollama makes of a Modelfile: its parser's rules, in Python (parser/parser.go in Ollama)."""

import unicodedata

COMMANDS = (
    "from", "license", "template", "system", "adapter", "parser", "renderer", "parameter", "message", "requires",
)  # fmt: skip


def kept(character: str) -> bool:
    """Tell whether the parser keeps a character inside a value: Go's strconv.IsPrint, or white space."""
    return character in " \t\n\r" or unicodedata.category(character)[0] in "LMNPS"


def unquoted(value: str) -> str | None:
    """Return a value without its quotes; None when they are not closed yet."""
    for quotes in ('"""', '"'):
        if value.startswith(quotes):
            closed = len(value) >= 2 * len(quotes) and value.endswith(quotes)
            return value[len(quotes) : len(value) - len(quotes)] if closed else None
    return value


def parse_modelfile(text: str) -> list[tuple[str, str]]:
    """Return the commands as (name, value); of a PARAMETER the name is the parameter's.

    A value ends at the first line end at which its quotes are closed. Raises ValueError for what Ollama refuses.
    """
    commands, place = [], 0
    while place < len(text):
        if text[place] in " \t\r\n":
            place += 1
            continue
        if text[place] == "#":
            place = text.find("\n", place) % (len(text) + 1)
            continue
        words = text[place:].split(None, 2 if text[place:].lower().startswith("parameter") else 1)
        name = words[0].lower()
        if name not in COMMANDS:
            raise ValueError(f"no command: {name}")
        place += len(words[0]) + 1
        if name == "parameter":
            name = words[1]
            place = text.index(name, place) + len(name) + 1
        value = ""
        while True:
            if place == len(text) or text[place] in "\r\n":
                found = unquoted(value.strip())
                if found is not None:
                    break
                if place == len(text):
                    raise ValueError("quotes are not closed")
            value += text[place] if kept(text[place]) else ""
            place += 1
        commands.append((name, found))
    if not any(name == "from" for name, _ in commands):
        raise ValueError("no FROM line")
    return commands
