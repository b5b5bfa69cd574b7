"""Training on a very small model: what it learns from, that it resumes exactly, and what it leaves."""

import hashlib
import json
import math
import shutil
import signal
import threading
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from scripts.common.config.runs import Run
from scripts.common.errors import UserError
from scripts.common.files import check_manifest, read_json, write_json, write_manifest
from scripts.common.threads import use_threads
from scripts.model.chat_templates import template_text
from scripts.train.arguments import batch_shape, steps_to_stop_at
from scripts.train.checkpoints import step_of
from scripts.train.run_metadata import curve_rows
from scripts.train.tokenize_conversations import histogram, tokenize_dataset
from scripts.train.train_model import main, train_model
from scripts.train.training_run import TrainingRun
from scripts.train.training_step import only_training_in
from tests.support.training import make_dataset, run_settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tokens(tiny_base, tmp_path_factory) -> Path:
    """The token folder of a small dataset."""
    use_threads(2)
    folder = tmp_path_factory.mktemp("tokens")
    dataset = make_dataset(folder / "dataset")
    tokenize_dataset(dataset, tiny_base, folder / "tokens", run_settings()["tokens"])
    return folder / "tokens"


@pytest.fixture(autouse=True)
def keep_signal_handlers():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()


def run_of(tokens, base, folder, settings, attempt=1) -> TrainingRun:
    return TrainingRun(tokens, base, folder / "checkpoints", folder / "output", settings, 2, attempt)


def train(*words, **options):
    return train_model(run_of(*words, **options))


def test_training_lowers_the_loss_and_logs_it(tokens, tiny_base, tmp_path):
    curve, facts = train(tokens, tiny_base, tmp_path, run_settings(training={"epochs": 4}))
    losses = [row["loss"] for row in curve if "loss" in row]
    assert losses[-1] < losses[0]
    assert {"step", "epoch", "loss", "learning_rate", "tokens_per_second", "memory_mb"} <= curve[0].keys()
    assert any("eval_loss" in row for row in curve)
    assert facts["steps"] == 20
    assert facts["trainable_parameters"] > 0


def test_the_largest_seed_that_the_configuration_takes_trains(tokens, tiny_base, tmp_path):
    largest = Run.model_json_schema()["properties"]["seed"]["maximum"]
    _, facts = train(tokens, tiny_base, tmp_path, {**run_settings(training={"max_steps": 1}), "seed": largest})
    assert facts["steps"] == 1


def test_the_adapter_loads_with_plain_peft_and_changes_the_answers(tokens, tiny_base, tmp_path):
    train(tokens, tiny_base, tmp_path, run_settings(training={"learning_rate": 1e-2}))
    base = AutoModelForCausalLM.from_pretrained(tiny_base.parent, dtype=torch.float32).eval()
    ids = torch.arange(30, 50)[None]
    with torch.no_grad():
        before = base(ids).logits
        after = PeftModel.from_pretrained(base, tmp_path / "output").eval()(ids).logits
    assert not torch.allclose(before, after, atol=1e-3)
    assert sorted(path.name for path in (tmp_path / "output").iterdir()) == [
        ".manifest.json.sha256",
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
    ]
    targets = read_json(tmp_path / "output" / "adapter_config.json")["target_modules"]
    assert targets == sorted(targets)


@pytest.mark.parametrize(("method", "precision"), [("lora", "fp32"), ("qlora", "bf16")])
def test_a_run_that_was_killed_after_a_checkpoint_ends_with_the_same_adapter(
    tokens, tiny_base, tmp_path, method, precision
):
    training = {"checkpoint_steps": 1, "keep_checkpoints": 20, "precision": precision}
    settings = run_settings(method, lora={"dropout": 0.1}, training=training)
    whole, _ = train(tokens, tiny_base, tmp_path / "whole", settings)
    shutil.copytree(tmp_path / "whole" / "checkpoints", tmp_path / "killed" / "checkpoints")
    for checkpoint in (tmp_path / "killed" / "checkpoints").glob("*/checkpoint-*"):
        if step_of(checkpoint) > 3:
            shutil.rmtree(checkpoint)
    curve, _ = train(tokens, tiny_base, tmp_path / "killed", settings)
    assert digest(tmp_path / "killed" / "output") == digest(tmp_path / "whole" / "output")
    assert [row["step"] for row in curve if "loss" in row] == [row["step"] for row in whole if "loss" in row]


