"""Prediction on a GPU: the same answers as on the CPU, of the base, the adapter, the merged model and a classifier."""

import gc
import json
from pathlib import Path

import pytest
import torch

from tests.support.gpu import run_step_program
from tests.support.span_data import head_settings
from tests.support.training import run_settings, train_in

TOLERANCE = 1e-3  # of a likelihood (nats per answer, relative) in float32, and of a score
SPILLED = {"hidden": 2048, "intermediate": 8192, "layers": 24, "heads": 32, "kv_heads": 8, "head_size": 64}
FREE = 5 * 2**29  # bytes of the GPU that are left to the model of that shape, which has 3.0 GiB


def train_and_merge(data: Path, base: Path, folder: Path, settings: dict) -> None:
    """Train an adapter, or a head, on the GPU and merge it."""
    from scripts.train.merge_adapter import merge_adapter
    from scripts.train.merge_head import merge_head

    train_in(data, base, folder, settings)
    merge = merge_head if settings["task"] == "token_classification" else merge_adapter
    merge(folder / "adapter" / "manifest.json", base, folder / "merged")


def predicted(data: Path, model: list, folder: Path, settings: dict, gpu: bool) -> tuple[list[dict], list[dict]]:
    """Return answers and likelihoods of the test split, on the GPU or, in a process that sees none, on the CPU."""
    from scripts.common.files import read_jsonl
    from scripts.predict import predict_spans, predict_with_transformers

    place = folder / ("gpu" if gpu else "cpu")
    outputs = ["--answers", place / "answers" / "v.jsonl", "--likelihood", place / "likelihood" / "v.jsonl"]
    images = ["--images", data / "dataset"] if settings["task"] == "vision" else []
    words = [*model, "--test", data / "dataset" / "test.jsonl", *outputs, *images, "--settings", json.dumps(settings)]
    step = predict_spans if settings["task"] == "token_classification" else predict_with_transformers
    if gpu:
        assert step.main([str(word) for word in words]) == 0
    else:
        run_step_program(f"predict/{Path(step.__file__).name}", *words, gpu=False)
    return tuple(list(read_jsonl(place / name / "v.jsonl")) for name in ("answers", "likelihood"))


def assert_gpu_agrees_with_cpu(data: Path, model: list, folder: Path, settings: dict) -> None:
    """Assert that GPU and CPU give the same answers and likelihoods."""
    answers, likelihood = predicted(data, model, folder, settings, gpu=True)
    on_cpu, likelihood_on_cpu = predicted(data, model, folder, settings, gpu=False)
    assert len(answers) == len(likelihood) == 3
    assert [row["answer"] for row in answers] == [row["answer"] for row in on_cpu]
    assert [row["id"] for row in likelihood] == [row["id"] for row in likelihood_on_cpu]
    for here, there in zip(likelihood, likelihood_on_cpu, strict=True):
        assert here["nll"] == pytest.approx(there["nll"], rel=TOLERANCE)


@pytest.fixture(scope="module", params=["chat", "vision"])
def trained(request, tmp_path_factory) -> tuple[Path, Path, Path, dict]:
    """Data, base, a run's folder with adapter and merged model, and its settings; predictions are in float32."""
    vision = request.param == "vision"
    data = request.getfixturevalue("pictures" if vision else "chat")
    base = request.getfixturevalue("tiny_vision_base" if vision else "tiny_base")
    folder = tmp_path_factory.mktemp("run")
    generation = {"max_new_tokens": 12, "batch_size": 2}
    settings = run_settings(task=request.param, training={"precision": "fp32"}, generation=generation)
    train_and_merge(data, base, folder, settings)
    return data, base, folder, settings


@pytest.mark.parametrize("variant", ["base", "adapter", "merged"])
def test_answers_on_the_gpu_are_those_on_the_cpu(trained, tmp_path, variant):
    data, base, folder, settings = trained
    adapter = ["--adapter", folder / "adapter" / "manifest.json"] if variant == "adapter" else []
    model = [folder / "merged" / "manifest.json" if variant == "merged" else base, *adapter]
    assert_gpu_agrees_with_cpu(data, model, tmp_path, settings)


