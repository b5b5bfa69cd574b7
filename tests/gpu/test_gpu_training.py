"""Training on a GPU: it learns in every number format, and goes on after a kill as if nothing had been."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from tests.support.gpu import ROOT, copy_checkpoints, losses, program
from tests.support.interruptions import interrupted
from tests.support.span_data import head_settings
from tests.support.training import run_settings
from tests.support.training import train_in as train

EVERY_STEP = {"checkpoint_steps": 1, "keep_checkpoints": 100}
SAME = 1e-6  # of a loss


def assert_learns(curve: list[dict], facts: dict, precision: str) -> None:
    """Assert that the loss falls on the GPU, in the number format that was asked for."""
    found = list(losses(curve).values())
    assert sum(found[-3:]) < 0.95 * sum(found[:3])
    assert facts["device"] == torch.cuda.get_device_name()
    assert facts["precision"] == precision
    assert all(0 < row["memory_mb"] < 4096 for row in curve if "loss" in row)


@pytest.mark.parametrize(
    ("method", "precision", "optimizer"),
    [
        ("qlora", "bf16", "paged_adamw_32bit"),
        ("qlora", "fp16", "paged_adamw_8bit"),
        ("lora", "bf16", "adamw_torch"),
        ("lora", "fp16", "adamw_torch_fused"),
        ("full", "bf16", "adafactor"),
    ],
)
def test_an_adapter_learns(chat, tiny_base, tmp_path, method, precision, optimizer):
    training = {"epochs": 4, "precision": precision, "optimizer": optimizer, "gradient_checkpointing": True}
    assert_learns(*train(chat, tiny_base, tmp_path, run_settings(method, training=training)), precision)


def test_the_number_format_is_the_best_that_the_gpu_has(chat, tiny_base, tmp_path):
    _, facts = train(chat, tiny_base, tmp_path, run_settings(training={"max_steps": 1}))
    assert facts["precision"] == ("bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp16")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("cache", ["always", "never"])
def test_a_head_learns(spans, tiny_base, tmp_path, precision, cache):
    settings = head_settings(head={"cache": cache}, training={"epochs": 8, "precision": precision})
    curve, facts = train(spans, tiny_base, tmp_path, settings)
    assert_learns(curve, facts, precision)
    assert facts["features"]["cached"] == (cache == "always")


def test_a_head_over_a_4_bit_backbone_learns(spans, tiny_base, tmp_path):
    settings = head_settings(head={"load_in_4bit": True}, training={"epochs": 8, "precision": "bf16"})
    assert_learns(*train(spans, tiny_base, tmp_path, settings), "bf16")


def test_an_adapter_and_a_head_learn_together(spans, tiny_base, tmp_path):
    settings = head_settings("lora", training={"epochs": 4, "precision": "bf16", "gradient_checkpointing": True})
    assert_learns(*train(spans, tiny_base, tmp_path, settings), "bf16")


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_an_adapter_learns_from_pictures(pictures, tiny_vision_base, tmp_path, method):
    vision = {"train_projector": True, "train_vision_tower": True}
    training = {"epochs": 4, "precision": "bf16", "gradient_checkpointing": True}
    settings = run_settings(method, task="vision", vision=vision, training=training)
    assert_learns(*train(pictures, tiny_vision_base, tmp_path, settings), "bf16")


def settings_for_a_cut(method: str) -> dict:
    """Return settings whose run leaves a checkpoint at each step; dropout and the paged optimizer are in it."""
    if method == "head":
        return head_settings(training={"epochs": 3, "precision": "bf16", **EVERY_STEP})
    training = {"epochs": 2, "precision": "bf16", "optimizer": "paged_adamw_32bit", **EVERY_STEP}
    return run_settings(method, lora={"dropout": 0.1}, training=training)


def data_of(request, method: str) -> Path:
    return request.getfixturevalue("spans" if method == "head" else "chat")


def noise_between(curves: list[dict[int, float]]) -> dict[int, float]:
    """Return how far runs of the very same settings lie apart, at most, up to each step: what a GPU does by itself."""
    found, widest = {}, 0.0
    for step in curves[0]:
        widest = max(widest, max(curve[step] for curve in curves) - min(curve[step] for curve in curves))
        found[step] = widest
    return found


@pytest.mark.parametrize("method", ["lora", "qlora", "head"])
def test_a_resumed_run_goes_on_with_the_same_loss(request, tiny_base, tmp_path, method):
    data, settings = data_of(request, method), settings_for_a_cut(method)
    whole, again, third = (losses(train(data, tiny_base, tmp_path / name, settings)[0]) for name in ("1", "2", "3"))
    noise = noise_between([whole, again, third])
    for last in (2, 4):
        place = tmp_path / f"cut{last}"
        copy_checkpoints(tmp_path / "1" / "checkpoints", place / "checkpoints", last)
        resumed = losses(train(data, tiny_base, place, settings)[0])
        assert list(resumed) == list(whole)
        assert resumed[last + 1] == pytest.approx(whole[last + 1], abs=SAME)
        for step in whole:
            assert resumed[step] == pytest.approx(whole[step], abs=SAME + 3 * noise[step])


def test_a_run_that_is_stopped_within_a_step_goes_on_with_the_same_loss(chat, tiny_base, tmp_path, monkeypatch):
    settings = settings_for_a_cut("lora")
    whole, again, third = (losses(train(chat, tiny_base, tmp_path / name, settings)[0]) for name in ("1", "2", "3"))
    noise, moments = noise_between([whole, again, third]), [("step begins", 3)]
    place = tmp_path / "stopped"
    curve, _ = interrupted(lambda: train(chat, tiny_base, place, settings), monkeypatch, moments)
    resumed = losses(curve)
    assert resumed[4] == pytest.approx(whole[4], abs=SAME)
    for step in whole:
        assert resumed[step] == pytest.approx(whole[step], abs=SAME + 3 * noise[step])


@pytest.fixture
def seen_batches(monkeypatch) -> list[str]:
    """The batches of adapters' trainings, in order, as they come to pass."""
    from scripts.train import text_training

    found: list[str] = []
    collate = text_training.collate

    def noting(rows, pad_id):
        found.append(json.dumps([list(row["input_ids"]) for row in rows]))
        return collate(rows, pad_id)

    monkeypatch.setattr(text_training, "collate", noting)
    return found