def test_a_checkpoint_of_other_settings_or_of_another_result_version_is_never_resumed(tokens, tiny_base, tmp_path):
    def shaping(**sections):
        return run_of(tokens, tiny_base, tmp_path, run_settings(**sections)).folder("fp32")

    first = shaping()
    assert first == shaping(training={"logging_steps": 7, "precision": "fp32"})
    assert first == shaping(training={"micro_batch": 4, "accumulation": 1})
    assert first != shaping(lora={"r": 4})
    other = run_of(tokens, tiny_base, tmp_path, run_settings())
    other.result_version += 1
    assert first != other.folder("fp32")


def step(tokens, base, folder, **training) -> int:
    """Run the step as the rule does; return its status."""
    arguments = ["--base", base, "--checkpoints", folder / "checkpoints", "--output", folder / "adapter"]
    outputs = ["--curve", folder / "curve.jsonl", "--facts", folder / "training.json"]
    settings = ["--settings", json.dumps(run_settings(training={"max_steps": 2, **training}))]
    return main([str(word) for word in [tokens, *arguments, *outputs, *settings]])


def test_the_step_removes_its_checkpoints_when_all_is_written(tokens, tiny_base, tmp_path):
    assert step(tokens, tiny_base, tmp_path) == 0
    assert not (tmp_path / "checkpoints").exists()
    assert check_manifest(tmp_path / "adapter" / "manifest.json", hashes=True)


def test_the_very_same_run_is_not_trained_twice(tokens, tiny_base, tmp_path):
    outputs = [tmp_path / name for name in ("adapter/manifest.json", "curve.jsonl", "training.json")]
    weights = tmp_path / "adapter/adapter_model.safetensors"

    def outputs_of_a_run(**training):
        for path in outputs:
            path.unlink(missing_ok=True)
        assert step(tokens, tiny_base, tmp_path, **training) == 0
        return [path.read_text() for path in outputs], (
            tmp_path / "adapter/adapter_model.safetensors"
        ).stat().st_mtime_ns

    first = outputs_of_a_run()
    assert outputs_of_a_run() == first
    other = outputs_of_a_run(logging_steps=2)
    assert other[1] != first[1]
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert outputs_of_a_run(logging_steps=2)[1] != other[1]


def test_a_second_training_of_the_same_run_is_refused(tokens, tiny_base, tmp_path, monkeypatch):
    monkeypatch.setattr("scripts.train.training_step.PATIENCE", 0.5)  # it is 90 s
    with only_training_in(tmp_path):
        assert step(tokens, tiny_base, tmp_path) == 1
    assert step(tokens, tiny_base, tmp_path) == 0


def test_a_training_waits_for_one_that_outlived_its_workflow_and_is_stopping(tmp_path):
    stopping = only_training_in(tmp_path)
    stopping.__enter__()
    threading.Timer(0.5, stopping.__exit__, (None, None, None)).start()
    with only_training_in(tmp_path):
        pass


def test_a_loss_that_is_no_number_ends_the_run_with_one_line(tokens, tiny_base, tmp_path):
    settings = run_settings(training={"learning_rate": 1e30, "max_grad_norm": 1e30, "scheduler": "constant"})
    with pytest.raises(UserError, match=r"the loss is (nan|inf) at step \d+; lower training.learning_rate"):
        train(tokens, tiny_base, tmp_path, settings)
    assert not (tmp_path / "output").exists()


def test_a_gradient_norm_that_is_no_number_becomes_null():
    rows = curve_rows([{"step": 1, "loss": 2.0, "grad_norm": math.inf}, {"step": 1, "train_runtime": 3.0}])
    assert rows == [{"step": 1, "loss": 2.0, "grad_norm": None}]


@pytest.mark.parametrize(
    ("sections", "line"),
    [
        ({"training": {"attention": "flash_attention_2"}}, "the package flash_attn is not installed"),
        ({"training": {"report_to": ["wandb"]}}, "training asks for wandb, but the package wandb is not installed"),
        ({"lora": {"target_modules": ["no_such_proj"]}}, "lora.target_modules: "),
    ],
)
def test_what_this_machine_or_model_lacks_is_one_line(tokens, tiny_base, tmp_path, sections, line):
    with pytest.raises(UserError, match=line):
        train(tokens, tiny_base, tmp_path, run_settings(**sections))


