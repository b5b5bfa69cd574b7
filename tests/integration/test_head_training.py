"""A linear head over a frozen backbone: equal to ordinary training, exact after an interruption, and mergeable."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForTokenClassification, get_cosine_schedule_with_warmup

from scripts.common.errors import UserError
from scripts.common.files import check_manifest, read_json
from scripts.predict.span_model import SpanModel
from scripts.train import features
from scripts.train.features import Rows, SplitCache, cache_decision
from scripts.train.head_model import class_weights, new_head
from scripts.train.head_training import live_features
from scripts.train.merge_head import merge_head
from scripts.train.trainer import drop
from tests.support.damage import cut_short
from tests.support.span_data import answer_settings, head_settings
from tests.support.tiny_model import changed_base, split_in_two
from tests.support.training import make_data, run_in, train_in

HEAD = "adapter/head.safetensors"
IDS = torch.arange(30, 50)[None]


@pytest.fixture(scope="module")
def data(tiny_base, tmp_path_factory) -> Path:
    """A folder with a small dataset of spans, some of its texts in several windows, and its rows."""
    return make_data(tmp_path_factory.mktemp("data"), tiny_base, head_settings(), train=18)


@pytest.fixture(scope="module")
def trained(data, tiny_base, tmp_path_factory) -> tuple[Path, list[dict], dict]:
    """The folder, the curve and the facts of a trained head; there were hidden states of another one before."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "checkpoints/hidden_states-0123456789abcdef").mkdir(parents=True)
    return folder, *train_in(data, tiny_base, folder, head_settings(training={"epochs": 8}))


def classifier(folder: Path, **options):
    return AutoModelForTokenClassification.from_pretrained(folder, dtype=torch.float32, **options).eval()


def test_training_lowers_the_loss_and_logs_it(trained):
    folder, curve, facts = trained
    losses = [row["loss"] for row in curve if "loss" in row]
    assert losses[-1] < 0.7 * losses[0]
    logged = {"step", "epoch", "loss", "learning_rate", "grad_norm", "mean_token_accuracy", "tokens_per_second"}
    assert logged <= curve[0].keys()
    assert any("eval_loss" in row for row in curve)
    assert facts["features"]["bytes"] == facts["features"]["estimated_bytes"]
    assert facts["trainable_parameters"] == 7 * 256 + 7
    [states] = (folder / "checkpoints").glob("hidden_states-*")
    assert states.name != "hidden_states-0123456789abcdef"


def test_each_checkpoint_names_the_best_one_by_its_final_path(trained):
    folder, _, _ = trained
    states = [read_json(path) for path in sorted((folder / "checkpoints").glob("*/checkpoint-*/trainer_state.json"))]
    assert states
    for state in states:
        best = Path(state["best_model_checkpoint"])
        assert (best.is_dir(), best.name) == (True, f"checkpoint-{state['best_global_step']}")


def test_dropout_keeps_the_expected_values_and_depends_on_its_seed_alone():
    def dropped(rate: float, *seed: int) -> torch.Tensor:
        values = torch.ones(301, 577)  # an odd number of values
        drop(values, rate, seed)
        return values

    first = dropped(0.1, 42, 3, 1)
    assert (first == 0).float().mean().item() == pytest.approx(0.1, abs=0.005)  # seven standard deviations
    assert first[first != 0].unique().tolist() == pytest.approx([1 / 0.9], rel=1e-4)
    assert torch.equal(dropped(0.1, 42, 3, 1), first)
    for other in ((43, 3, 1), (42, 4, 1), (42, 3, 2)):
        share = ((dropped(0.1, *other) == 0) & (first == 0)).float().mean().item()
        assert share == pytest.approx(0.01, abs=0.002), other  # as of independent draws
    assert 0 < (dropped(0.9999999, 42, 3, 1) != 0).sum() < 20  # the highest rate is 65,535 / 65,536


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_kept_hidden_states_and_those_computed_each_time_train_the_same_head(data, tiny_base, tmp_path, precision):
    for cache in ("always", "never"):
        settings = head_settings(head={"cache": cache}, training={"precision": precision})
        _, facts = train_in(data, tiny_base, tmp_path / cache, settings)
        assert facts["features"]["cached"] == (cache == "always")
    assert (tmp_path / "always" / HEAD).read_bytes() == (tmp_path / "never" / HEAD).read_bytes()


