"""A training that was interrupted, wherever and however often, ends byte for byte as one that never was (on a CPU).

It keeps the number format in which it was begun, on whatever CPU it is continued.
"""

import functools
import logging
import re
from pathlib import Path

import pytest
import torch

from scripts.common.errors import UserError
from tests.support.cpu import GENOA, MILAN
from tests.support.interruptions import interrupted, without_times
from tests.support.span_data import head_settings
from tests.support.training import make_data, run_settings, train_in

SAME_FACTS = ("steps", "best_step", "best_eval_loss", "packing", "rows")
DROPOUT, PACKED = {"dropout": 0.1}, {"packing": True, "max_length": 96}
SAVED_APART = {"max_steps": 8, "eval_steps": 3, "checkpoint_steps": 2, "logging_steps": 4, "group_by_length": True}
TRAINED = {"train_projector": True, "train_vision_tower": True, "projector_learning_rate": 1e-4}
CHAT = {
    # 5 packs or so an epoch; the loss is logged every third step only, and the best checkpoint is kept.
    "packed": {"lora": DROPOUT, "tokens": PACKED, "training": {"micro_batch": 1, "logging_steps": 3}},
    # Ends within an epoch; evaluated and saved at other steps than logged, in groups of like length.
    "grouped": {"lora": DROPOUT, "training": SAVED_APART},
    # Stops early: worse and worse evaluations.
    "early": {"training": {"epochs": 20, "learning_rate": 1.0, "scheduler": "constant", "early_stopping_patience": 1}},
    "qlora": {"method": "qlora", "lora": DROPOUT, "training": {"max_steps": 6, "logging_steps": 2}},
    "full": {"method": "full", "training": {"epochs": 1, "logging_steps": 2, "learning_rate": 1e-4}},
    "vision": {"task": "vision", "vision": TRAINED, "lora": DROPOUT, "training": {"max_steps": 4}},
}
HEAD = {"max_steps": 6, "logging_steps": 3, "early_stopping_patience": 3}
RUNS = {name: run_settings(**sections) for name, sections in CHAT.items()} | {
    "adapter and head": head_settings("lora", training={"max_steps": 6, "logging_steps": 4}),
    "head": head_settings(head=DROPOUT, training=HEAD),
    "head without kept states": head_settings(head={"cache": "never", **DROPOUT}, training=HEAD),
}


@pytest.fixture(scope="module")
def data(tiny_base, tiny_vision_base, tmp_path_factory) -> dict[str, tuple[Path, Path]]:
    """A folder with a small dataset and its rows, and the base, of each task."""
    folder = tmp_path_factory.mktemp("data")
    return {
        "chat": (make_data(folder / "chat", tiny_base, run_settings()), tiny_base),
        "vision": (make_data(folder / "vision", tiny_vision_base, RUNS["vision"]), tiny_vision_base),
        "token_classification": (make_data(folder / "spans", tiny_base, RUNS["head"], train=18), tiny_base),
    }


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """Return a function that trains a run without an interruption, once.

    It returns the run's data, base and settings, the folder of the training, its curve and its facts.
    """

    @functools.cache
    def train(name: str) -> tuple:
        settings, folder = RUNS[name], tmp_path_factory.mktemp("whole")
        run = data[settings["task"]]
        return *run, settings, folder, *train_in(*run, folder, settings)

    return train


def assert_same_end(whole: tuple, folder: Path, curve: list[dict], facts: dict) -> None:
    """Assert that a run has the weights, the curve and the facts of the one that was not interrupted."""
    *_, undisturbed, whole_curve, whole_facts = whole
    assert without_times(curve) == without_times(whole_curve)
    for point, expected in zip(curve, whole_curve, strict=True):
        if "entropy" in point:  # the speed counts only the tokens of the time that is measured
            tokens, at_most = (row["tokens_per_second"] * row["seconds"] for row in (point, expected))
            assert tokens < 1.5 * at_most  # seconds are rounded, and earlier tokens would double it
    assert {key: facts.get(key) for key in SAME_FACTS} == {key: whole_facts.get(key) for key in SAME_FACTS}
    found, expected = (
        {p.name: p.read_bytes() for p in (f / "adapter").glob("*.safetensors")} for f in (folder, undisturbed)
    )
    assert found
    assert found == expected


@pytest.mark.parametrize("name", [name for name in RUNS if name != "early"])
def test_a_run_that_is_stopped_at_every_single_step_ends_as_if_it_never_was(whole, tmp_path, monkeypatch, name):
    data, base, settings, *_, done = whole(name)
    moments = [("step begins", 1), *(("step ends", step) for step in range(2, done["steps"] + 1))]
    curve, facts = interrupted(lambda: train_in(data, base, tmp_path, settings), monkeypatch, moments)
    assert_same_end(whole(name), tmp_path, curve, facts)


@pytest.mark.parametrize("name", ["packed", "grouped", "early", "head"])
def test_a_run_that_is_stopped_in_every_evaluation_ends_as_if_it_never_was(whole, tmp_path, monkeypatch, name, caplog):
    caplog.set_level(logging.INFO, "snaketune")
    data, base, settings, _, whole_curve, _ = whole(name)
    moments = [("evaluation", row["step"]) for row in whole_curve if "eval_loss" in row]
    curve, facts = interrupted(lambda: train_in(data, base, tmp_path, settings), monkeypatch, moments)
    assert_same_end(whole(name), tmp_path, curve, facts)
    said = [re.match(r"continues from step (\d+) \(.*/checkpoint-\1-before-evaluation\)$", m) for m in caplog.messages]
    assert [("evaluation", int(match[1])) for match in said if match] == moments


def test_a_run_that_had_stopped_early_takes_no_further_step(whole):
    data, base, settings, folder, curve, facts = whole("early")
    assert facts["steps"] < 100
    weights = (folder / "adapter/adapter_model.safetensors").read_bytes()
    curve_again, facts_again = train_in(data, base, folder, settings)
    assert without_times(curve_again) == without_times(curve)
    assert (facts_again["steps"], facts_again["best_step"]) == (facts["steps"], facts["best_step"])
    assert (folder / "adapter/adapter_model.safetensors").read_bytes() == weights


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU decides otherwise")
@pytest.mark.parametrize("settings_of", [run_settings, head_settings, functools.partial(head_settings, "lora")])
def test_a_training_moved_to_another_cpu_keeps_its_format_or_is_refused(cpu, data, settings_of, tmp_path):
    def train(folder: str, look: str, precision: str = "auto") -> tuple[str, str]:
        cpu(look)
        settings = settings_of(training={"checkpoint_steps": 1, "max_steps": 2, "precision": precision})
        _, facts = train_in(*data[settings["task"]], tmp_path / folder, settings)
        return facts["precision"], facts["fingerprint"]

    begun = train("begun in bf16", GENOA)
    assert begun[0] == "bf16"
    with pytest.raises(UserError, match=r"started in bf16, which this machine does not compute natively; use a"):
        train("begun in bf16", MILAN)
    assert train("begun in bf16", MILAN, "bf16") == begun
    begun = train("begun in fp32", MILAN)
    assert begun[0] == "fp32"
    assert train("begun in fp32", GENOA) == begun
