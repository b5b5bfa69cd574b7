"""Training on a very small model: what it learns from, that it resumes exactly, and what it leaves."""

import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from scripts.common.config.runs import Run
from scripts.common.errors import UserError
from scripts.common.files import check_manifest, read_json, write_manifest
from scripts.common.terminal import Progress, terminal
from scripts.common.threads import use_threads
from scripts.model.chat_templates import template_text
from scripts.train.arguments import batch_shape, steps_to_stop_at
from scripts.train.checkpoints import latest_checkpoint
from scripts.train.finished import only_training_in
from scripts.train.running import curve_rows
from scripts.train.tokenize_conversations import histogram, tokenize_dataset
from scripts.train.train_model import (
    main,
    parser,
    run_fingerprint,
    train_model,
    train_with_less_memory,
)
from scripts.train.tries import Tries
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


def train(tokens, base, folder, settings, attempt=1, threads=2):
    return train_model(tokens, base, folder / "checkpoints", folder / "output", settings, threads, attempt)


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


def test_the_adapters_configuration_is_the_same_in_every_process(tokens, tiny_base, tmp_path):
    train(tokens, tiny_base, tmp_path, run_settings(training={"max_steps": 1}))
    config = json.loads((tmp_path / "output" / "adapter_config.json").read_text())
    assert config["target_modules"] == sorted(config["target_modules"])


@pytest.mark.parametrize("dropped", [0.0, 0.1])
def test_a_run_that_was_cut_off_and_resumed_ends_with_the_same_adapter(tokens, tiny_base, tmp_path, dropped):
    settings = run_settings(lora={"dropout": dropped}, training={"checkpoint_steps": 1, "keep_checkpoints": 20})
    assert_same_adapter_after_cuts(tokens, tiny_base, tmp_path, settings, cuts=(3, 5, 7))


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_an_adapter_over_a_4_bit_base_is_given_back_in_its_own_number_format(tokens, tiny_base, tmp_path, precision):
    training = {"checkpoint_steps": 1, "keep_checkpoints": 20, "precision": precision}
    settings = run_settings("qlora", lora={"dropout": 0.1}, training=training)
    assert_same_adapter_after_cuts(tokens, tiny_base, tmp_path, settings, cuts=(3,))


def assert_same_adapter_after_cuts(tokens, tiny_base, tmp_path, settings, cuts) -> None:
    """Assert that a run that broke off after each of these steps and went on ends as one that never did."""
    whole, _ = train(tokens, tiny_base, tmp_path / "whole", settings)
    (folder,) = (tmp_path / "whole" / "checkpoints").iterdir()
    for last in cuts:
        part = tmp_path / f"cut{last}"
        kept = part / "checkpoints" / folder.name
        kept.mkdir(parents=True)
        for checkpoint in folder.glob("checkpoint-*"):
            if int(checkpoint.name.split("-")[1]) <= last:
                subprocess.run(["cp", "-r", checkpoint, kept], check=True)
        curve, _ = train(tokens, tiny_base, part, settings)
        assert digest(part / "output") == digest(tmp_path / "whole" / "output")
        assert [row["step"] for row in curve if "loss" in row] == [row["step"] for row in whole if "loss" in row]


def test_a_checkpoint_of_other_settings_or_code_is_never_resumed(tokens, tiny_base, tmp_path, monkeypatch):
    arguments = (tokens, tiny_base)
    first = run_fingerprint(*arguments, run_settings(), "fp32", "cpu", 2)
    assert first == run_fingerprint(*arguments, run_settings(training={"logging_steps": 7}), "fp32", "cpu", 2)
    other = run_settings(training={"micro_batch": 4, "accumulation": 1})
    assert first == run_fingerprint(*arguments, other, "fp32", "cpu", 2)
    assert first != run_fingerprint(*arguments, run_settings(lora={"r": 4}), "fp32", "cpu", 2)
    assert first != run_fingerprint(*arguments, run_settings(), "bf16", "cpu", 2)
    changed = tmp_path / "scripts" / "train" / "train_model.py"
    changed.parent.mkdir(parents=True)
    changed.write_text("# other code\n")
    monkeypatch.setattr("scripts.train.train_model.__file__", str(changed))
    assert first != run_fingerprint(*arguments, run_settings(), "fp32", "cpu", 2)


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
    monkeypatch.setattr("scripts.train.finished.PATIENCE", 0.5)
    with only_training_in(tmp_path):
        assert step(tokens, tiny_base, tmp_path) == 1
    assert step(tokens, tiny_base, tmp_path) == 0


def test_a_training_waits_for_one_that_outlived_its_workflow_and_is_stopping(tmp_path):
    stopping = only_training_in(tmp_path)
    stopping.__enter__()
    threading.Timer(0.5, stopping.__exit__, (None, None, None)).start()
    with only_training_in(tmp_path):
        pass


