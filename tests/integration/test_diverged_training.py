"""A training that diverges ends without an error, with weights whose loss was finite, and says so."""

import json
import math
import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from scripts.common.base_model import keep_layout
from scripts.common.errors import UserError
from scripts.train.diverged import diverged_note
from scripts.train.text_training import TextTraining
from scripts.train.trainer import SpanTrainer, Trainer
from tests.support.span_data import head_settings
from tests.support.training import make_data, run_settings, train_in, train_step

AT_ONCE = {"learning_rate": 1e37, "max_grad_norm": 1e30, "scheduler": "constant"}
# The learning rate of the first step is 0.
SECOND = {"learning_rate": 1e30, "scheduler": "constant_with_warmup", "warmup_ratio": 0.1, "keep_best": False}
RUNS = {
    "lora": run_settings(training=AT_ONCE),
    "full": run_settings("full", training=AT_ONCE),
    "vision": run_settings(task="vision", vision={"train_projector": True}, training=AT_ONCE),
    "adapter and head": head_settings("lora", training=AT_ONCE),
    "head": head_settings(training=AT_ONCE),
}


@pytest.fixture(scope="module")
def data(tiny_base, tiny_vision_base, tmp_path_factory) -> dict[str, tuple[Path, Path]]:
    """A folder with a small dataset and its rows, and the base, of each task."""
    folder = tmp_path_factory.mktemp("data")
    return {
        "chat": (make_data(folder / "chat", tiny_base, RUNS["lora"]), tiny_base),
        "vision": (make_data(folder / "vision", tiny_vision_base, RUNS["vision"]), tiny_vision_base),
        "token_classification": (make_data(folder / "spans", tiny_base, RUNS["head"]), tiny_base),
    }


