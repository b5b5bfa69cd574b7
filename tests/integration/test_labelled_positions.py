"""Training and likelihood compute logits only at the positions where a token is trained or measured."""

import pytest
import torch
import trl.trainer.utils
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    LlamaConfig,
    Mistral3Config,
    MistralConfig,
    Phi3Config,
    PixtralVisionConfig,
)
from trl.trainer.utils import add_fused_lm_head

import scripts.train.trainer  # noqa: F401 (tells TRL to leave positions without a label out)

SHAPE = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


CONFIGS = {"llama": LlamaConfig(**SHAPE), "mistral": MistralConfig(**SHAPE), "phi3": Phi3Config(**SHAPE)}
TOWER = PixtralVisionConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2)
CONFIGS["mistral3"] = Mistral3Config(text_config=MistralConfig(**SHAPE, head_dim=8), vision_config=TOWER)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_loss_and_gradient_come_of_the_labelled_positions_alone_and_may_be_zero(architecture, monkeypatch):
    torch.manual_seed(0)
    kind = AutoModelForImageTextToText if architecture == "mistral3" else AutoModelForCausalLM
    model = kind.from_config(CONFIGS[architecture])
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 97, (3, 20), generator=generator)
    labels = ids.clone()
    labels[0, :15], labels[1, :18], labels[2, :] = -100, -100, -100
    logits = model(input_ids=ids).logits[:, :-1].float()
    expected = torch.nn.functional.cross_entropy(logits.reshape(-1, 97), labels[:, 1:].reshape(-1), reduction="sum") / 7
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
    assert torch.allclose(gradient, expected_gradient, atol=1e-6)
    nothing = -model(input_ids=ids, labels=torch.full_like(ids, -100), fused_lm_head=True).log_probs.sum()
    nothing.backward()
    assert nothing.item() == 0
