"""An Ollama Modelfile.

Its parser (parser/parser.go in Ollama) has no escapes: a text in triple quotes ends at the next triple quotes, and
characters that Go does not call printable are dropped. What can't be written is refused here rather than changed there.
"""

import unicodedata

from scripts.common.chat_shape import ChatShape
from scripts.common.errors import UserError
from scripts.deploy.go_template import QUOTES, go_template, is_printable


def quoted(text: str, what: str) -> str:
    """Return a text in triple quotes; raise UserError for one that the parser would change."""
    if QUOTES in text:
        raise UserError(f"{what} holds {QUOTES}, which a Modelfile can't", remedy="use other quotation marks")
    for place, character in enumerate(text):
        if not is_printable(character):
            name = unicodedata.name(character, "a control character").lower()
            raise UserError(
                f"{what} has U+{ord(character):04X} ({name}) at character {place}, which Ollama drops from a Modelfile",
                remedy="write it without",
            )
    return QUOTES + text + QUOTES


def stop_texts(shape: ChatShape, special_tokens: dict[str, int], eos: str) -> list[str]:
    """Return the texts at which an answer is over: EOS, then the template's other special tokens, or where it has
    none what begins a user's message."""
    pieces = "".join(shape.pieces())
    stops = [eos] if eos else []
    stops += [token for token in special_tokens if token in pieces and token not in (shape.bos, eos)]
    user = shape.user_prefix.strip()
    if user and not any(stop in user for stop in stops):
        stops.append(user)
    return stops


def modelfile(file_name: str, parity: dict, deploy: dict, context: int) -> str:
    """Return the text of a Modelfile.

    `parity` is the run's parity report, `deploy` its section of the configuration, `context` the tokens of context
    where `deploy` names none. Raises UserError for texts that a Modelfile can't hold.
    """
    shape = ChatShape.from_json(parity["shape"])
    parameters = {**deploy["parameters"], "num_ctx": deploy["parameters"]["num_ctx"] or context}
    lines = [f"FROM ./{file_name}", ""]
    lines += [f"TEMPLATE {quoted(go_template(shape, parity['adds_bos']), 'the template')}", ""]
    if deploy["system"]:
        if shape.system == "none":
            raise UserError(
                "deploy.system: the chat template has no place for a system message",
                remedy="drop it, or use another chat template",
            )
        lines += [f"SYSTEM {quoted(deploy['system'], 'deploy.system')}", ""]
    for stop in stop_texts(shape, parity["special_tokens"], parity["eos"]):
        lines.append(f"PARAMETER stop {quoted(stop, 'a stop text')}")
    lines += [f"PARAMETER {name} {value}" for name, value in parameters.items()]
    return "\n".join(lines) + "\n"
