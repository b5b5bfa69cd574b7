"""A batch whose ended answers make room for the next prompts, beside each prompt alone."""

import random
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig, MambaConfig

from scripts.predict.refilled_batch import refilled_answers, until_end

LENGTHS, LIMIT, PADDING = (60, 29, 28, 26, 22, 21, 17, 17, 14, 12, 12, 11, 9, 8, 8, 7, 5, 4, 3, 2), 24, 0


def inputs_of(rows, padding=PADDING):
    """Return rows of ids, padded on the left, as the model reads them."""
    width = max(map(len, rows))
    tokens = [[padding] * (width - len(row)) + row for row in rows]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
    return {"input_ids": torch.tensor(tokens), "attention_mask": torch.tensor(mask)}


@pytest.fixture(scope="module", params=[None, 8], ids=["full", "sliding"])
def asked(request, tiny_base):
    """A model with or without a sliding window, rows of ids, and the answer that each has alone, ended by no token."""
    model = AutoModelForCausalLM.from_pretrained(tiny_base.parent, dtype=torch.float32, sliding_window=request.param)
    draw = random.Random(1)
    rows = [[draw.randrange(10, 600) for _ in range(length)] for length in LENGTHS]
    config = GenerationConfig(max_new_tokens=LIMIT, eos_token_id=[], pad_token_id=PADDING)
    alone = [
        model.eval().generate(**inputs_of([row]), generation_config=config)[0, len(row) :].tolist() for row in rows
    ]
    return SimpleNamespace(model=model, rows=rows, alone=alone)


def answers(asked, ends, size=8):
    """Return answers in the order of prompts, and (rows, width) of each evaluation."""
    config = GenerationConfig(max_new_tokens=LIMIT, eos_token_id=ends, pad_token_id=PADDING)
    shapes = []

    def watch(_, __, inputs):
        shapes.append(
            (len(inputs["input_ids"]), inputs["past_key_values"].get_seq_length() + inputs["input_ids"].shape[1])
        )

    with asked.model.register_forward_pre_hook(watch, with_kwargs=True):
        found = dict(
            refilled_answers(
                asked.model, config, size, range(len(LENGTHS)), lambda batch: inputs_of([asked.rows[i] for i in batch])
            )
        )
    return [found[i] for i in range(len(LENGTHS))], [until_end(row, config) for row in asked.alone], shapes


def test_answers_are_those_that_each_prompt_has_alone_whoever_else_is_in_the_batch(asked):
    ends = [answer[place] for answer, place in zip(asked.alone[::3], (1, 9, 14, 15, 2, 7), strict=False)]
    found, alone, shapes = answers(asked, ends)
    assert found == alone
    lengths = [len(answer) for answer in alone]
    assert len({*lengths}) > 5
    # A place is free for a few steps only.
    assert sum(rows for rows, _ in shapes) < 1.08 * sum(lengths)
    assert max(rows for rows, _ in shapes) == 8


def test_a_batch_is_as_wide_as_its_longest_prompt_with_its_answer(asked):
    """The longest prompt's answer ends soon, all others of its batch later."""
    _, alone, shapes = answers(asked, [asked.alone[0][1]])
    assert len(alone[0]) == 2
    assert max(width for _, width in shapes) <= max(
        len(row) + len(answer) for row, answer in zip(asked.rows, alone, strict=True)
    )


def refilled(model, rows, size, padding=PADDING, **options):
    """Return the answers to rows, at most `size` at a time, and that of each alone."""
    config = GenerationConfig(max_new_tokens=LIMIT, pad_token_id=padding, **options)
    alone = [
        until_end(model.generate(**inputs_of([row]), generation_config=config)[0, len(row) :].tolist(), config)
        for row in rows
    ]
    found = dict(
        refilled_answers(
            model, config, size, range(len(rows)), lambda batch: inputs_of([rows[i] for i in batch], padding)
        )
    )
    return [found[i] for i in range(len(rows))], alone


def test_padding_counts_as_no_repetition(asked):
    """The padding is the end token, and a penalty on it would delay the shorter answer's end: transformers has none."""
    rows, penalty = [asked.rows[0], asked.rows[-4]], {"repetition_penalty": 1.3}
    for place in (1, 5):
        end = refilled(asked.model, rows, 2, eos_token_id=[], **penalty)[1][1][place]
        found, alone = refilled(asked.model, rows, 2, end, eos_token_id=[end], **penalty)
        assert found == alone
        assert len(alone[1]) == place + 1


def test_a_base_whose_files_switch_the_cache_off_answers_the_same(asked, monkeypatch):
    monkeypatch.setattr(asked.model.config, "use_cache", False)
    monkeypatch.setattr(asked.model.generation_config, "use_cache", False)
    assert answers(asked, [asked.alone[0][3]])[0] == answers(asked, [asked.alone[0][3]])[1]


def test_a_model_with_a_recurrent_state_answers_a_batch_in_one_call():
    torch.manual_seed(0)
    config = MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=2, state_size=4)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    rows = [[3 + place, 9, 4, 7 + place] for place in range(3)]
    found, alone = refilled(model, rows, 2, eos_token_id=[])
    assert found == alone
