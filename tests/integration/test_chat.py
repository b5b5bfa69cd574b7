"""Conversations as token ids: what is trained on, and where it begins and ends."""

import pytest
from transformers import AutoTokenizer

from scripts.common.chat import end_of_turn_ids, prompt_ids, render, tokenize_conversation
from scripts.common.errors import UserError
from scripts.model.chat_templates import template_text

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


def trained_text(tokenizer, row) -> str:
    return tokenizer.decode([token for token, use in zip(row.ids, row.trained, strict=True) if use])


def test_only_answers_and_their_end_tokens_are_trained(tokenizer):
    row = tokenize_conversation(tokenizer, TURNS)
    assert trained_text(tokenizer, row) == " Oui, l'été à Évian ⚽ !</s> Một cơn bão.</s>"
    assert not row.shifted


def test_the_last_turn_alone_can_be_trained(tokenizer):
    row = tokenize_conversation(tokenizer, TURNS, last_turn_only=True)
    assert trained_text(tokenizer, row) == " Một cơn bão.</s>"


def test_the_mask_equals_that_of_the_templates_generation_marks(tokenizer):
    marked = tokenizer.apply_chat_template(TURNS, return_dict=True, return_assistant_tokens_mask=True)
    row = tokenize_conversation(tokenizer, TURNS)
    assert row.ids == marked["input_ids"]
    assert row.trained == [bool(use) for use in marked["assistant_masks"]]


def test_the_prompt_is_the_head_of_what_is_trained_on(tokenizer):
    row = tokenize_conversation(tokenizer, TURNS)
    prompt = prompt_ids(tokenizer, TURNS[:4])
    assert row.ids[: len(prompt)] == prompt
    assert row.trained[len(prompt) :] == [True] * (len(row.ids) - len(prompt))


def test_the_prompt_begins_with_one_bos_token(tokenizer):
    assert prompt_ids(tokenizer, TURNS[:2]).count(tokenizer.bos_token_id) == 1


def test_a_template_whose_prompt_ends_in_white_space_is_noticed(tokenizer):
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    turns = [TURNS[1], {"role": "assistant", "content": "de la tête"}]
    assert tokenize_conversation(tokenizer, turns).shifted


def test_white_space_after_the_end_token_is_not_trained(tokenizer):
    tokenizer.chat_template = template_text("chatml")
    row = tokenize_conversation(tokenizer, TURNS)
    assert trained_text(tokenizer, row) == "Oui, l'été à Évian ⚽ !<|im_end|>Một cơn bão.<|im_end|>"


def test_an_answer_ends_at_the_templates_token_as_well(tokenizer):
    tokenizer.chat_template = template_text("chatml")
    ends = tokenizer.convert_ids_to_tokens(end_of_turn_ids(tokenizer))
    assert sorted(ends) == ["</s>", "<|im_end|>"]


def test_a_conversation_that_the_template_refuses_is_one_clear_line(tokenizer):
    with pytest.raises(UserError, match="the chat template refuses the conversation: Roles must alternate"):
        render(tokenizer, [TURNS[1], TURNS[1]])


def test_a_template_that_rewrites_earlier_turns_is_refused(tokenizer):
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] != 'assistant' or loop.last %}{{ m['content'] }}{% endif %}{% endfor %}"
    )
    with pytest.raises(UserError, match="renders turn 3 otherwise once more turns follow"):
        tokenize_conversation(tokenizer, TURNS)


def test_a_model_without_a_template_is_one_clear_line(tokenizer):
    tokenizer.chat_template = None
    with pytest.raises(UserError, match="the model has no chat template; name one with 'chat_template'"):
        render(tokenizer, TURNS)
