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
from scripts.train.batches import EpochSampler, collate, keeps_examples_apart, pack_rows

LENGTHS = [5, 9, 3, 14, 7, 7, 2, 11, 6, 4]


@settings(max_examples=20)
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


def test_an_epochs_order_depends_on_seed_and_epoch_alone_and_a_grouped_one_begins_with_the_longest_row():
    sampler, again = EpochSampler(LENGTHS, seed=1, group=4), EpochSampler(LENGTHS, seed=1, group=4)
    assert LENGTHS[next(iter(sampler))] == max(LENGTHS)
    sampler.set_epoch(3)
    torch.manual_seed(99)
    again.set_epoch(3)
    assert list(sampler) == list(again)
    again.set_epoch(4)
    assert list(sampler) != list(again)
    assert sorted(again) == list(range(len(LENGTHS)))


def test_grouping_by_length_saves_padding():
    lengths = torch.randint(10, 500, (2000,), generator=torch.Generator().manual_seed(0)).tolist()

    def padded(order):
        return sum(max(lengths[i] for i in order[j : j + 8]) * 8 for j in range(0, len(order), 8))

    assert padded(list(EpochSampler(lengths, 0, group=8))) < 0.8 * padded(list(EpochSampler(lengths, 0)))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_packed_examples_do_not_see_each_other(tiny_base, attention):
    model = AutoModelForCausalLM.from_pretrained(tiny_base.parent, dtype=torch.float32, attn_implementation=attention)
    examples = [list(range(20, 32)), list(range(40, 59)), list(range(60, 67))]
    rows = []
    for packed in (examples, examples[:2]):
        ids = [token for example in packed for token in example]
        rows.append({"input_ids": ids, "labels": ids, "seq_lengths": [len(example) for example in packed]})

    def loss(**inputs) -> float:
        """Return the summed loss."""
        predicted = (inputs["labels"][:, 1:] != IGNORED).sum().item()
        return model.eval()(**inputs, use_cache=False).loss.item() * predicted

    alone = [loss(input_ids=torch.tensor([e]), labels=torch.tensor([e])) for e in [*examples, *examples[:2]]]
    assert loss(**collate(rows, 0)) == pytest.approx(sum(alone), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_attention_that_lets_packed_examples_see_each_other_is_found_out_in_every_number_format(tiny_base, dtype):
    model = AutoModelForCausalLM.from_pretrained(tiny_base.parent, dtype=dtype)
    assert keeps_examples_apart(model, 0, model.config.vocab_size)
    forward = model.forward
    model.forward = lambda **inputs: forward(**inputs, attention_mask=torch.ones_like(inputs["input_ids"]))
    assert not keeps_examples_apart(model, 0, model.config.vocab_size)
