"""Training on a very small model: what it learns from, what is refused, and what it leaves."""

import math
import threading
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from scripts.common.errors import UserError
from scripts.common.files import check_manifest, read_json, write_manifest
from scripts.config.runs import Run
from scripts.train.arguments import batch_shape, steps_to_stop_at
from scripts.train.tokenize_conversations import tokenize_dataset
from scripts.train.training_run import curve_rows
from scripts.train.training_step import only_training_in
from tests.support.chat_templates import template_text
from tests.support.tiny_model import changed_base
from tests.support.training import make_data, run_in, run_settings, train_in, train_step


@pytest.fixture(scope="module")
def data(tiny_base, tmp_path_factory) -> Path:
    """A folder with a small dataset and its rows."""
    return make_data(tmp_path_factory.mktemp("data"), tiny_base, run_settings())


@pytest.fixture
def train(data, tiny_base, tmp_path):
    """A function that trains in a folder and returns the curve and the facts."""

    def train(method: str = "lora", folder: Path = tmp_path, attempt: int = 1, **sections):
        return train_in(data, tiny_base, folder, run_settings(method, **sections), attempt)

    return train


def test_training_lowers_the_loss_and_logs_it_and_the_adapter_loads_with_plain_peft(train, tiny_base, tmp_path):
    curve, facts = train(training={"epochs": 4, "learning_rate": 1e-2})
    losses = [row["loss"] for row in curve if "loss" in row]
    assert losses[-1] < losses[0]
    assert {"step", "epoch", "loss", "learning_rate", "tokens_per_second", "memory_mb"} <= curve[0].keys()
    assert any("eval_loss" in row for row in curve)
    assert facts["steps"] == 20
    assert facts["trainable_parameters"] > 0
    base = AutoModelForCausalLM.from_pretrained(tiny_base.parent, dtype=torch.float32).eval()
    ids = torch.arange(30, 50)[None]
    with torch.no_grad():
        before = base(ids).logits
        after = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()(ids).logits
    assert not torch.allclose(before, after, atol=1e-3)
    names = [".manifest.json.sha256", "adapter_config.json", "adapter_model.safetensors", "manifest.json"]
    assert sorted(path.name for path in (tmp_path / "adapter").iterdir()) == names
    targets = read_json(tmp_path / "adapter/adapter_config.json")["target_modules"]
    assert targets == sorted(targets)


def test_a_checkpoint_of_other_settings_or_of_another_result_version_is_never_resumed(data, tiny_base, tmp_path):
    def run(**sections):
        return run_in(data, tiny_base, tmp_path, run_settings(**sections))

    first, other = run().folder("fp32"), run()
    assert first == run(training={"logging_steps": 7, "precision": "fp32"}).folder("fp32")
    assert first == run(training={"micro_batch": 4, "accumulation": 1}).folder("fp32")
    assert first != run(lora={"r": 4}).folder("fp32")
    other.result_version += 1
    assert first != other.folder("fp32")


def test_the_very_same_run_is_not_trained_twice_and_leaves_no_checkpoints(data, tiny_base, tmp_path):
    weights, manifest = (tmp_path / "adapter" / name for name in ("adapter_model.safetensors", "manifest.json"))

    def outputs_of_a_run(**training):
        outputs = [manifest, tmp_path / "curve.jsonl", tmp_path / "training.json"]
        for path in outputs:
            path.unlink(missing_ok=True)
        settings = run_settings(training={"max_steps": 2, **training})
        assert train_step(data, tiny_base, tmp_path, settings) == 0
        assert not (tmp_path / "checkpoints").exists()
        assert check_manifest(manifest, hashes=True)
        return [path.read_text() for path in outputs], weights.stat().st_mtime_ns

    first = outputs_of_a_run()
    assert outputs_of_a_run() == first
    other = outputs_of_a_run(logging_steps=2)
    assert other[1] != first[1]
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert outputs_of_a_run(logging_steps=2)[1] != other[1]


def test_a_second_training_of_the_same_run_waits_for_one_that_is_stopping_and_is_refused(
    data, tiny_base, tmp_path, monkeypatch
):
    stopping = only_training_in(tmp_path)
    stopping.__enter__()
    threading.Timer(0.5, stopping.__exit__, (None, None, None)).start()
    monkeypatch.setattr("scripts.train.training_step.PATIENCE", 5)  # it is 90 s
    with only_training_in(tmp_path):
        monkeypatch.setattr("scripts.train.training_step.PATIENCE", 0.5)
        assert train_step(data, tiny_base, tmp_path, run_settings()) == 1