def test_the_time_left_is_counted_from_where_this_process_began():
    bar = Progress("train", 60, 20)
    bar.started -= 10
    bar.done = 30
    assert "30/60 10 s, 30 s left" in bar.bar("")


def test_running_out_of_memory_goes_on_with_half_the_micro_batch(tmp_path, monkeypatch, capsys):
    tried = []

    def train_model_that_runs_out(*arguments):
        tried.append(arguments[-1])
        if len(tried) < 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [], {}

    monkeypatch.setattr("scripts.train.train_model.train_model", train_model_that_runs_out)
    monkeypatch.setattr(terminal, "stream", None)  # a step of another test may have sent it to its log
    settings = run_settings(training={"micro_batch": 4, "accumulation": 2})
    words = ["tokens", "--base", "b", "--checkpoints", "c", "--output", "o", "--curve", "c", "--facts", "f"]
    arguments = parser().parse_args([*words, "--settings", json.dumps(settings)])
    _, facts = train_with_less_memory(arguments, Tries(tmp_path, "run", settings["training"]))
    assert tried == [1, 2, 3]
    assert "out of memory with a micro-batch of 4: going on with 2" in capsys.readouterr().err
    shapes = [(entry["micro_batch"], entry["accumulation"], entry["ended"]) for entry in facts["tries"]]
    assert shapes == [(4, 2, "out of memory"), (2, 4, "out of memory"), (1, 8, "done")]
    tried.clear()
    settings["training"]["micro_batch"] = 1
    with pytest.raises(UserError, match=r"out of memory with a micro-batch of 1; lower tokens\.max_length"):
        train_with_less_memory(arguments, Tries(tmp_path, "another run", settings["training"]))


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


def test_answers_that_never_end_stop_the_build_before_any_training(tiny_base, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(tiny_base.parent, base)
    (base / "chat_template.jinja").write_text(template_text("llama3"))
    facts = {key: value for key, value in read_json(tiny_base).items() if key != "files"}
    manifest = write_manifest(base, **facts)
    dataset = make_dataset(tmp_path / "dataset")
    with pytest.raises(UserError, match="24 of 24 rows are without an end: no special token ends their answer"):
        tokenize_dataset(dataset, manifest, tmp_path / "tokens", run_settings()["tokens"])


def test_a_row_longer_than_the_model_sees_stops_the_build(tiny_base, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(tiny_base.parent, base)
    config = read_json(base / "config.json") | {"max_position_embeddings": 20}
    (base / "config.json").write_text(json.dumps(config))
    facts = {key: value for key, value in read_json(tiny_base).items() if key != "files"}
    manifest = write_manifest(base, **facts)
    with pytest.raises(UserError, match=r"the longest row has \d+ tokens, the model tiny sees 20; set "):
        tokenize_dataset(make_dataset(tmp_path / "d"), manifest, tmp_path / "tokens", run_settings()["tokens"])


def test_sigterm_saves_a_checkpoint_and_stops_with_one_line(tokens, tiny_base, tmp_path):
    settings = run_settings(training={"epochs": 200})

    def terminate():
        while not list((tmp_path / "checkpoints").glob("*/checkpoint-*/manifest.json")):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=terminate, daemon=True).start()
    with pytest.raises(UserError, match=r"stopped by SIGTERM after step \d+ of 1000; the checkpoint is kept"):
        train(tokens, tiny_base, tmp_path, settings)
    (folder,) = (tmp_path / "checkpoints").iterdir()
    assert latest_checkpoint(folder)
    assert not (tmp_path / "output").exists()


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


def test_qlora_trains_over_a_4_bit_base(tokens, tiny_base, tmp_path):
    curve, _ = train(tokens, tiny_base, tmp_path, run_settings("qlora", training={"max_steps": 3}))
    assert len([row for row in curve if "loss" in row]) == 3
    assert (tmp_path / "output" / "adapter_model.safetensors").is_file()


def test_the_step_says_what_is_wrong_in_one_line(tiny_base, tmp_path):
    dataset = make_dataset(tmp_path / "dataset")
    script = ROOT / "scripts" / "train" / "tokenize_conversations.py"
    settings = json.dumps({"tokens": run_settings(tokens={"max_length": 16})["tokens"]})
    command = [sys.executable, script, dataset, "--base", tiny_base, "--folder", tmp_path / "tokens"]
    done = subprocess.run(
        [*command, "--settings", settings, "--log", tmp_path / "log"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "24 of 24 rows are longer than tokens.max_length 16, the longest has " in done.stderr
    assert "raise tokens.max_length" in done.stderr


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
