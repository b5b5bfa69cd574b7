"""GPU memory: the estimate holds against traced training steps and against models that are there."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    Mistral3Config,
    MistralConfig,
    PixtralVisionConfig,
)

from scripts.config.runs import Run
from scripts.workflow.memory.estimate import adapter_parameters, training_memory
from scripts.workflow.memory.shapes import Shape, shape_of_config, shape_of_model
from tests.support.traced_memory import shaped_model, traced_bytes

WITHIN = 0.12  # of the traced peak
SHAPES = {
    "wide": Shape(4096, 1024, 4096, 6, 8, 2, 128),
    "narrow MLP": Shape(2048, 2048, 2048, 3, 16, 16, 128),
    # Here the inputs of the blocks, which checkpointing keeps, count for more than the block at work.
    "deep": Shape(2048, 256, 512, 12, 2, 1, 128),
}


def run(method: str = "lora", task: str = "chat", **sections) -> Run:
    return Run.model_validate({"dataset": "d", "model": "m", "method": method, "task": task, **sections})


# Each method, each shape, and with and without checkpointing, but not every combination: a trace takes long.
@pytest.mark.parametrize(
    ("shape", "method", "checkpointing"),
    [
        ("wide", "lora", False),
        ("wide", "lora", True),
        ("deep", "lora", True),
        ("narrow MLP", "full", False),
        ("narrow MLP", "full", True),
        ("narrow MLP", "head", True),
    ],
)
def test_the_estimate_is_near_the_traced_peak(shape, method, checkpointing):
    training = {"micro_batch": 4, "gradient_checkpointing": checkpointing}
    task = "token_classification" if method == "head" else "chat"
    asked = run(method, task, training=training, tokens={"max_length": 512})
    shape = SHAPES[shape]
    traced = traced_bytes(shape, asked)["peak"]
    found = training_memory(shape, asked)
    # The trace runs neither the output layer nor its logits, and knows no reserve.
    counted = found.total - found.reserve - found.logits
    if method != "head":
        table = 2 * shape.vocabulary * shape.hidden
        counted -= table * (9 if method == "full" else 1)
    assert counted == pytest.approx(traced, rel=WITHIN)


TEXT = MistralConfig(
    vocab_size=300, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, tie_word_embeddings=False,
)  # fmt: skip
TOWER = PixtralVisionConfig(
    hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, patch_size=14, image_size=56
)
VISION = Mistral3Config(text_config=TEXT, vision_config=TOWER, spatial_merge_size=2, tie_word_embeddings=False)


def test_all_parameters_of_a_model_that_is_there_are_counted_by_its_own_config(tmp_path):
    for kind, config in ((AutoModelForCausalLM, TEXT), (AutoModelForImageTextToText, VISION)):
        with torch.device("meta"):
            parameters = sum(parameter.numel() for parameter in kind.from_config(config).parameters())
        assert shape_of_config(config.to_dict()).parameters == parameters
    TEXT.save_pretrained(tmp_path)
    shape = shape_of_model("mistralai/Mistral-7B-v0.3", [tmp_path / "missing", tmp_path])
    assert shape == shape_of_config(TEXT.to_dict())


def test_an_adapters_parameters_are_those_that_peft_makes():
    asked = run(lora={"r": 8})
    model = shaped_model(SHAPES["wide"], asked)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert adapter_parameters(SHAPES["wide"], asked) == trained
