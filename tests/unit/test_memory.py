"""GPU memory: what the estimate says of the recipes' models and of settings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.common.base_model import has_room
from scripts.config.runs import Run
from scripts.workflow.memory.estimate import activation_bytes, training_memory
from scripts.workflow.memory.shapes import KNOWN, Shape, shape_of_model

SMALL = Shape(4096, 1024, 4096, 6, 8, 2, 128)
MISTRAL = KNOWN["mistralai/Mistral-7B-v0.3"]


def run(method: str = "lora", task: str = "chat", **sections) -> Run:
    return Run.model_validate({"dataset": "d", "model": "m", "method": method, "task": task, **sections})


def test_known_shapes_have_the_published_parameters():
    billions = {
        "mistralai/Mistral-7B-v0.3": 7.248, "meta-llama/Llama-3.1-8B-Instruct": 8.030,
        "microsoft/Phi-3-mini-4k-instruct": 3.821, "mistralai/Mistral-Small-3.1-24B-Instruct-2503": 24.011,
    }  # fmt: skip
    assert {model: round(KNOWN[model].parameters / 1e9, 3) for model in billions} == billions


def test_a_config_of_another_family_gives_no_shape(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "t5"}', encoding="utf-8")
    assert shape_of_model(None, [tmp_path]) is None


@given(st.sampled_from([1, 2, 4, 8]), st.sampled_from([128, 1024]), st.booleans(), st.sampled_from(["lora", "qlora"]))
def test_a_larger_batch_never_takes_less(micro_batch, length, checkpointing, method):
    def asked(size):
        training = {"micro_batch": size, "gradient_checkpointing": checkpointing}
        return run(method, training=training, tokens={"max_length": length})

    for shape in KNOWN.values():
        smaller, larger = (training_memory(shape, asked(size)).total for size in (micro_batch, 2 * micro_batch))
        assert smaller < larger


def test_shares_of_the_weights_take_less_in_each_process_and_copies_do_not():
    def weights(method: str, **training) -> float:
        found = training_memory(MISTRAL, run(method, training={"micro_batch": 1, "accumulation": 8, **training}))
        return found.weights + found.trained

    for method in ("lora", "full"):
        one, copies = weights(method), weights(method, processes=4)
        shares = [weights(method, processes=count, sharding="fsdp") for count in (2, 4, 8)]
        assert copies == one
        assert one > shares[0] > shares[1] > shares[2] > one / 8


def test_processes_that_share_a_micro_batch_have_fewer_rows_at_once_each():
    whole, half = (run(training={"micro_batch": 4, "accumulation": 1, "processes": count}) for count in (1, 2))
    assert (whole.training.rows_at_once, half.training.rows_at_once) == (4, 2)
    assert training_memory(SMALL, half).activations < training_memory(SMALL, whole).activations


def test_four_bits_take_less_than_a_third_of_sixteen_and_a_head_keeps_nothing_for_backward():
    sixteen, four = (training_memory(MISTRAL, run(method)).weights for method in ("lora", "qlora"))
    assert four < sixteen / 3
    head, lora = (activation_bytes(MISTRAL, run(way, "token_classification"), 512) for way in ("head", "lora"))
    assert head < lora / 3


@pytest.mark.parametrize(("size", "free", "room"), [(13, 16, True), (15, 16, False), (9, 10, True), (10, 10, False)])
def test_weights_leave_a_tenth_of_the_gpu_for_the_work(size, free, room):
    assert has_room(size, free) == room