def weights_in(folder: Path) -> dict[str, torch.Tensor]:
    """Return all weights in a folder."""
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def strict(text: str):
    """Return a JSON text's value; NaN and Infinity, which Python would take, are refused."""

    def refuse(word: str):
        raise ValueError(word)

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_diverges_before_a_checkpoint_keeps_the_untrained_model_and_is_not_trained_again(
    data, tmp_path, monkeypatch, name
):
    settings, models = RUNS[name], []

    def load_alone(model):
        assert [ref for ref in models if ref() is not None] == []  # there is no memory for two models
        models.append(weakref.ref(model))
        return keep_layout(model)

    monkeypatch.setattr("scripts.train.text_training.keep_layout", load_alone)
    folder, base = data[settings["task"]]
    images = ["--images", folder / "dataset"] if name == "vision" else []
    for _ in range(2):
        assert train_step(folder, base, tmp_path, settings, *images) == 0
    assert len(models) == (0 if name == "head" else 2)
    facts = strict((tmp_path / "training.json").read_text(encoding="utf-8"))
    assert facts["diverged"] == {"step": 2, "kept_step": 0, "reason": "its loss was no longer finite"}
    assert (facts["steps"], facts["best_step"]) == (2, 0)
    points = [strict(line) for line in (tmp_path / "curve.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [point["step"] for point in points] == [1]
    kept = weights_in(tmp_path / "adapter")
    assert all(weight.isfinite().all() for weight in kept.values())
    assert all(weight.eq(0).all() for key, weight in kept.items() if ".lora_B." in key)
    if name == "full":
        untrained = weights_in(base.parent)
        assert all(torch.equal(kept[key], untrained[key]) for key in kept)


def test_the_newest_checkpoint_with_which_a_finite_loss_was_computed_is_kept(data, tmp_path):
    """The weights after step 2 are finite, but their loss is not."""
    settings = run_settings(training={**SECOND, "checkpoint_steps": 1, "keep_checkpoints": 9, "logging_steps": 5})
    curve, facts = train_in(*data["chat"], tmp_path, settings)
    assert facts["diverged"] == {"step": 3, "kept_step": 1, "reason": "its loss was no longer finite"}
    assert curve == []
    steps = {path.name: path for path in tmp_path.glob("checkpoints/*/checkpoint-*")}
    assert steps.keys() == {"checkpoint-1", "checkpoint-2"}
    kept, stored = weights_in(tmp_path / "adapter"), weights_in(steps["checkpoint-1"])
    assert kept.keys() == stored.keys()
    assert all(torch.equal(kept[key], stored[key]) for key in kept)
    again, facts_again = train_in(*data["chat"], tmp_path, settings)  # as after a kill before the result was written
    assert (again, facts_again["diverged"]) == (curve, facts["diverged"])


def test_a_finite_validation_loss_is_enough_for_a_checkpoint(data, tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "evaluation", lambda trainer: {"eval_loss": 1.0})
    _, facts = train_in(*data["chat"], tmp_path, run_settings(training={**SECOND, "eval_steps": 2}))
    assert facts["diverged"] == {"step": 3, "kept_step": 2, "reason": "its loss was no longer finite"}


@pytest.mark.parametrize("best", [True, False])
def test_a_validation_loss_that_is_not_finite_ends_the_training_and_the_best_or_last_evaluation_before_is_kept(
    data, tmp_path, monkeypatch, best
):
    found = iter([1.0, 2.0, math.inf])
    monkeypatch.setattr(SpanTrainer, "evaluation", lambda trainer: {"eval_loss": next(found)})
    settings = head_settings(
        training={"epochs": 9, "eval_steps": 2, "keep_best": best, "early_stopping_patience": None}
    )
    curve, facts = train_in(*data["token_classification"], tmp_path, settings)
    reason = "its validation loss was no longer finite"
    assert facts["diverged"] == {"step": 6, "kept_step": 2 if best else 4, "reason": reason}
    assert [row["eval_loss"] for row in curve if "eval_loss" in row] == [1.0, 2.0]


@pytest.mark.parametrize(("checkpoint_steps", "kept"), [(1, 3), (None, 2)])
def test_weights_that_are_not_finite_after_the_last_step_are_not_kept(
    data, tmp_path, monkeypatch, checkpoint_steps, kept
):
    """Without a validation split no loss is computed with them. Every training ends with a checkpoint."""

    def last_gradient(trainer, *arguments, **options):
        norm = clip(trainer, *arguments, **options)
        if trainer.state.global_step == 3:
            next(p for p in trainer.model.parameters() if p.grad is not None).grad.fill_(math.nan)
        return norm

    clip = Trainer._clip_grad_norm
    monkeypatch.setattr(Trainer, "_clip_grad_norm", last_gradient)
    monkeypatch.setattr(
        TextTraining,
        "rows",
        lambda run, split, rows=TextTraining.rows: rows(run, split).select(range(8 if split == "train" else 0)),
    )
    settings = run_settings(training={"checkpoint_steps": checkpoint_steps, "keep_checkpoints": 1, "epochs": 2})
    _, facts = train_in(*data["chat"], tmp_path, settings)
    assert facts["diverged"] == {"step": 4, "kept_step": kept, "reason": "its weights were no longer finite"}


def test_the_loss_of_an_untrained_model_that_is_not_finite_stops_the_run_in_one_line(data, tmp_path, monkeypatch):
    monkeypatch.setattr(
        Trainer,
        "compute_loss",
        lambda trainer, model, inputs, *_, **__: model(input_ids=inputs["input_ids"]).logits.sum() * math.nan,
    )
    with pytest.raises(UserError, match=r"the loss of the untrained model is not finite; train in bf16 or fp32"):
        train_in(*data["chat"], tmp_path, RUNS["lora"])
    assert not (tmp_path / "adapter").exists()


def test_the_sentence_says_what_was_kept():
    facts = {"diverged": {"step": 120, "kept_step": 100, "reason": "its loss was no longer finite"}}
    assert diverged_note(facts) == (
        "the training diverged at step 120: its loss was no longer finite; the model is that of step 100"
    )
    facts["diverged"]["kept_step"] = 0
    assert diverged_note(facts).endswith("; the model is untrained, because no checkpoint was usable")
    assert diverged_note({"diverged": None}) is diverged_note({}) is None