def test_a_histogram_counts_every_length_from_the_shortest_on():
    bins = histogram([110, 112, 150, 209], bins=10)
    assert (bins[0]["start"], sum(b["rows"] for b in bins), len(bins)) == (110, 4, 10)
    assert bins[0]["rows"] == 2
    assert histogram([]) == []


def test_a_smaller_micro_batch_after_running_out_of_memory_gives_the_same_model(tokens, tiny_base, tmp_path):
    assert batch_shape(4, 4, 1) == (4, 4)
    assert batch_shape(4, 4, 2) == (2, 8)
    assert batch_shape(1, 4, 3) == (1, 4)
    settings = run_settings(lora={"dropout": 0.0})
    first, _ = train(tokens, tiny_base, tmp_path / "1", settings, attempt=1)
    second, facts = train(tokens, tiny_base, tmp_path / "2", settings, attempt=2)
    assert (facts["micro_batch"], facts["accumulation"]) == (1, 4)
    for a, b in zip(first, second, strict=True):
        key = "loss" if "loss" in a else "eval_loss"
        assert a[key] == pytest.approx(b[key], rel=1e-4)


def test_packing_trains_on_fewer_rows(tokens, tiny_base, tmp_path):
    _, facts = train(tokens, tiny_base, tmp_path, run_settings(tokens={"packing": True, "max_length": 128}))
    assert facts["packing"] == "on"
    assert facts["rows"] < 18


def test_early_stopping_and_best_checkpoint(tokens, tiny_base, tmp_path):
    training = {"epochs": 30, "learning_rate": 0.5, "scheduler": "constant", "early_stopping_patience": 1}
    curve, facts = train(tokens, tiny_base, tmp_path, run_settings(training=training))
    evaluations = {row["step"]: row["eval_loss"] for row in curve if "eval_loss" in row}
    assert facts["steps"] < 150
    assert facts["best_step"] == min(evaluations, key=evaluations.get)


def test_full_fine_tuning_leaves_a_plain_model(tokens, tiny_base, tmp_path):
    train(tokens, tiny_base, tmp_path, run_settings("full", training={"max_steps": 3}))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "output")
    base = AutoModelForCausalLM.from_pretrained(tiny_base.parent)
    assert model.dtype == torch.bfloat16
    assert any(not torch.equal(a, b) for a, b in zip(model.parameters(), base.parameters(), strict=True))
    assert check_manifest(tmp_path / "output" / "manifest.json")["method"] == "full"


@pytest.mark.parametrize(
    ("rows", "max_steps", "stop"),
    [
        (10, None, None),
        (10, 5, 5),  # 10 rows in batches of 2 x 2: 3 steps an epoch, 6 in all
        (10, 6, None),
        (10, 60, None),
        (1, 1, 1),
    ],
)
def test_a_number_of_steps_ends_a_training_early_and_never_late(rows, max_steps, stop):
    training = {"micro_batch": 2, "accumulation": 2, "epochs": 2.0, "max_steps": max_steps}
    assert steps_to_stop_at(training, rows) == stop


def base_with(tiny_base, folder: Path, config: dict, template: str | None = None) -> Path:
    """Return the manifest of a copy of the base with other entries in config.json, or another chat template."""
    shutil.copytree(tiny_base.parent, folder)
    write_json(folder / "config.json", read_json(folder / "config.json") | config)
    if template:
        (folder / "chat_template.jinja").write_text(template_text(template))
    return write_manifest(folder, **{key: value for key, value in read_json(tiny_base).items() if key != "files"})


@pytest.mark.parametrize(
    ("tokens", "config", "template", "message"),
    [
        ({}, {}, "llama3", "24 of 24 rows are without an end: no special token ends their answer"),
        ({}, {"max_position_embeddings": 20}, None, r"the longest row has \d+ tokens, the model tiny sees 20; set "),
        ({"max_length": 16}, {}, None, r"24 of 24 rows are longer than tokens\.max_length 16, the longest has \d+"),
    ],
)
def test_rows_that_can_not_be_trained_on_stop_the_build_before_any_training(
    tiny_base, tmp_path, tokens, config, template, message
):
    base, dataset = base_with(tiny_base, tmp_path / "base", config, template), make_dataset(tmp_path / "dataset")
    with pytest.raises(UserError, match=message):
        tokenize_dataset(dataset, base, tmp_path / "tokens", run_settings(tokens=tokens)["tokens"])
