"""Compare serving with training: token ids, special tokens, and next-token distributions."""

import itertools
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scripts.common.chat import conversation_ids, render, text_ids
from scripts.common.chat_shape import ChatShape
from scripts.common.errors import UserError
from scripts.gguf.llama import adds_bos, chat_text, ends_generation, first_difference, token_ids, token_text

if TYPE_CHECKING:
    import numpy
    from llama_cpp import Llama

SHOWN = 12
log = logging.getLogger(__name__)


class ParityError(UserError):
    """Serving differs from training; both sides are in the log."""


@dataclass
class Comparison:
    """Results so far: numbers of equal conversations, with the GGUF's template and with the Modelfile's, and the names
    of those that both chat templates refuse or that no TEMPLATE can express."""

    equal: int = 0
    refused: list[str] = field(default_factory=list)
    modelfile_equal: int = 0
    not_expressible: list[str] = field(default_factory=list)


def compare_ids(model: "Llama", name: str, trained: list[int], served: list[int], served_as: str) -> None:
    """Raise ParityError, with both sides in the log, unless two lists of token ids are equal."""
    if trained == served:
        return
    place = first_difference(trained, served)
    log.error("%s: training and %s differ at token %d", name, served_as, place)
    for side, ids in (("training", trained), (served_as, served)):
        shown = " ".join(f"{token}:{token_text(model, token)!r}" for token in ids[max(place - 3, 0) :][:SHOWN])
        log.error("  %s (%d tokens): %s", side, len(ids), shown or "(nothing)")
    one, other = (repr(token_text(model, ids[place])) if place < len(ids) else "the end" for ids in (trained, served))
    raise ParityError(
        f"serving differs from training: {served_as} gives other token ids, at token {place} of '{name}': "
        f"{other} instead of {one}"
    )


def text_or_refusal(render_chat, *arguments) -> str | None:
    """Return the rendered template, or None if it refuses the conversation."""
    try:
        return render_chat(*arguments)
    except UserError as error:
        log.info("%s", error)
        return None


def compare_conversation(
    tokenizer, model: "Llama", shape: ChatShape, name: str, messages: list[dict], result: Comparison
) -> None:
    """Compare one conversation in three renderings: training, the GGUF's template, and the Modelfile's TEMPLATE.

    A conversation that both templates refuse is recorded as such. Raises ParityError at the first difference.
    """
    trained_text = text_or_refusal(render, tokenizer, messages)
    served_text = text_or_refusal(chat_text, model, messages)
    if trained_text is None and served_text is None:
        result.refused.append(name)
        return
    if trained_text != served_text:
        place = first_difference(trained_text or "", served_text or "")
        log.error("%s: the texts differ at character %d", name, place)
        log.error("  training: %r", trained_text)
        log.error("  the GGUF's template: %r", served_text)
        raise ParityError(
            f"serving differs from training: the GGUF's template differs at character {place} of '{name}'"
        )
    trained = text_ids(tokenizer, trained_text)
    if trained[:2] == [tokenizer.bos_token_id] * 2:
        raise ParityError(f"training saw BOS twice at the start of '{name}'", remedy="correct the chat template")
    compare_ids(model, name, trained, token_ids(model, served_text), "llama.cpp with the GGUF's template")
    result.equal += 1
    go_text = modelfile_text(model, shape, messages)
    if go_text is None:
        result.not_expressible.append(name)
    else:
        compare_ids(model, name, trained, token_ids(model, go_text), "llama.cpp with the Modelfile's TEMPLATE")
        result.modelfile_equal += 1
    if messages[-1]["role"] == "assistant":
        check_end(tokenizer, model, name, messages, trained)


def modelfile_text(model: "Llama", shape: ChatShape, messages: list[dict]) -> str | None:
    """Return a conversation as Ollama passes it to llama.cpp, without a BOS that llama.cpp adds.

    None if Ollama can't render it as the training template does: it can't strip white space, it drops a system message
    if the training template has no place for one, and it joins adjacent messages of the same role (`collate` in its
    template/template.go).
    """
    roles = [message["role"] for message in messages]
    outer = any(m["role"] in shape.trims and m["content"] != m["content"].strip() for m in messages)
    joined = any(a == b for a, b in itertools.pairwise(roles))
    late_system = "system" in roles[1:] and shape.system != "in_place"
    if outer or joined or late_system or (shape.system == "none" and "system" in roles):
        return None
    text = shape.render(messages)
    return text.removeprefix(shape.bos) if adds_bos(model) else text


def check_end(tokenizer, model: "Llama", name: str, messages: list[dict], trained: list[int]) -> None:
    """Raise ParityError unless a training answer ends with a token at which llama.cpp stops."""
    tail = trained[len(conversation_ids(tokenizer, messages[:-1])) :]
    while tail and not model.detokenize(tail[-1:], special=True).strip():
        tail.pop()
    if not tail or not ends_generation(model, tail[-1]):
        end = token_text(model, tail[-1]) if tail else "nothing"
        raise ParityError(
            f"serving differs from training: the answer of '{name}' ends with {end!r}, where llama.cpp does not stop",
            remedy="the chat template must write the EOS token after each answer",
        )


def check_special_tokens(tokenizer, model: "Llama", texts: list[str]) -> dict[str, int]:
    """Return the special tokens in the texts of conversations, by their text.

    Raises ParityError for one that llama.cpp tokenizes differently, and if BOS or EOS differ.
    """
    found = {}
    for token, entry in sorted(tokenizer.added_tokens_decoder.items()):
        if not entry.special or not any(entry.content in text for text in texts):
            continue
        ids = model.tokenize(entry.content.encode(), add_bos=False, special=True)
        if ids != [token]:
            log.error("special token %r: training has %d, llama.cpp %s", entry.content, token, ids)
            what = f"{len(ids)} tokens of ordinary text" if len(ids) > 1 else f"the token {ids[0]}, not {token},"
            raise ParityError(
                f"serving differs from training: the special token '{entry.content}' is {what} in llama.cpp"
            )
        found[entry.content] = token
    ends = {"BOS": (tokenizer.bos_token_id, model.token_bos()), "EOS": (tokenizer.eos_token_id, model.token_eos())}
    for kind, (ours, theirs) in ends.items():
        if ours is not None and ours != theirs:
            raise ParityError(
                f"serving differs from training: the {kind} token is {ours} in training and {theirs} in the GGUF"
            )
    return found


def divergences(reference: "numpy.ndarray", other: "numpy.ndarray") -> "numpy.ndarray":
    """Return KL(reference || other) in nats at each position, from [positions, vocabulary] logits."""
    import torch

    p, q = (torch.from_numpy(logits).double().log_softmax(-1) for logits in (reference, other))
    return torch.nn.functional.kl_div(q, p, reduction="none", log_target=True).sum(-1).numpy()