def test_the_head_equals_one_trained_by_plain_torch(data, tiny_base, tmp_path):
    training = {"keep_best": False, "epochs": 3, "micro_batch": 64, "accumulation": 1, "max_grad_norm": 1e9}
    settings = head_settings(head={"dropout": 0.0, "class_weights": "balanced"}, training=training)
    assert train_in(data, tiny_base, tmp_path, settings)[1]["steps"] == 3
    labels, rows = read_json(data / "tokens/labels.json"), Rows(data / "tokens/train.arrow")
    model, head = classifier(tiny_base.parent), new_head(tiny_base.parent, labels, settings["seed"])
    with torch.no_grad():
        states = [model.model(torch.tensor([ids])).last_hidden_state[0] for ids in rows.ids]
        states = torch.cat([state[places] for state, places in zip(states, rows.positions, strict=True)])
    mean, deviation = states.mean(0), states.std(0, correction=0)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2, weight_decay=0.0)
    schedule = get_cosine_schedule_with_warmup(optimizer, 1, 3)
    weights = torch.tensor(class_weights("balanced", rows.counts(len(labels))))
    for _ in range(3):
        logits = torch.nn.functional.linear((states - mean) / deviation, head.weight, head.bias)
        loss = torch.nn.functional.cross_entropy(logits, torch.cat(list(rows.labels)), weights, reduction="sum")
        optimizer.zero_grad()
        (loss / len(states)).backward()
        optimizer.step()
        schedule.step()
    trained, weight = load_file(tmp_path / HEAD), head.weight / deviation
    assert torch.allclose(trained["score.weight"], weight, atol=1e-5, rtol=1e-5)
    assert torch.allclose(trained["score.bias"], head.bias - weight @ mean, atol=1e-5, rtol=1e-5)


def test_a_pass_over_the_data_continues_where_it_was_cut_off(data, tiny_base, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "FLUSH_SECONDS", 0)
    rows = Rows(data / "tokens/train.arrow")
    live = live_features({"train": rows}, run_in(data, tiny_base, tmp_path, head_settings()))["train"]
    computed, forward = [], live.forward
    monkeypatch.setattr(live, "forward", lambda batch: computed.extend(batch) or forward(batch))

    def cache(folder: str) -> SplitCache:
        width = live.backbone.config.hidden_size
        return SplitCache(tmp_path / folder, "train", rows, width, torch.float32, depths=1)

    def fill(folder: str, is_stopped=lambda: False) -> bytes:
        cache(folder).fill(live, is_stopped)
        return (tmp_path / folder / "train.bin").read_bytes()

    whole = fill("whole")
    assert cache("whole").is_filled()
    cut_short(tmp_path / "whole/train.bin")
    assert not cache("whole").is_filled()
    assert fill("whole") == whole
    computed.clear()
    with pytest.raises(UserError, match=r"stopped after 5 of \d+ rows of train"):
        fill("cut", lambda: len(computed) >= 5)
    with open(tmp_path / "cut/train.bin", "ab") as file:
        file.write(b"half a row")
    assert fill("cut") == whole
    assert sorted(computed) == list(range(len(rows)))


def test_hidden_states_are_kept_where_they_fit():
    gib = 2**30
    for wish, needed, free, kept in (("auto", 2, 9, True), ("auto", 6, 9, False), ("auto", 4, 4, False)):
        assert cache_decision(wish, needed * gib, 5, free * gib)[0] == kept
    with pytest.raises(UserError, match=r"need 6\.00 GiB of disk, 4\.00 GiB are free; set head\.cache to 'auto'"):
        cache_decision("always", 6 * gib, 20, 4 * gib)


def test_balanced_weights_are_inverse_to_the_frequency_and_one_on_average():
    assert class_weights("balanced", [80, 15, 5, 0]) == pytest.approx([100 / 240, 100 / 45, 100 / 15, 1.0])
    assert class_weights("none", [80, 15, 5, 0]) == [1.0] * 4


