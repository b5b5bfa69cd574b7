"""Convert the chat template to a Go text/template for the TEMPLATE of an Ollama Modelfile.

Ollama passes `.Messages`, including system messages, with adjacent messages of the same role joined, and `.System`, all
system messages joined (Execute and collate in its template/template.go). Line breaks are inside the actions, where they
have no effect, so that no white space needs trimming.
"""

import json
import re

from scripts.common.chat_shape import ChatShape
from scripts.common.errors import UserError
from scripts.deploy.modelfile_text import QUOTES, is_printable


def go_string(text: str) -> str:
    """Return a Go string literal in ASCII; JSON escapes like Go, except for surrogate pairs."""
    escaped = (f"\\U{ord(c):08x}" if c > "\uffff" or c == "\x7f" else json.dumps(c)[1:-1] for c in text)
    return f'"{"".join(escaped)}"'


def literal(text: str) -> str:
    """Return text for a Go template in a Modelfile: unchanged, or as an action if either would change it."""
    pieces = re.findall(rf"\{{\{{|\}}\}}|{QUOTES}|.", text, re.DOTALL)
    kept = {piece for piece in pieces if len(piece) == 1 and is_printable(piece)}
    return "".join(piece if piece in kept else f"{{{{ {go_string(piece)} }}}}" for piece in pieces)


def go_template(shape: ChatShape, adds_bos: bool) -> str:
    """Return the Go template that is equivalent to the training template."""
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
        text += '{{\n  if eq .Role "system" }}' + around_system(shape, ".Content")
    text += '{{\n  else if eq .Role "user" }}' if shape.system == "in_place" else '{{\n  if eq .Role "user" }}'
    text += user_prefix(shape) + "{{ .Content }}" + literal(shape.user_suffix)
    text += "{{ $first = false }}" if counts else ""
    text += '{{\n  else if eq .Role "assistant" }}'
    text += literal(shape.assistant_prefix) + "{{ .Content }}" + literal(shape.assistant_suffix)
    text += "{{\n  end }}{{\nend }}"
    text += choice('eq $role "assistant"', literal(shape.closing), literal(shape.generation))
    if QUOTES in text:
        raise UserError(f"the chat template holds {QUOTES}, which a Modelfile can't")
    return text


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
