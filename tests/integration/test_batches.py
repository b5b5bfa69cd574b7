"""Order of rows, packing, and that packed examples don't see each other."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from scripts.common.chat import IGNORED
from scripts.common.padding import pad_batch
from scripts.train.batches import (
    Collator,
    EpochSampler,
    keeps_examples_apart,
    pack_batch,
    pack_rows,
)

LENGTHS = [5, 9, 3, 14, 7, 7, 2, 11, 6, 4]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=80), st.integers(60, 90))
def test_packs_hold_every_example_once_and_fit(lengths, capacity):
    ids = [[number] * length for number, length in enumerate(lengths)]
    with TemporaryDirectory() as folder:
        packs = pack_rows(Dataset.from_dict({"input_ids": ids, "labels": ids}), capacity, Path(folder) / "rows.arrow")
        packed = packs[:]
    assert all(
        sum(sizes) == len(row) <= capacity
        for sizes, row in zip(packed["seq_lengths"], packed["input_ids"], strict=True)
    )
    assert sorted(token for row in packed["input_ids"] for token in row) == [token for row in ids for token in row]
    assert packed["labels"] == packed["input_ids"]


def test_an_epochs_order_depends_on_seed_and_epoch_alone():
    sampler, again = EpochSampler(LENGTHS, seed=1, group=4), EpochSampler(LENGTHS, seed=1, group=4)
    sampler.set_epoch(3)
    torch.manual_seed(99)
    again.set_epoch(3)
    assert list(sampler) == list(again)
    again.set_epoch(4)
    assert list(sampler) != list(again)
    assert sorted(again) == list(range(len(LENGTHS)))


def test_grouping_by_length_saves_padding():
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(10, 500, (2000,), generator=generator).tolist()

    def padded(order):
        return sum(max(lengths[i] for i in order[j : j + 8]) * 8 for j in range(0, len(order), 8))

    assert padded(list(EpochSampler(lengths, 0, group=8))) < 0.8 * padded(list(EpochSampler(lengths, 0)))


def test_the_longest_row_comes_first_when_grouped():
    assert next(iter(EpochSampler(LENGTHS, 0, group=4))) == 3


def test_padding_is_neither_attended_nor_trained():
    batch = pad_batch([{"input_ids": [1, 2, 3], "labels": [IGNORED, 2, 3]}, {"input_ids": [4], "labels": [4]}], 0)
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[IGNORED, 2, 3], [4, IGNORED, IGNORED]]


def test_positions_restart_with_each_packed_example_whose_first_token_nothing_predicts():
    rows = [
        {"input_ids": [1, 2, 3, 4, 5], "labels": [1, 2, 3, 4, 5], "seq_lengths": [3, 2]},
        {"input_ids": [6, 7], "labels": [6, 7], "seq_lengths": [2]},
    ]
    batch = Collator(0)(rows)
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1], [0, 1, 0, 1, 2]]
    assert batch["labels"].tolist() == [[IGNORED, 2, 3, IGNORED, 5], [IGNORED, 7, IGNORED, IGNORED, IGNORED]]
    assert "attention_mask" not in batch


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_packed_examples_do_not_see_each_other(tiny_base, attention):
    model = AutoModelForCausalLM.from_pretrained(tiny_base.parent, dtype=torch.float32, attn_implementation=attention)
    model.eval()
    examples = [list(range(20, 32)), list(range(40, 59)), list(range(60, 67))]
    row = {
        "input_ids": [token for example in examples for token in example],
        "labels": [token for example in examples for token in [IGNORED, *example[1:]]],
        "seq_lengths": [len(example) for example in examples],
    }
    packed = pack_batch([row], 0)
    with torch.no_grad():
        together = model(**packed, use_cache=False).loss * (len(row["labels"]) - 3)
        alone = sum(
            model(input_ids=torch.tensor([e]), labels=torch.tensor([e]), use_cache=False).loss * (len(e) - 1)
            for e in examples
        )
    assert together.item() == pytest.approx(alone.item(), rel=1e-5)
    assert keeps_examples_apart(model, 0, model.config.vocab_size)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_check_of_packing_is_not_misled_by_rounding(tiny_base, dtype):
    model = AutoModelForCausalLM.from_pretrained(tiny_base.parent, dtype=dtype)
    assert keeps_examples_apart(model, 0, model.config.vocab_size)


def test_attention_that_lets_packed_examples_see_each_other_is_found_out(tiny_base):
    model = AutoModelForCausalLM.from_pretrained(tiny_base.parent, dtype=torch.float32)
    forward = model.forward

    def with_a_full_mask(**inputs):
        return forward(**inputs, attention_mask=torch.ones_like(inputs["input_ids"]))

    model.forward = with_a_full_mask
    assert not keeps_examples_apart(model, 0, model.config.vocab_size)