def test_the_merged_model_is_on_the_gpu_what_base_and_adapter_are(trained, tmp_path):
    data, base, folder, settings = trained
    adapter = [base, "--adapter", folder / "adapter" / "manifest.json"]
    _, apart = predicted(data, adapter, tmp_path / "apart", settings, gpu=True)
    _, merged = predicted(data, [folder / "merged" / "manifest.json"], tmp_path / "merged", settings, gpu=True)
    _, before = predicted(data, [base], tmp_path / "base", settings, gpu=True)
    for one, other, untrained in zip(apart, merged, before, strict=True):
        # The merged weights are stored in bf16, with three digits: what is left is far from what training did.
        assert one["nll"] == pytest.approx(other["nll"], abs=0.1 * abs(untrained["nll"] - one["nll"]) + 0.01)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_answers_in_16_and_in_4_bits_come_and_end(chat, tiny_base, tmp_path, precision):
    generation = {"max_new_tokens": 12, "batch_size": 2, "load_in_4bit": "yes"}
    settings = run_settings("qlora", training={"precision": precision}, generation=generation)
    train_and_merge(chat, tiny_base, tmp_path, settings)
    adapter = [tiny_base, "--adapter", tmp_path / "adapter" / "manifest.json"]
    for name, model in (("adapter", adapter), ("merged", [tmp_path / "merged" / "manifest.json"])):
        answers, likelihood = predicted(chat, model, tmp_path / name, settings, gpu=True)
        assert {row["stop"] for row in answers} <= {"end", "length"}
        assert all(0 < row["nll"] < 100 * row["tokens"] for row in likelihood)


@pytest.mark.parametrize("method", ["head", "lora"])
def test_entities_on_the_gpu_are_those_on_the_cpu(spans, tiny_base, tmp_path, method):
    training = {"epochs": 30, "learning_rate": 0.02, "precision": "fp32", "logging_steps": 100}
    settings = head_settings(method, training=training, generation={"batch_size": 3})
    train_and_merge(spans, tiny_base, tmp_path, settings)
    model = [tmp_path / "merged" / "manifest.json"]
    answers, _ = predicted(spans, model, tmp_path, settings, gpu=True)
    on_cpu, _ = predicted(spans, model, tmp_path, settings, gpu=False)
    assert any(row["entities"] for row in answers)
    for here, there in zip(answers, on_cpu, strict=True):
        assert [entity[:3] for entity in here["entities"]] == [entity[:3] for entity in there["entities"]]
        scores = [[entity[3] for entity in row["entities"]] for row in (here, there)]
        assert scores[0] == pytest.approx(scores[1], abs=TOLERANCE)


def test_layers_that_wait_in_main_memory_give_the_same_answers(tmp_path):
    from scripts.common.base_model import load_base
    from scripts.workflow.memory.shapes import Shape
    from tests.support.random_base import write_random_base

    manifest = write_random_base(tmp_path / "base", "mistral", Shape(vocabulary=32768, **SPILLED), 4096)
    ids = torch.randint(1000, 32768, (2, 64), generator=torch.Generator().manual_seed(0)).to("cuda")

    def answers(**options):
        model = load_base(manifest, torch.bfloat16, **options).eval()
        with torch.inference_mode():
            logits = model(ids).logits.float().cpu()
        places = {str(place) for place in getattr(model, "hf_device_map", {}).values()}
        on_gpu = any(weight.is_cuda for weight in model.parameters())
        del model
        gc.collect()
        torch.cuda.empty_cache()
        return logits, "cpu" in places, on_gpu

    whole, some_wait, some_are_there = answers(spill=True)
    assert (some_wait, some_are_there) == (False, True)
    # Another program takes the rest of the GPU, as it might.
    others = torch.empty(torch.cuda.mem_get_info()[0] - FREE, dtype=torch.uint8, device="cuda")
    spilled, some_wait, some_are_there = answers(spill=True)
    del others
    assert (some_wait, some_are_there) == (True, True)
    torch.testing.assert_close(spilled, whole, rtol=0, atol=1e-3)
