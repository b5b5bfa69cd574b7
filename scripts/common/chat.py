"""Conversations as text and as token ids. Training, prediction and the parity check all use these functions."""

import itertools
import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass

import numpy as np

from scripts.common.errors import UserError

IGNORED = -100  # label of a token that does not count in the loss, as in PyTorch's cross entropy


@dataclass
class Conversation:
    """A tokenized conversation: `ids`, and `trained`, which says for each token whether it counts in the loss.

    `trained` has the shape [tokens]. `shifted` is true if the prompt, tokenized alone, is not a prefix of `ids`. The
    served model then gets other tokens than in training.
    """

    ids: list[int]
    trained: np.ndarray
    shifted: bool


def render(tokenizer, messages: list[dict]) -> str:
    """Render a conversation with the chat template; raises UserError if the template refuses it.

    The generation prompt follows, unless the last message is an answer.
    """
    return render_all(tokenizer, [messages])[0]


def render_all(tokenizer, conversations: list[list[dict]]) -> list[str]:
    """Render conversations as `render` does. Many at once take two thirds of the time."""
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        raise UserError("the model has no chat template", remedy="name one with 'chat_template' under its model")
    texts = [""] * len(conversations)
    for is_open in (False, True):
        places = [i for i, each in enumerate(conversations) if (each[-1]["role"] != "assistant") == is_open]
        if not places:
            continue
        options = {"tokenize": False, "add_generation_prompt": is_open}
        try:
            found = tokenizer.apply_chat_template([conversations[i] for i in places], **options)
        except (TemplateError, RecursionError) as error:
            raise UserError(f"the chat template refuses the conversation: {error}") from None
        for place, text in zip(places, found, strict=True):
            texts[place] = text
    return texts


def text_ids(tokenizer, text: str) -> list[int]:
    """Return the token ids of a rendered text. No special tokens are added, because the text has its own."""
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def conversation_ids(tokenizer, messages: list[dict]) -> list[int]:
    """Return the token ids of a rendered conversation; those of a prompt end where the assistant's answer starts."""
    return text_ids(tokenizer, render(tokenizer, messages))


def end_of_turn_ids(tokenizer) -> list[int]:
    """Return the ids of the tokens that end an answer: the tokenizer's end token and the template's."""
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    row = tokenize_conversation(tokenizer, messages)
    last = [token for token, trained in zip(row.ids, row.trained, strict=True) if trained][-1:]
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    return sorted({tokenizer.eos_token_id, *(token for token in last if token in special)} - {None})


@dataclass(frozen=True)
class RenderedConversation:
    """A conversation as text, and [start, end) in characters of each answer that is trained on."""

    text: str
    answers: list[tuple[int, int]]


def answers_of(messages: list[dict]) -> list[int]:
    """Return the places of the assistant's messages."""
    return [place for place, message in enumerate(messages) if message["role"] == "assistant"]


