"""An Ollama Modelfile. What it can't hold is refused here rather than changed by Ollama's parser."""

import logging
from collections.abc import Sequence

from scripts.common.chat_shape import ChatShape
from scripts.common.errors import UserError
from scripts.common.modelfile_text import QUOTES, is_printable, modelfile_fault, with_plain_spaces
from scripts.deploy.go_template import go_template

log = logging.getLogger(__name__)


def quoted(text: str, what: str) -> str:
    """Return a text in triple quotes; raise UserError for one that the parser would change."""
    if fault := modelfile_fault(text):
        raise UserError(f"{what} {fault}")
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


def message_text(text: str) -> str:
    """Return an example's text without the characters that Ollama would drop from a Modelfile; the log says so."""
    kept = "".join(character for character in with_plain_spaces(text) if is_printable(character))
    if kept != text:
        log.warning("an example in the Modelfile is without the characters that Ollama drops: %r", text)
    return quoted(kept, "an example of the strategy")


def modelfile(
    file_name: str,
    parity: dict,
    deploy: dict,
    context: int,
    examples: Sequence[dict] = (),
    tower: str | None = None,
) -> str:
    """Return the text of a Modelfile.

    `parity` is the run's parity report, `deploy` its section of the configuration, `context` the tokens of context
    where `deploy` names none, `examples` the turns that go before every question, `tower` the file of the vision tower
    (Ollama tells it by its metadata, and puts images into messages itself). No-break spaces of the system text
    are written as plain ones. Raises UserError for texts that a Modelfile can't hold.
    """
    shape = ChatShape.from_json(parity["shape"])
    parameters = {**deploy["parameters"], "num_ctx": deploy["parameters"]["num_ctx"] or context}
    lines = [f"FROM ./{file_name}", *([f"FROM ./{tower}"] if tower else []), ""]
    lines += [f"TEMPLATE {quoted(go_template(shape, parity['adds_bos']), 'the template')}", ""]
    if deploy["system"]:
        if shape.system == "none":
            raise UserError(
                "deploy.system: the chat template has no place for a system message",
                remedy="drop it, or use another chat template",
            )
        system = with_plain_spaces(deploy["system"])
        if system != deploy["system"]:
            log.warning("deploy.system: its no-break spaces are plain spaces in the Modelfile, for Ollama drops them")
        lines += [f"SYSTEM {quoted(system, 'deploy.system')}", ""]
    if examples:
        lines += [*(f"MESSAGE {turn['role']} {message_text(turn['content'])}" for turn in examples), ""]
    for stop in stop_texts(shape, parity["special_tokens"], parity["eos"]):
        lines.append(f"PARAMETER stop {quoted(stop, 'a stop text')}")
    lines += [f"PARAMETER {name} {value}" for name, value in parameters.items()]
    return "\n".join(lines) + "\n"
