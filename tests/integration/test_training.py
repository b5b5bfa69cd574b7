"""Training on a very small model: what it learns from, what is refused, and what it leaves."""

import importlib.util
import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from scripts.common import threads as thread_settings
from scripts.common.errors import UserError
from scripts.common.files import check_manifest, read_json, write_manifest
from scripts.config.runs import Run
from scripts.train import output_layer, text_training, tokenize_conversations, unpadded
from scripts.train.adapter_layer import speed_up_adapter
from scripts.train.arguments import trainer_options
from scripts.train.batches import load_rows
from scripts.train.padding import pad_batch
from scripts.train.tokenize_conversations import tokenize_dataset
from scripts.train.training_run import curve_rows
from scripts.train.training_step import only_training_in
from scripts.train.unpadded import collate_unpadded, each_part, keeps_by_example, parts
from tests.support.chat_templates import template_text
from tests.support.project import ROOT
from tests.support.tiny_model import changed_base
from tests.support.training import make_data, make_dataset, run_in, run_settings, train_in, train_step
from tests.support.vision import make_vision_dataset

PACKED = {"packing": True, "max_length": 128}


@pytest.fixture(scope="module")
def data(tiny_base, tmp_path_factory) -> Path:
    """A folder with a small dataset and its rows."""
    return make_data(tmp_path_factory.mktemp("data"), tiny_base, run_settings())


@pytest.fixture
def train(data, tiny_base, tmp_path):
    """A function that trains in tmp_path and returns the curve and the facts."""
    return lambda *method, **sections: train_in(data, tiny_base, tmp_path, run_settings(*method, **sections))


def test_training_lowers_the_loss_and_logs_it_and_the_adapter_loads_with_plain_peft(train, tiny_base, tmp_path):
    curve, facts = train(training={"epochs": 4, "max_steps": 60, "learning_rate": 1e-2})
    losses = [row["loss"] for row in curve if "loss" in row]
    assert losses[-1] < losses[0]
    assert {"step", "epoch", "loss", "learning_rate", "tokens_per_second", "memory_mb"} <= curve[0].keys()
    assert any("eval_loss" in row for row in curve)
    assert facts["steps"] == 20  # the epochs end before the largest number of steps
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


