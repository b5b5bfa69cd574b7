"""A batch whose ended answers make room for the next prompts, beside each prompt alone."""

import random
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from scripts.predict.refilled_batch import refilled_answers, until_end

LENGTHS, LIMIT, PADDING = (60, 29, 28, 26, 22, 21, 17, 17, 14, 12, 12, 11, 9, 8, 8, 7, 5, 4, 3, 2), 24, 0


def inputs_of(rows):
    """Return rows of ids, padded on the left, as the model reads them."""
    width = max(map(len, rows))
    tokens = [[PADDING] * (width - len(row)) + row for row in rows]
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