def test_a_loss_or_a_norm_that_is_not_a_number_is_one_line_or_null(train, tmp_path):
    with pytest.raises(UserError, match=r"the loss is (nan|inf) at step \d+; lower training.learning_rate"):
        train(training={"learning_rate": 1e30, "max_grad_norm": 1e30, "scheduler": "constant"})
    assert not (tmp_path / "adapter").exists()
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
def test_what_this_machine_or_model_lacks_is_one_line(train, sections, line):
    with pytest.raises(UserError, match=line):
        train(**sections)


def test_a_smaller_micro_batch_after_running_out_of_memory_gives_the_same_model(train, tmp_path):
    four, one = (run_settings(training={"micro_batch": n, "accumulation": 4})["training"] for n in (4, 1))
    assert [batch_shape(four, 1), batch_shape(four, 2), batch_shape(one, 3)] == [(4, 4), (2, 8), (1, 4)]
    first, _ = train(folder=tmp_path / "1", lora={"dropout": 0.0})
    second, facts = train(folder=tmp_path / "2", lora={"dropout": 0.0}, attempt=2)
    assert (facts["micro_batch"], facts["accumulation"]) == (1, 4)
    for a, b in zip(first, second, strict=True):
        key = "loss" if "loss" in a else "eval_loss"
        assert a[key] == pytest.approx(b[key], rel=1e-4)


def test_packing_trains_on_fewer_rows_and_with_the_largest_seed_that_the_configuration_takes(train):
    seed = Run.model_json_schema()["properties"]["seed"]["maximum"]
    _, facts = train(tokens={"packing": True, "max_length": 128}, training={"max_steps": 1}, seed=seed)
    assert (facts["packing"], facts["steps"]) == ("on", 1)
    assert facts["rows"] < 18


def test_early_stopping_and_best_checkpoint(train):
    training = {"epochs": 30, "learning_rate": 0.5, "scheduler": "constant", "early_stopping_patience": 1}
    curve, facts = train(training=training)
    evaluations = {row["step"]: row["eval_loss"] for row in curve if "eval_loss" in row}
    assert facts["steps"] < 150
    assert facts["best_step"] == min(evaluations, key=evaluations.get)


def test_full_fine_tuning_leaves_a_plain_model(train, tiny_base, tmp_path):
    train("full", training={"max_steps": 3})
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "adapter")
    base = AutoModelForCausalLM.from_pretrained(tiny_base.parent)
    assert model.dtype == torch.bfloat16
    assert any(not torch.equal(a, b) for a, b in zip(model.parameters(), base.parameters(), strict=True))
    assert check_manifest(tmp_path / "adapter/manifest.json")["method"] == "full"


def test_a_number_of_steps_ends_a_training_early_and_never_late():
    training = {"micro_batch": 2, "accumulation": 2, "epochs": 2.0}
    # 10 rows in batches of 2 x 2: 3 steps an epoch, 6 in all
    for rows, max_steps, stop in ((10, None, None), (10, 5, 5), (10, 6, None), (10, 60, None), (1, 1, 1)):
        assert steps_to_stop_at({**training, "max_steps": max_steps}, rows) == stop


@pytest.mark.parametrize(
    ("tokens", "config", "template", "message"),
    [
        ({}, {}, "llama3", "24 of 24 rows are without an end: no special token ends their answer"),
        ({}, {"max_position_embeddings": 20}, None, r"the longest row has \d+ tokens, the model tiny takes 20; set "),
        ({"max_length": 16}, {}, None, r"24 of 24 rows are longer than tokens\.max_length 16, the longest has \d+"),
    ],
)
def test_rows_that_can_not_be_trained_on_stop_the_build_before_any_training(
    data, tiny_base, tmp_path, tokens, config, template, message
):
    base = changed_base(tiny_base, tmp_path / "base", **config)
    if template:
        (base.parent / "chat_template.jinja").write_text(template_text(template))
        base = write_manifest(base.parent, **{key: value for key, value in read_json(base).items() if key != "files"})
    with pytest.raises(UserError, match=message):
        tokenize_dataset(data / "dataset", base, tmp_path / "tokens", run_settings(tokens=tokens)["tokens"])
