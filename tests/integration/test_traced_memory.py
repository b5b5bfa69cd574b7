"""GPU memory: the estimate holds against traced training steps and against models that are there."""

import pytest
from safetensors.torch import load_file

from scripts.common.files import read_json
from scripts.config.runs import Run
from scripts.workflow.memory.estimate import adapter_parameters, training_memory
from scripts.workflow.memory.shapes import Shape, shape_of_config, shape_of_model
from tests.support.traced_memory import shaped_model, traced_peak

WITHIN = 0.12  # of the traced peak
SHAPES = {
    "wide": Shape(4096, 1024, 4096, 6, 8, 2, 128),
    "narrow MLP": Shape(2048, 2048, 2048, 3, 16, 16, 128),
    # Here the inputs of the blocks, which checkpointing keeps, count for more than the block at work.
    "deep": Shape(2048, 256, 512, 12, 2, 1, 128),
}


# Each method, each shape, and with and without checkpointing, but not every combination: a trace takes long.
@pytest.mark.parametrize(
    ("shape", "method", "checkpointing"),
    [
        ("wide", "lora", False),
        ("deep", "lora", True),
        ("narrow MLP", "full", False),
        ("narrow MLP", "full", True),
        ("narrow MLP", "head", True),
    ],
)
def test_the_estimate_is_near_the_traced_peak(shape, method, checkpointing):
    run = {"dataset": "d", "model": "m", "method": method, "tokens": {"max_length": 512}}
    run |= {"training": {"micro_batch": 4, "gradient_checkpointing": checkpointing}}
    run, shape = Run(**run, task="token_classification" if method == "head" else "chat"), SHAPES[shape]
    found = training_memory(shape, run)
    # The trace runs neither the output layer nor its logits, and knows no reserve.
    table = {"head": 0, "lora": 2, "full": 2 * 9}[method] * shape.vocabulary * shape.hidden
    assert found.total - found.reserve - found.logits - table == pytest.approx(traced_peak(shape, run), rel=WITHIN)


def test_all_parameters_of_a_model_that_is_there_are_counted_by_its_own_config(tiny_base, tiny_vision_base, tmp_path):
    for base in (tiny_base, tiny_vision_base):
        shape = shape_of_model("mistralai/Mistral-7B-v0.3", [tmp_path / "missing", base.parent])
        assert shape == shape_of_config(read_json(base.parent / "config.json"))
        assert shape.parameters == sum(t.numel() for t in load_file(base.parent / "model.safetensors").values())


def test_an_adapters_parameters_are_those_that_peft_makes():
    run = Run(dataset="d", model="m", lora={"r": 8})
    trained = [weight for weight in shaped_model(SHAPES["wide"], run).parameters() if weight.requires_grad]
    assert adapter_parameters(SHAPES["wide"], run) == sum(weight.numel() for weight in trained)