@pytest.mark.parametrize("method", ["head", "lora"])
def test_a_smaller_micro_batch_after_running_out_of_memory_gives_the_same_head(data, tiny_base, tmp_path, method):
    adapter = {"lora": {"dropout": 0.0}} if method == "lora" else {}
    settings = head_settings(method, head={"dropout": 0.0, "class_weights": "balanced"}, **adapter)
    first, _ = train_in(data, tiny_base, tmp_path / "1", settings)
    second, facts = train_in(data, tiny_base, tmp_path / "2", settings, attempt=2)
    assert (facts["micro_batch"], facts["accumulation"]) == (1, 4)
    for a, b in zip(first, second, strict=True):
        key = "loss" if "loss" in a else "eval_loss"
        assert a[key] == pytest.approx(b[key], rel=1e-3)


def test_what_no_head_can_be_trained_with_is_one_line(data, tiny_base, tmp_path):
    base = changed_base(tiny_base, tmp_path / "base", model_type="mistral3")
    with pytest.raises(UserError, match="transformers has no token classifier of the architecture 'mistral3'"):
        train_in(data, base, tmp_path, head_settings())


def test_a_head_over_a_4_bit_backbone_is_used_over_one_again(data, tiny_base, tmp_path):
    train_in(data, tiny_base, tmp_path, head_settings(head={"load_in_4bit": True}, training={"max_steps": 3}))
    assert read_json(tmp_path / "adapter/head_config.json")["load_in_4bit"]["quant_type"] == "nf4"
    merge_head(tmp_path / "adapter/manifest.json", tiny_base, tmp_path / "merged")
    scores = []
    for wish, kind in (("auto", "Linear4bit"), ("no", "Linear")):
        model = SpanModel(tmp_path / "merged/manifest.json", answer_settings(48, 16, load_in_4bit=wish))
        assert type(model.backbone.layers[0].mlp.up_proj).__name__ == kind
        scores.append(model.classify(IDS.tolist())[0])
    assert not torch.equal(*scores)


def test_a_merged_head_loads_without_peft_and_the_base_is_linked(trained, data, tiny_base, tmp_path):
    merge_head(trained[0] / "adapter/manifest.json", tiny_base, tmp_path / "merged")
    model, head = classifier(tmp_path / "merged"), load_file(trained[0] / HEAD)
    assert list(model.config.id2label.values()) == read_json(data / "tokens/labels.json")
    assert (model.config.label2id["O"], model.dropout.p) == (0, pytest.approx(0.1))
    with torch.no_grad():
        hidden = classifier(tiny_base.parent).base_model(IDS).last_hidden_state
        expected = hidden @ head["score.weight"].T + head["score.bias"]
        assert torch.allclose(model(IDS).logits, expected, atol=1e-6)
    linked = tmp_path / "merged/model-00001-of-00002.safetensors"
    assert linked.stat().st_ino == (tiny_base.parent / "model.safetensors").stat().st_ino
    assert check_manifest(tmp_path / "merged/manifest.json", hashes=True)["method"] == "head"


def test_lora_and_head_are_merged_as_peft_would_do_it(data, tiny_base, tmp_path):
    # Of rank 4, because numpy and torch have the same bits for it on all CPUs tried (tests/benchmarks/findings.md).
    settings = head_settings("lora", lora={"r": 4, "alpha": 16}, training={"epochs": 4})
    curve, facts = train_in(data, tiny_base, tmp_path, settings)
    losses = [row["loss"] for row in curve if "loss" in row]
    assert losses[-1] < 0.7 * losses[0]
    assert facts["trainable_parameters"] > 7 * 256 + 7
    merge_head(tmp_path / "adapter/manifest.json", split_in_two(tiny_base, tmp_path / "base"), tmp_path / "merged")
    assert len(list((tmp_path / "merged").glob("model-*-of-00003.safetensors"))) == 3
    merged = classifier(tmp_path / "merged")
    theirs = classifier(tiny_base.parent, num_labels=len(merged.config.id2label))
    theirs = PeftModel.from_pretrained(theirs, tmp_path / "adapter").merge_and_unload()
    for parameter in theirs.parameters():
        parameter.data = parameter.data.bfloat16().float()
    theirs.load_state_dict(load_file(tmp_path / HEAD), strict=False)
    with torch.no_grad():
        assert torch.equal(merged(IDS).logits, theirs(IDS).logits)