@pytest.mark.parametrize("method", ["qlora", "head"])
def test_a_killed_run_goes_on_with_the_same_batches(request, tiny_base, tmp_path, method, seen_batches):
    from scripts.train.checkpoints import latest_checkpoint, step_of

    data, settings = data_of(request, method), settings_for_a_cut(method)
    curves = [losses(train(data, tiny_base, tmp_path / name, settings)[0]) for name in ("1", "2")]
    whole, noise = curves[0], noise_between(curves)
    batches = seen_batches[: len(seen_batches) // 2]
    place = tmp_path / "killed"
    script = "train/train_head.py" if method == "head" else "train/train_model.py"
    command, environment = program(
        script, data / "tokens", "--base", tiny_base, "--checkpoints", place / "checkpoints",
        "--output", place / "adapter", "--curve", place / "curve.jsonl", "--facts", place / "training.json",
        "--threads", 2, "--settings", json.dumps(settings),
    )  # fmt: skip
    running = subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE)
    while not list((place / "checkpoints").glob("*/checkpoint-2/manifest.json")):
        assert running.poll() is None, running.stderr.read().decode()[-4000:]
        time.sleep(0.005)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    running.stderr.close()
    (folder,) = [path for path in (place / "checkpoints").iterdir() if not path.name.startswith("hidden_states")]
    reached = step_of(latest_checkpoint(folder))
    assert 2 <= reached < len(whole)
    seen_batches.clear()
    resumed = losses(train(data, tiny_base, place, settings)[0])
    assert list(resumed) == list(whole)
    for step in whole:
        assert resumed[step] == pytest.approx(whole[step], abs=SAME + 5 * noise[step])
    assert seen_batches == batches[len(batches) - len(seen_batches) :]
    assert method == "head" or 0 < len(seen_batches) < len(batches)
