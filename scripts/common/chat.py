"""Conversations as text and as token ids. Training, prediction and the parity check all use these functions."""

from dataclasses import dataclass

from scripts.common.errors import UserError

IGNORED = -100  # label of a token that does not count in the loss, as in PyTorch's cross entropy


@dataclass
class Conversation:
    """A tokenized conversation: `ids`, and `trained`, which says for each token whether it counts in the loss.

    `shifted` is true if the prompt, tokenized alone, is not a prefix of `ids`. The served model then gets other tokens
    than in training.
    """

    ids: list[int]
    trained: list[bool]
    shifted: bool


def render(tokenizer, messages: list[dict]) -> str:
    """Render a conversation with the chat template; raises UserError if the template refuses it.

    The generation prompt follows, unless the last message is an answer.
    """
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        raise UserError("the model has no chat template", remedy="name one with 'chat_template' under its model")
    try:
        is_open = messages[-1]["role"] != "assistant"
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=is_open)
    except (TemplateError, RecursionError) as error:
        raise UserError(f"the chat template refuses the conversation: {error}") from None


def text_ids(tokenizer, text: str) -> list[int]:
    """Return the token ids of a rendered text. No special tokens are added, because the text has its own."""
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def conversation_ids(tokenizer, messages: list[dict]) -> list[int]:
    """Return the token ids of a rendered conversation; those of a prompt end where the assistant's answer starts."""
    return text_ids(tokenizer, render(tokenizer, messages))


def answer_spans(tokenizer, messages: list[dict], text: str) -> list[tuple[int, int]]:
    """Return [start, end) in characters for each assistant turn in `text`, the rendered conversation.

    A turn starts after the generation prompt and ends with its end token. White space after that token belongs to the
    next turn. Raises UserError if the template changes earlier turns when more turns follow.
    """
    spans = []
    for position, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        start = render(tokenizer, messages[:position])
        end = render(tokenizer, messages[: position + 1])
        if not text.startswith(end) or not end.startswith(start):
            raise UserError(
                f"the chat template renders turn {position + 1} differently when more turns follow",
                remedy="train on single answers ('tokens.train_on: last_assistant_turn') or use another template",
            )
        spans.append((len(start), turn_end(tokenizer, end)))
    return spans


def turn_end(tokenizer, text: str) -> int:
    """Return the end of the last assistant turn of a text, without the white space after its end token."""
    stripped = text.rstrip()
    special = {*tokenizer.all_special_tokens, *(token.content for token in tokenizer.added_tokens_decoder.values())}
    return len(stripped) if stripped.endswith(tuple(special)) else len(text)


def end_of_turn_ids(tokenizer) -> list[int]:
    """Return the ids of the tokens that end an answer: the tokenizer's end token and the template's."""
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    row = tokenize_conversation(tokenizer, messages)
    last = [token for token, trained in zip(row.ids, row.trained, strict=True) if trained][-1:]
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    return sorted({tokenizer.eos_token_id, *(token for token in last if token in special)} - {None})


def is_within(start: int, end: int, span: tuple[int, int], text: str) -> bool:
    """Return whether the token at [start, end) of a text lies within a span.

    An end token may include the white space that follows it, as in Phi-3; this white space may be outside the span.
    """
    return span[0] <= start < min(end, span[1]) and not text[span[1] : end].strip()


def tokenize_conversation(tokenizer, messages: list[dict], last_turn_only: bool = False) -> Conversation:
    """Tokenize a conversation and mark the assistant's tokens, including the end token of each answer."""
    text = render(tokenizer, messages)
    if last_turn_only:
        last = max(i for i, message in enumerate(messages) if message["role"] == "assistant")
        prompt = render(tokenizer, messages[:last])
        if not text.startswith(prompt):
            raise UserError("the chat template's prompt is not the start of the rendered conversation")
        spans = [(len(prompt), turn_end(tokenizer, text))]
    else:
        spans = answer_spans(tokenizer, messages, text)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids = encoded["input_ids"]
    trained = [any(is_within(a, b, span, text) for span in spans) for a, b in encoded["offset_mapping"]]
    prompt = text_ids(tokenizer, text[: spans[-1][0]]) if spans else []
    return Conversation(ids, trained, shifted=ids[: len(prompt)] != prompt)
