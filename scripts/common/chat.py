"""Conversations as text and as token ids, the one way in which trainer, prediction and parity check see them."""

from dataclasses import dataclass

from scripts.common.errors import UserError

IGNORED = -100  # label of a token that is not trained on, as in PyTorch's cross entropy


@dataclass
class Conversation:
    """A tokenized conversation: `ids` and, of the same length, whether each token is trained on.

    `shifted` says that the ids of the prompt alone are no prefix of the whole: what is served then differs from
    what was trained on.
    """

    ids: list[int]
    trained: list[bool]
    shifted: bool


def render(tokenizer, messages: list[dict], add_generation_prompt: bool = False) -> str:
    """Return the chat template's text of a conversation; a template that refuses it is a UserError."""
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        raise UserError("the model has no chat template", remedy="name one with 'chat_template' under its model")
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)
    except (TemplateError, RecursionError) as error:
        raise UserError(f"the chat template refuses the conversation: {error}") from None


def text_ids(tokenizer, text: str) -> list[int]:
    """Return a rendered text's token ids; the text brings its own special tokens, so none is added."""
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def prompt_ids(tokenizer, messages: list[dict]) -> list[int]:
    """Return the token ids of a prompt that ends where the assistant's answer begins."""
    return text_ids(tokenizer, render(tokenizer, messages, add_generation_prompt=True))


def answer_spans(tokenizer, messages: list[dict], text: str) -> list[tuple[int, int]]:
    """Return [start, end) in characters of each assistant turn in `text`, the rendered conversation.

    A turn begins where the generation prompt ends and ends with its end token; white space that the template puts
    after that token belongs to the next turn. Raises UserError where the template rewrites earlier turns.
    """
    spans = []
    for position, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        start = render(tokenizer, messages[:position], add_generation_prompt=True)
        end = render(tokenizer, messages[: position + 1])
        if not text.startswith(end) or not end.startswith(start):
            raise UserError(
                f"the chat template renders turn {position + 1} otherwise once more turns follow",
                remedy="train on single answers ('tokens.train_on: last_assistant_turn') or use another template",
            )
        spans.append((len(start), turn_end(tokenizer, end)))
    return spans


def turn_end(tokenizer, text: str) -> int:
    """Return where a text that ends with an assistant turn ends without the white space after the end token."""
    stripped = text.rstrip()
    return len(stripped) if stripped.endswith(special_texts(tokenizer)) else len(text)


def special_texts(tokenizer) -> tuple[str, ...]:
    """Return the texts of a tokenizer's special tokens."""
    return tuple({*tokenizer.all_special_tokens, *(token.content for token in tokenizer.added_tokens_decoder.values())})


def end_of_turn_ids(tokenizer) -> list[int]:
    """Return the ids of the tokens at which an answer ends: the end token and the one that the template writes."""
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    row = tokenize_conversation(tokenizer, messages)
    last = [token for token, trained in zip(row.ids, row.trained, strict=True) if trained][-1:]
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    return sorted({tokenizer.eos_token_id, *(token for token in last if token in special)} - {None})


def is_within(start: int, end: int, span: tuple[int, int], text: str) -> bool:
    """Say whether a token from `start` to `end` in a text lies within a span; the white space that an end token
    swallows after it, as Phi-3's does, is part of the token and not of the span."""
    return span[0] <= start < min(end, span[1]) and not text[span[1] : end].strip()


def tokenize_conversation(tokenizer, messages: list[dict], last_turn_only: bool = False) -> Conversation:
    """Tokenize a whole conversation and mark the assistant's tokens, the end token after each answer included."""
    text = render(tokenizer, messages)
    if last_turn_only:
        last = max(i for i, message in enumerate(messages) if message["role"] == "assistant")
        prompt = render(tokenizer, messages[:last], add_generation_prompt=True)
        if not text.startswith(prompt):
            raise UserError("the chat template's prompt is no beginning of the whole conversation")
        spans = [(len(prompt), turn_end(tokenizer, text))]
    else:
        spans = answer_spans(tokenizer, messages, text)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids = encoded["input_ids"]
    trained = [any(is_within(a, b, span, text) for span in spans) for a, b in encoded["offset_mapping"]]
    prompt = text_ids(tokenizer, text[: spans[-1][0]]) if spans else []
    return Conversation(ids, trained, shifted=ids[: len(prompt)] != prompt)
