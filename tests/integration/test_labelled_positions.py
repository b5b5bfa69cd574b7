"""Training and likelihood compute logits only at the positions where a token is trained or measured."""

import pytest
import torch
import trl.trainer.utils
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PixtralVisionConfig,
)
from trl.trainer.utils import add_fused_lm_head

import scripts.train.trainer  # noqa: F401 (tells TRL to leave positions without a label out)

SHAPE = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def new_model(architecture: str):
    """Return a very small model of random weights."""
    torch.manual_seed(0)
    if architecture == "mistral3":
        tower = PixtralVisionConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2)
        text = MistralConfig(**SHAPE, head_dim=8)
        return Mistral3ForConditionalGeneration(Mistral3Config(text_config=text, vision_config=tower))
    config, kind = {
        "llama": (LlamaConfig, LlamaForCausalLM),
        "mistral": (MistralConfig, MistralForCausalLM),
        "phi3": (Phi3Config, Phi3ForCausalLM),
    }[architecture]
    return kind(config(**SHAPE))


@pytest.mark.parametrize("architecture", ["llama", "mistral", "phi3", "mistral3"])
def test_the_loss_and_its_gradient_come_of_the_labelled_positions_alone(architecture, monkeypatch):
    model = new_model(architecture)
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


@pytest.mark.parametrize("architecture", ["llama", "mistral", "phi3", "mistral3"])
def test_a_batch_without_any_label_has_a_loss_of_zero_that_goes_backward(architecture):
    model = new_model(architecture)
    add_fused_lm_head(model)
    ids = torch.full((1, 5), 3)
    loss = -model(input_ids=ids, labels=torch.full((1, 5), -100), fused_lm_head=True).log_probs.sum()
    loss.backward()
    assert loss.item() == 0
