"""A batch whose ended answers make room for the next prompts, beside each prompt alone."""

import random
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from scripts.predict.refilled_batch import refilled_answers, until_end

LENGTHS, LIMIT, PADDING = (30, 29, 22, 17, 12, 12, 9, 8, 5, 4, 2), 24, 0


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


def answers(asked, ends, size=4):
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
    ends = [answer[place] for answer, place in zip(asked.alone[::2], (0, 9, 4, 15, 2, 7), strict=True)]
    found, alone, shapes = answers(asked, ends)
    assert found == alone
    lengths = [len(answer) for answer in alone]
    assert len(set(lengths)) > 4
    # The next prompts take the places of answers that have ended, and the batch never gets wider than its longest row.
    steps = [rows for rows, _ in shapes]
    assert sum(steps) < 0.8 * sum(4 * max(lengths[start : start + 4]) for start in range(0, len(lengths), 4))
    assert max(steps) == 4
    assert max(width for _, width in shapes) <= max(LENGTHS) + LIMIT
