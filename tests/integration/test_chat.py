"""Conversations as token ids: what is trained on, and where it begins and ends."""

import itertools

import pytest
from tokenizers import AddedToken
from transformers import AutoTokenizer

from scripts.common.chat import AnswerTokenizer, conversation_ids, end_of_turn_ids, tokenize_conversation
from scripts.common.errors import UserError
from scripts.common.records import Record
from scripts.train import tokenize_conversations
from scripts.train.tokenize_conversations import groups_of, rendered
from tests.support.chat_templates import template_text
from tests.support.tiny_model import TEMPLATE

TURNS = [
    {"role": "system", "content": "Tu commentes."},
    {"role": "user", "content": "Minute 3 : but ?"},
    {"role": "assistant", "content": "Oui, l'été à Évian ⚽ !"},
    {"role": "user", "content": "Et après ?"},
    {"role": "assistant", "content": "Một cơn bão."},
]


@pytest.fixture
def tokenizer(tiny_base):
    return AutoTokenizer.from_pretrained(tiny_base.parent)


def trained_text(tokenizer, **options) -> str:
    row = tokenize_conversation(tokenizer, TURNS, **options)
    assert not row.shifted
    return tokenizer.decode([token for token, use in zip(row.ids, row.trained, strict=True) if use])


def test_only_answers_and_their_end_tokens_are_trained_as_the_templates_generation_marks_say(tokenizer):
    assert trained_text(tokenizer) == " Oui, l'été à Évian ⚽ !</s> Một cơn bão.</s>"
    assert trained_text(tokenizer, last_turn_only=True) == " Một cơn bão.</s>"
    marked = tokenizer.apply_chat_template(TURNS, return_dict=True, return_assistant_tokens_mask=True)
    row = tokenize_conversation(tokenizer, TURNS)
    assert (row.ids, row.trained.tolist()) == (marked["input_ids"], [bool(use) for use in marked["assistant_masks"]])


def test_the_prompt_is_the_head_of_what_is_trained_on_and_begins_with_one_bos_token(tokenizer):
    row, prompt = tokenize_conversation(tokenizer, TURNS), conversation_ids(tokenizer, TURNS[:4])
    assert row.ids[: len(prompt)] == prompt
    assert all(row.trained[len(prompt) :])
    assert prompt.count(tokenizer.bos_token_id) == 1


def test_a_template_whose_prompt_ends_in_white_space_is_noticed(tokenizer):
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    turns = [TURNS[1], {"role": "assistant", "content": "de la tête"}]
    assert tokenize_conversation(tokenizer, turns).shifted


# Prompts of these end within a word of the answer, and within a special token.
OPEN, CUT = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '" + end + "' + m['content'] + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant" + end + "' }}{% endif %}"
    for end in (" ", "<")
)
CONTENTS = ("But !", " a", "\n\nb", "", "</s> [INST]<|im_end|>", "<|im_start|>assistant\n", "l'été ⚽", "s>  \n")


@pytest.mark.parametrize("swallows", [False, True])
@pytest.mark.parametrize("template", [TEMPLATE, template_text("chatml"), template_text("phi3"), OPEN, CUT])
def test_many_conversations_at_once_have_the_tokens_of_each_alone_and_of_its_whole_prompt(
    tokenizer, template, swallows
):
    tokenizer.chat_template = template
    if swallows:
        tokenizer.add_tokens([AddedToken(name, rstrip=True) for name in ("<|assistant|>", "<|im_start|>", "[/INST]")])
    roles = ("user", "assistant", "user", "assistant")
    chats = [
        [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
        for texts in itertools.product(["But !"], CONTENTS, CONTENTS[:4], CONTENTS)
    ]
    answers = AnswerTokenizer(tokenizer)
    rows = answers.render(chats)
    for messages, row, slow in zip(chats, answers.encode(rows), answers.by_offsets(rows), strict=True):
        whole, prompt = conversation_ids(tokenizer, messages), conversation_ids(tokenizer, messages[:3])
        assert (row.ids, row.shifted) == (whole, whole[: len(prompt)] != prompt), messages
        assert row.trained.tolist() == slow.trained.tolist(), messages


@pytest.mark.parametrize("template", [TEMPLATE, template_text("chatml")])
def test_answers_between_border_tokens_are_found_without_offsets(tokenizer, template):
    tokenizer.chat_template = template
    answers = AnswerTokenizer(tokenizer)
    assert None not in answers.by_borders(answers.render([TURNS, TURNS[:3]]))


def test_the_record_that_a_template_refuses_is_named_among_those_that_are_rendered_at_once(tokenizer):
    records = [Record(f"{n}", TURNS, origin=f"raw.jsonl:{n}") for n in range(3)]
    records[1].messages = [TURNS[1]] * 2
    with pytest.raises(UserError, match=r"^raw\.jsonl:1: record 1: the chat template refuses the conversation"):
        rendered(AnswerTokenizer(tokenizer), records)


def test_a_group_of_records_ends_where_their_renderings_are_long(monkeypatch):
    monkeypatch.setattr(tokenize_conversations, "BLOCK", 1000)
    records = [Record("", [{"role": "user", "content": "x" * length}]) for length in (10, 2000, 10, 10)]
    assert [len(group) for group in groups_of(iter(records))] == [2, 2]


def test_an_answer_ends_at_the_templates_token_as_well_and_white_space_after_it_is_not_trained(tokenizer):
    tokenizer.chat_template = template_text("chatml")
    assert trained_text(tokenizer) == "Oui, l'été à Évian ⚽ !<|im_end|>Một cơn bão.<|im_end|>"
    assert {*tokenizer.convert_ids_to_tokens(end_of_turn_ids(tokenizer))} == {"</s>", "<|im_end|>"}


REWRITES = (
    "{% for m in messages %}{% if m['role'] != 'assistant' or loop.last %}{{ m['content'] }}{% endif %}{% endfor %}"
)


@pytest.mark.parametrize(
    ("template", "turns", "line"),
    [
        (TEMPLATE, [TURNS[1]] * 2, "the chat template refuses the conversation: Roles must alternate"),
        (REWRITES, TURNS, "renders turn 3 differently when more turns follow"),
        (None, TURNS, "the model has no chat template; name one with 'chat_template'"),
    ],
)
def test_a_template_that_can_not_be_used_is_one_clear_line(tokenizer, template, turns, line):
    tokenizer.chat_template = template
    with pytest.raises(UserError, match=line):
        tokenize_conversation(tokenizer, turns)