class AnswerTokenizer:
    """Tokenizes conversations and marks the assistant's tokens, including the end token of each answer.

    With `last_turn_only`, only the last answer of a conversation is marked.
    """

    def __init__(self, tokenizer, last_turn_only: bool = False):
        self.tokenizer, self.last_turn_only = tokenizer, last_turn_only
        added = tokenizer.added_tokens_decoder
        self.end_ids = {*tokenizer.all_special_ids, *added}  # only these can end an answer
        self.end_tokens = tuple({*tokenizer.all_special_tokens, *(token.content for token in added.values())})
        self.borders = {number: token.content for number, token in added.items() if is_border(token)}
        if tokenizer.split_special_tokens:
            self.borders = {}
        self.border_ids = np.zeros(max([0, *tokenizer.get_vocab().values(), *added]) + 1, bool)  # by token id
        self.border_ids[list(self.borders)] = True
        longest_first = sorted(self.borders.values(), key=len, reverse=True)  # as the tokenizers library chooses
        self.border_pattern = re.compile("|".join(map(re.escape, longest_first)))

    def render(self, conversations: list[list[dict]]) -> list[RenderedConversation]:
        """Render conversations and find their answers.

        An answer starts after the generation prompt and ends with its end token. White space after that token belongs
        to the next turn. Raises UserError if the template refuses a conversation, or changes earlier turns when more
        turns follow.
        """
        parts = [[messages, *self.parts(messages)] for messages in conversations]
        texts = iter(render_all(self.tokenizer, [part for each in parts for part in each]))
        return [
            self.marked(messages, next(texts), list(itertools.islice(texts, len(each) - 1)))
            for messages, each in zip(conversations, parts, strict=True)
        ]

    def parts(self, messages: list[dict]) -> list[list[dict]]:
        """Return the beginnings of a conversation that show where its answers start and end; it may be the last end."""
        answers = answers_of(messages)
        if self.last_turn_only:
            return [messages[: answers[-1]]]
        return [messages[:end] for place in answers for end in (place, place + 1) if end < len(messages)]

    def marked(self, messages: list[dict], text: str, beginnings: list[str]) -> RenderedConversation:
        """Return a conversation whose text and `parts` are rendered, with its answers."""
        if self.last_turn_only:
            [prompt] = beginnings
            if not text.startswith(prompt):
                raise UserError("the chat template's prompt is not the start of the rendered conversation")
            return RenderedConversation(text, [(len(prompt), self.answer_end(text))])
        answers, borders = [], iter([*beginnings, text])
        for place in answers_of(messages):
            start, end = next(borders), next(borders)
            if not text.startswith(end) or not end.startswith(start):
                raise UserError(
                    f"the chat template renders turn {place + 1} differently when more turns follow",
                    remedy="train on single answers ('tokens.train_on: last_assistant_turn') or use another template",
                )
            answers.append((len(start), self.answer_end(end)))
        return RenderedConversation(text, answers)

    def answer_end(self, text: str) -> int:
        """Return the end of the last answer of a text, without the white space after its end token."""
        stripped = text.rstrip()
        return len(stripped) if stripped.endswith(self.end_tokens) else len(text)

    def encode(self, rows: list[RenderedConversation]) -> list[Conversation]:
        """Return the tokens of rendered conversations, encoded by RAYON_NUM_THREADS threads."""
        found = self.by_borders(rows) if self.borders else [None] * len(rows)
        left = [place for place, row in enumerate(found) if row is None]
        for place, row in zip(left, self.by_offsets([rows[place] for place in left]), strict=True):
            found[place] = row
        return found

    def by_borders(self, rows: list[RenderedConversation]) -> list[Conversation | None]:
        """Return the tokens of conversations whose answers lie between border tokens, and None for the others.

        From the last border before an answer on, the prompt's tokens do not depend on what stands before it. Offsets
        of tokens, which take a third of the time, are not needed.
        """
        matches = [list(self.border_pattern.finditer(row.text)) for row in rows]
        answers = [bordered_answers(*each) for each in zip(rows, matches, strict=True)]
        found: list[Conversation | None] = [None] * len(rows)
        wanted = [place for place, each in enumerate(answers) if each is not None]
        heads = list(dict.fromkeys(head for place in wanted for _, head, _ in answers[place]))  # most of them are alike
        backend = self.tokenizer.backend_tokenizer
        backend.no_padding()
        backend.no_truncation()
        texts = [*heads, *(rows[place].text for place in wanted)]
        encoded = [tokens.ids for tokens in backend.encode_batch_fast(texts, add_special_tokens=False)]
        head_ids = dict(zip(heads, encoded, strict=False))
        for row, ids in zip(wanted, encoded[len(heads) :], strict=True):
            places = np.flatnonzero(self.border_ids[ids]).tolist()
            aligned = [self.borders[ids[place]] for place in places] == [match[0] for match in matches[row]]
            trained = np.zeros(len(ids), bool)
            for before, head, after in answers[row] if aligned else ():
                start, end = places[before], places[before] + len(head_ids[head])
                aligned &= ids[start:end] == head_ids[head]
                trained[end : places[after] + 1] = True
            if aligned:
                found[row] = Conversation(ids, trained, shifted=False)
        return found

    def by_offsets(self, rows: list[RenderedConversation]) -> list[Conversation]:
        """Return the tokens of any conversations; those of the prompt of the last answer are encoded alone as well."""
        if not rows:
            return []
        options = {"add_special_tokens": False, "return_attention_mask": False, "return_token_type_ids": False}
        encoded = self.tokenizer([row.text for row in rows], return_offsets_mapping=True, **options)
        prompts = [row.text[: row.answers[-1][0]] if row.answers else "" for row in rows]
        return [
            Conversation(ids, trained_tokens(row, np.array(offsets).reshape(-1, 2)), ids[: len(prompt)] != prompt)
            for row, ids, offsets, prompt in zip(
                rows,
                encoded["input_ids"],
                encoded["offset_mapping"],
                self.tokenizer(prompts, **options)["input_ids"],
                strict=True,
            )
        ]


def bordered_answers(row: RenderedConversation, borders: list[re.Match]) -> list[tuple[int, str, int]] | None:
    """Return (border, text, border) for each answer: the last border before it, the text from there to the answer, and
    the border that ends it. Return None if an answer lacks one of them."""
    ends, found = [border.end() for border in borders], []
    for first, last in row.answers:
        before, after = bisect_right(ends, first) - 1, bisect_left(ends, last)
        if before < 0 or after == len(ends) or ends[after] != last:
            return None
        found.append((before, row.text[borders[before].start() : first], after))
    return found


def is_border(token) -> bool:
    """Whether the texts before and after an added token never change each other's tokens.

    The tokenizers library finds such tokens first, in the text as it is, and processes each text between them alone.
    """
    depends = token.lstrip or token.rstrip or token.single_word or token.normalized
    return not depends and token.content == token.content.strip() != ""


def trained_tokens(row: RenderedConversation, offsets: np.ndarray) -> np.ndarray:
    """Return for each token whether it lies within an answer, [tokens].

    An end token may include the white space that follows it, as in Phi-3; this white space may be outside the answer.
    """
    starts, ends = offsets.T
    trained = np.zeros(len(offsets), bool)
    for first, last in row.answers:
        inside = (first <= starts) & (starts < np.minimum(ends, last))
        for token in np.flatnonzero(inside & (ends > last)):
            inside[token] = not row.text[last : ends[token]].strip()
        trained |= inside
    return trained


def tokenize_conversation(tokenizer, messages: list[dict], last_turn_only: bool = False) -> Conversation:
    """Tokenize a conversation and mark the assistant's tokens; see `AnswerTokenizer`."""
    answers = AnswerTokenizer(tokenizer, last_turn_only)
    return answers.encode(answers.render([messages]))[0]
