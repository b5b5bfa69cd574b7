"""Write an Ollama Modelfile. Text that Ollama's parser would change is an error."""

import logging
from collections.abc import Sequence

from scripts.common.chat_shape import ChatShape
from scripts.common.errors import UserError
from scripts.deploy.go_template import go_template
from scripts.deploy.modelfile_text import QUOTES, is_printable, modelfile_fault, with_plain_spaces

log = logging.getLogger(__name__)


def quoted(text: str, what: str) -> str:
    """Return a text in triple quotes; raises UserError if the parser would change it."""
    if fault := modelfile_fault(text):
        raise UserError(f"{what} {fault}")
    return QUOTES + text + QUOTES


def stop_texts(shape: ChatShape, special_tokens: dict[str, int], eos: str) -> list[str]:
    """Return the stop texts: EOS, then the template's special tokens, else the start of a user's message."""
    pieces = "".join(shape.pieces())
    stops = [eos] if eos else []
    stops += [token for token in special_tokens if token in pieces and token not in (shape.bos, eos)]
    user = shape.user_prefix.strip()
    if user and not any(stop in user for stop in stops):
        stops.append(user)
    return stops


def message_text(text: str) -> str:
    """Return an example's text without the characters that Ollama drops from a Modelfile, with a warning."""
    kept = "".join(character for character in with_plain_spaces(text) if is_printable(character))
    if kept != text:
        log.warning("an example in the Modelfile is without the characters that Ollama drops: %r", text)
    return quoted(kept, "an example of the strategy")


def modelfile(
    file_name: str, parity: dict, deploy: dict, context: int, examples: Sequence[dict] = (), tower: str | None = None
) -> str:
    """Return the text of a Modelfile.

    `deploy` is the section of the configuration, `context` the tokens of context if it does not set them, `tower` the
    file of the vision tower, which Ollama recognises by its metadata. Raises UserError for text that it can't contain.
    """
    shape = ChatShape.from_json(parity["shape"])
    parameters = {**deploy["parameters"], "num_ctx": deploy["parameters"]["num_ctx"] or context}
    lines = [f"FROM ./{file_name}", *([f"FROM ./{tower}"] if tower else []), ""]
    lines += [f"TEMPLATE {quoted(go_template(shape, parity['adds_bos']), 'the template')}", ""]
    if deploy["system"]:
        if shape.system == "none":
            raise UserError("deploy.system: the chat template has no place for a system message", remedy="remove it")
        system = with_plain_spaces(deploy["system"])
        if system != deploy["system"]:
            log.warning("deploy.system: no-break spaces are plain spaces in the Modelfile, because Ollama drops them")
        lines += [f"SYSTEM {quoted(system, 'deploy.system')}", ""]
    if examples:
        lines += [*(f"MESSAGE {turn['role']} {message_text(turn['content'])}" for turn in examples), ""]
    for stop in stop_texts(shape, parity["special_tokens"], parity["eos"]):
        lines.append(f"PARAMETER stop {quoted(stop, 'a stop text')}")
    lines += [f"PARAMETER {name} {value}" for name, value in parameters.items()]
    return "\n".join(lines) + "\n"