@pytest.mark.parametrize("attention", ["auto", "eager"])  # without padding, and with it
def test_a_steps_gradient_is_that_of_the_mean_over_its_trained_tokens_whatever_the_micro_batches(
    data, tiny_base, train, attention
):
    training = {"max_steps": 1, "micro_batch": 2, "accumulation": 9, "attention": attention}
    curve, facts = train("full", training=training)
    assert facts["padded"] == (attention == "eager")
    rows = load_rows(data / "tokens", "train")[:]
    rows = [{"input_ids": ids, "labels": labels} for ids, labels in zip(rows["input_ids"], rows["labels"], strict=True)]
    assert len({sum(label != -100 for label in row["labels"]) for row in rows}) > 1
    model = AutoModelForCausalLM.from_pretrained(tiny_base.parent, dtype=torch.float32)
    loss = model(**pad_batch(rows, 0)).loss
    loss.backward()
    norm = torch.stack([weight.grad.norm() for weight in model.parameters()]).norm()
    assert curve[0]["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert curve[0]["grad_norm"] == pytest.approx(norm.item(), rel=1e-4)


def test_a_checkpoint_of_other_settings_or_of_another_result_version_is_never_resumed(data, tiny_base, tmp_path):
    def run(**sections):
        return run_in(data, tiny_base, tmp_path, run_settings(**sections))

    first, other = run().folder("fp32"), run()
    assert first == run(training={"logging_steps": 7, "micro_batch": 4, "accumulation": 1}).folder("fp32")
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
    left = tmp_path / "..finished.json.sha256.29734.partial"  # of a kill after the last record was written
    left.touch()
    assert outputs_of_a_run() == first
    assert not left.exists()
    other = outputs_of_a_run(logging_steps=2)
    assert other[1] != first[1]
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert outputs_of_a_run(logging_steps=2)[1] != other[1]


def test_a_second_training_of_the_same_run_waits_for_one_that_is_stopping_and_is_refused(
    data, tiny_base, tmp_path, monkeypatch
):
    stopping = only_training_in(tmp_path)
    stopping.__enter__()
    threading.Timer(0.2, stopping.__exit__, (None, None, None)).start()
    with only_training_in(tmp_path):
        monkeypatch.setattr("scripts.train.training_step.PATIENCE", 0.5)
        assert train_step(data, tiny_base, tmp_path, run_settings()) == 1


def test_a_norm_that_is_not_a_number_is_null_in_the_curve():
    rows = curve_rows([{"step": 1, "loss": 2.0, "grad_norm": math.inf}, {"step": 1, "train_runtime": 3.0}])
    assert rows == [{"step": 1, "loss": 2.0, "grad_norm": None}]


def test_what_this_machine_or_model_lacks_is_one_line(train, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "wandb" else found(name))
    for sections, line in (
        ({"training": {"attention": "flash_attention_2"}}, "the package flash_attn is not installed"),
        ({"training": {"report_to": ["wandb"]}}, "the package wandb is not installed; .*make trackers"),
        ({"lora": {"target_modules": ["no_such_proj"]}}, "lora.target_modules: "),
    ):
        with pytest.raises(UserError, match=line):
            train(**sections)


def test_packing_trains_on_fewer_rows_and_with_the_largest_seed_that_the_configuration_takes(train):
    seed = Run.model_json_schema()["properties"]["seed"]["maximum"]
    _, facts = train(tokens=PACKED, training={"max_steps": 1}, seed=seed)
    assert (facts["packing"], facts["steps"]) == ("on", 1)
    assert facts["rows"] < 18


@pytest.mark.parametrize(
    ("sections", "attempt", "recomputed"),
    [({}, 1, False), ({}, 2, True), ({"tokens": PACKED}, 1, True), ({"training": {"attention": "eager"}}, 1, True)],
)
def test_activations_are_recomputed_unless_rows_are_computed_in_parts_and_memory_suffices(
    data, tiny_base, tmp_path, monkeypatch, sections, attempt, recomputed
):
    found = []

    def watched(*arguments):
        options = trainer_options(*arguments)
        found.append(options["args"].gradient_checkpointing)
        return options

    monkeypatch.setattr(text_training, "trainer_options", watched)
    training = {"gradient_checkpointing": "auto", "max_steps": 1} | sections.get("training", {})
    train_in(data, tiny_base, tmp_path, run_settings(**{**sections, "training": training}), attempt)
    assert found == [recomputed]


def test_early_stopping_and_best_checkpoint(train):
    training = {"epochs": 30, "learning_rate": 2.0, "scheduler": "constant", "early_stopping_patience": 1}
    curve, facts = train(training=training)
    evaluations = {row["step"]: row["eval_loss"] for row in curve if "eval_loss" in row}
    assert facts["steps"] < 150
    assert facts["best_step"] == min(evaluations, key=evaluations.get)


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


@pytest.mark.parametrize("reads_images", [False, True])
def test_several_processes_tokenize_to_the_same_files(tiny_base, tiny_vision_base, tmp_path, monkeypatch, reads_images):
    monkeypatch.setattr(tokenize_conversations, "RECORDS", 2)
    monkeypatch.setattr(tokenize_conversations, "MANY", 0)
    dataset = (make_vision_dataset if reads_images else make_dataset)(tmp_path / "dataset")
    settings, base = run_settings()["tokens"], tiny_vision_base if reads_images else tiny_base
    images = dataset if reads_images else None
    one, two = tmp_path / "one", tmp_path / "two"
    ledger = tokenize_dataset(dataset, base, one, settings, images)
    assert tokenize_dataset(dataset, base, two, settings, images, processes=2) == ledger
    assert len(ledger["previews"]) == tokenize_conversations.PREVIEWS
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_bad_line_is_named_with_its_number_whichever_process_reads_it(tiny_base, tmp_path, monkeypatch, processes):
    monkeypatch.setattr(tokenize_conversations, "RECORDS", 2)
    monkeypatch.setattr(tokenize_conversations, "MANY", 0)
    lines = (make_dataset(tmp_path) / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "train.jsonl").write_text("".join([lines[0], "\n", *lines[1:3], "{\n", *lines[3:]]), encoding="utf-8")
    with pytest.raises(UserError, match=r"train\.jsonl:5: is not valid JSON"):
        tokenize_dataset(tmp_path, tiny_base, tmp_path / "out", run_settings()["tokens"], processes=processes)


@pytest.mark.parametrize("scaling", [None, 0.3])
@pytest.mark.parametrize(("key_heads", "value_size"), [(4, 16), (2, 16), (1, 8)])
def test_short_examples_have_the_attention_that_torch_computes(monkeypatch, key_heads, value_size, scaling):
    module = torch.nn.Module()
    module.num_key_value_groups = 4 // key_heads
    torch.manual_seed(0)
    inputs = [torch.randn(1, heads, 37, size, requires_grad=True) for heads, size in ((4, 16), (key_heads, 16))]
    inputs.append(torch.randn(1, key_heads, 37, value_size, requires_grad=True))

    def found(short: int) -> list[torch.Tensor]:
        monkeypatch.setattr(unpadded, "SHORT", short)
        result, _ = unpadded.attend_by_example(module, *inputs, None, example_lengths=[20, 1, 16], scaling=scaling)
        return [result, *torch.autograd.grad(result.square().sum(), inputs)]

    for own, plain in zip(found(512), found(0), strict=True):
        assert own.shape == plain.shape
        assert torch.allclose(own, plain, rtol=1e-4, atol=1e-5)


def test_a_step_on_a_cpu_computes_deterministically_with_few_kept_kernels_and_without_torchs_compiler():
    code = """
import os, sys
from scripts.common.threads import use_threads
use_threads(1)
import torch
print(torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled())
print(torch.get_num_threads(), "torch._inductor" in sys.modules)
print(os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"], os.environ["LRU_CACHE_CAPACITY"])
print(os.environ["OMP_WAIT_POLICY"], os.environ.get("GOMP_SPINCOUNT"))
"""
    env_vars = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    for own, openmp in (({}, "PASSIVE 1000"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE None")):
        variables = {name: value for name, value in env_vars.items() if name not in thread_settings.OPENMP} | own
        done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True)
        assert done.stdout == f"True True\n1 False\n64 16\n{openmp}\n", done.stderr


def test_logits_are_computed_only_where_a_token_is_trained_and_their_gradients_are_those_of_the_plain_loss(
    tiny_base, monkeypatch
):
    monkeypatch.setattr(output_layer, "BLOCK", 3 * 384)  # several blocks
    model = AutoModelForCausalLM.from_pretrained(tiny_base.parent, dtype=torch.float32)
    ids = torch.randint(30, 97, (3, 20), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    labels[0, :15], labels[1, :18], labels[2, :] = -100, -100, -100
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    logits, targets = model(input_ids=ids).logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    chances = torch.distributions.Categorical(logits=logits[targets != -100])
    gradients = torch.autograd.grad(expected, weights)
    output_layer.add_loss_sums(model)
    found = model(input_ids=ids, labels=labels, loss_sums=True)
    assert found.tokens == 7
    assert torch.allclose(found.loss.float(), expected, rtol=1e-6)
    assert torch.allclose(found.entropy.float(), chances.entropy().sum(), rtol=1e-5)
    assert found.right == (logits.argmax(1) == targets).sum()
    for own, plain in zip(torch.autograd.grad(found.loss, weights), gradients, strict=True):
        assert torch.allclose(own, plain, rtol=1e-4, atol=1e-5 * float(plain.detach().abs().max()))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_faster_pass_through_an_adapter_computes_what_pefts_does(tiny_base, dropout):
    def gradients(fast: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_pretrained(tiny_base.parent, dtype=torch.float32)
        model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", lora_dropout=dropout, lora_alpha=32))
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
        if fast:
            assert speed_up_adapter(model) == sum("lora_A" in name for name, _ in model.named_parameters())
        ids = torch.arange(30, 60)[None]
        torch.manual_seed(1)
        loss = model.train()(input_ids=ids, labels=ids).loss
        loss.backward()
        return [loss, *(weight.grad for weight in model.parameters() if weight.requires_grad)]

    for own, plain in zip(gradients(True), gradients(False), strict=True):
        assert torch.allclose(own, plain, rtol=1e-4, atol=1e-5 * float(plain.detach().abs().max()))


SIZES = {
    "vocab_size": 160, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 64, "pad_token_id": 0,
    "attention_dropout": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "entries", "joined", "own_logits"),
    [
        ("llama", {"tie_word_embeddings": True}, True, True),
        ("mistral", {"sliding_window": 16}, False, True),  # the window is shorter than the longest row
        ("phi", {}, True, True),  # biases
        ("granite", {"logits_scaling": 4.0, "attention_multiplier": 0.3}, True, True),
        ("cohere", {"logit_scale": 0.3}, True, True),
        ("gemma2", {"final_logit_softcapping": 3.0, "query_pre_attn_scalar": 16}, False, True),
        ("recurrent_gemma", {"lru_width": 64, "attention_window_size": 48, "logits_soft_cap": 3.0}, False, True),
        ("lfm2", {"layer_types": ["conv", "full_attention"]}, False, True),
        ("modernbert-decoder", {}, True, False),  # two layers compute the logits
        ("mixtral", {"num_local_experts": 4, "router_aux_loss_coef": 0.1}, False, True),
    ],
)
def test_mixed_rows_of_each_architecture_train_as_plain_transformers_and_peft_do(
    monkeypatch, kind, entries, joined, own_logits
):
    monkeypatch.setattr(output_layer, "BLOCK", 30 * 160)  # several blocks
    monkeypatch.setattr(unpadded, "SHORT", 25)  # shorter than two of the rows
    source = torch.Generator().manual_seed(3)
    ids = [torch.randint(3, 160, (length,), generator=source).tolist() for length in (30, 11, 45, 6, 22)]
    rows = [{"input_ids": row, "labels": [-100] * (len(row) // 3) + row[len(row) // 3 :]} for row in ids]
    tokens, padded = sum(label != -100 for row in rows for label in row["labels"]), pad_batch(rows, 0)

    def model():
        torch.manual_seed(0)
        made = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZES | entries), dtype=torch.float32)
        for parameter in made.parameters():
            torch.nn.init.normal_(parameter, std=0.12) if parameter.ndim > 1 else None
        return made

    def adapted(base):
        torch.manual_seed(1)
        made = get_peft_model(
            base, LoraConfig(r=4, target_modules="all-linear", exclude_modules=".*(router|gate|head).*")
        )
        for name, parameter in made.named_parameters():
            torch.nn.init.normal_(parameter, std=0.1) if "lora_B" in name else None
        return made.train()

    def gradients(trained) -> dict:
        return {name: each.grad for name, each in trained.named_parameters() if each.grad is not None}

    plain, coefficient = adapted(model()), entries.get("router_aux_loss_coef", 0.0)
    outputs = plain(**padded, use_cache=False, **{"output_router_logits": True} if coefficient else {})
    expected = torch.nn.functional.cross_entropy(
        outputs.logits[:, :-1].flatten(0, 1), padded["labels"][:, 1:].flatten(), reduction="sum"
    )
    expected = expected / tokens + (coefficient * outputs.aux_loss if coefficient else 0.0)
    expected.backward()
    base = model()
    assert bool(not coefficient and keeps_by_example(base, 0, 160, 45)) == joined
    assert output_layer.add_loss_sums(base) == own_logits
    own = adapted(base)
    speed_up_adapter(own)
    batch, loss = collate_unpadded(rows) if joined else padded, 0.0
    for part in each_part(batch):
        sums = own(**part, loss_sums=True)
        part_loss = sums.loss / tokens + (sums.balance or 0.0)
        part_loss.backward()
        loss += part_loss.detach()
    assert torch.allclose(loss.float(), expected, rtol=1e-6)
    wanted, found = gradients(plain), gradients(own)
    assert wanted.keys() == found.keys()
    for name, gradient in wanted.items():
        assert (found[name] - gradient).norm() <= 1e-5 * gradient.norm(), name


def test_a_micro_batch_is_computed_in_parts_of_whole_rows():
    rows = [{"input_ids": [1] * length} for length in (20, 17, 14, 11, 8)]
    assert [len(part) for part in parts(rows, 30)] == [1, 1, 2, 1]


def test_attention_that_joins_examples_keeps_its_padding(tiny_base):
    model = AutoModelForCausalLM.from_pretrained(tiny_base.parent, dtype=torch.float32, attn_implementation="eager")
    assert not keeps_by_example(model, 0, 97, 20)
    assert model.config._attn_implementation == "eager"
