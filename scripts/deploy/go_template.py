"""Convert the chat template to a Go text/template for the TEMPLATE of an Ollama Modelfile.

Ollama passes `.Messages`, including system messages, with adjacent messages of the same role joined, and `.System`, all
system messages joined (Execute and collate in its template/template.go). Line breaks are inside the actions, where they
have no effect, so that no white space needs trimming.
"""

from scripts.common.chat_shape import ChatShape
from scripts.common.errors import UserError
from scripts.deploy.modelfile_text import QUOTES, is_printable


def go_string(text: str) -> str:
    """Return a Go string literal in ASCII."""
    escaped = "".join(
        f"\\{c}"
        if c in '"\\'
        else c
        if " " <= c <= "~"
        else f"\\u{ord(c):04x}"
        if ord(c) < 0x10000
        else f"\\U{ord(c):08x}"
        for c in text
    )
    return f'"{escaped}"'


def literal(text: str) -> str:
    """Return text for a Go template in a Modelfile: unchanged, or as an action if either would change it."""
    result, place = "", 0
    while place < len(text):
        special = next((mark for mark in ("{{", "}}", QUOTES) if text.startswith(mark, place)), None)
        if special is None and not is_printable(text[place]):
            special = text[place]
        result += f"{{{{ {go_string(special)} }}}}" if special else text[place]
        place += len(special or text[place])
    return result


def go_template(shape: ChatShape, adds_bos: bool) -> str:
    """Return the Go template that is equivalent to the training template.

    BOS is left out if llama.cpp adds it. Raises UserError for text that a Modelfile can't contain.
    """
    text = "" if adds_bos else literal(shape.bos)
    if shape.system == "at_start":
        text += choice(".System", around_system(shape, ".System"), literal(shape.opening))
    else:
        text += literal(shape.opening)
    if shape.system == "last_user":
        text += "{{ $holder := -1 }}{{ range $i, $_ := .Messages }}"
        text += '{{ if eq .Role "user" }}{{ $holder = $i }}{{ end }}{{ end }}'
    counts = shape.system == "first_user" or shape.first_user_prefix != shape.user_prefix
    text += "{{ $first := true }}" if counts else ""
    text += '{{ $role := "" }}{{ range $i, $_ := .Messages }}{{ $role = .Role }}'
    if shape.system == "in_place":
        text += branch('if eq .Role "system"') + around_system(shape, ".Content")
    text += branch(f'{"else " if shape.system == "in_place" else ""}if eq .Role "user"')
    text += (
        user_prefix(shape) + "{{ .Content }}" + literal(shape.user_suffix) + ("{{ $first = false }}" if counts else "")
    )
    text += branch('else if eq .Role "assistant"')
    text += literal(shape.assistant_prefix) + "{{ .Content }}" + literal(shape.assistant_suffix)
    text += "{{\n  end }}{{\nend }}"
    text += choice('eq $role "assistant"', literal(shape.closing), literal(shape.generation))
    if QUOTES in text:
        raise UserError(f"the chat template holds {QUOTES}, which a Modelfile can't")
    return text


def branch(condition: str) -> str:
    """Return the start of a branch of the loop, on its own line."""
    return f"{{{{\n  {condition} }}}}"


def choice(condition: str, yes: str, no: str) -> str:
    """Return an action that selects one of two texts by a condition; an empty text if both are empty."""
    if yes == no:
        return yes
    return f"{{{{ if {condition} }}}}{yes}" + (f"{{{{ else }}}}{no}" if no else "") + "{{ end }}"


def around_system(shape: ChatShape, field: str) -> str:
    """Return the system text with its prefix and suffix."""
    return literal(shape.system_prefix) + f"{{{{ {field} }}}}" + literal(shape.system_suffix)


def user_prefix(shape: ChatShape) -> str:
    """Return the prefix of a user's text, including the system text if the template puts it there."""
    plain = choice("$first", literal(shape.first_user_prefix), literal(shape.user_prefix))
    conditions = {
        "first_user": "and $.System $first",
        "last_user": "and $.System (eq $i $holder)",
        "last_message": "and $.System (eq (len (slice $.Messages $i)) 1)",
    }
    if shape.system not in conditions:
        return plain
    return choice(conditions[shape.system], around_system(shape, "$.System"), plain)
