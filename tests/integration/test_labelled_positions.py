"""Training and likelihood compute logits only at the positions where a token is trained or measured."""

import pytest
import torch
import trl.trainer.utils
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
from trl.trainer.utils import add_fused_lm_head

import scripts.train.trainer  # noqa: F401 (tells TRL to leave positions without a label out)

KINDS = {"tiny_base": AutoModelForCausalLM, "tiny_vision_base": AutoModelForImageTextToText}


@pytest.mark.parametrize("base", KINDS)
def test_loss_and_gradient_come_of_the_labelled_positions_alone_and_may_be_zero(request, base, monkeypatch):
    folder = request.getfixturevalue(base).parent
    model = KINDS[base].from_pretrained(folder, dtype=torch.float32)
    ids = torch.randint(30, 97, (3, 20), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    labels[0, :15], labels[1, :18], labels[2, :] = -100, -100, -100
    logits, targets = model(input_ids=ids).logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="sum") / 7
    weight = model.get_input_embeddings().weight
    (expected_gradient,) = torch.autograd.grad(expected, weight)
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    seen, real = [], trl.trainer.utils._ChunkedLogProbFunction

    class Counted:
        @staticmethod
        def apply(hidden, *arguments):
            seen.append(len(hidden))
            return real.apply(hidden, *arguments)

    monkeypatch.setattr(trl.trainer.utils, "_ChunkedLogProbFunction", Counted)
    loss = -model(input_ids=ids, labels=labels, fused_lm_head=True).log_probs.sum() / 7
    (gradient,) = torch.autograd.grad(loss, weight)
    assert seen == [7]
    assert torch.allclose(loss, expected, rtol=1e-6)
    assert torch.allclose(gradient, expected_gradient, atol=1e-5)
    nothing = -model(input_ids=ids, labels=torch.full_like(ids, -100), fused_lm_head=True).log_probs.sum()
    nothing.backward()
    assert nothing.item() == 0
