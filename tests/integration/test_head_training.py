"""A linear head over a frozen backbone: equal to ordinary training, exact after an interruption, and mergeable."""

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForTokenClassification, get_cosine_schedule_with_warmup

from scripts.common.chat import IGNORED
from scripts.common.errors import UserError
from scripts.common.files import check_manifest, read_json, write_manifest
from scripts.common.padding import pad_batch
from scripts.common.threads import use_threads
from scripts.predict.span_model import SpanModel
from scripts.train import features
from scripts.train.batches import EpochSampler
from scripts.train.features import Rows, cache_decision, fill_cache, is_filled
from scripts.train.head_model import class_weights, new_head, summed_loss
from scripts.train.head_run import HeadRun
from scripts.train.merge_head import merge_head
from scripts.train.tokenize_spans import tokenize_dataset
from scripts.train.train_head import live_features, main, train_head
from scripts.train.train_span_lora import train_span_lora
from tests.support.damage import cut_short, flip_byte
from tests.support.span_data import head_settings, make_span_dataset


@pytest.fixture(scope="module")
def tokens(tiny_base, tmp_path_factory) -> Path:
    """The token folder of a small dataset of spans, some of its texts in several windows."""
    use_threads(2)
    folder = tmp_path_factory.mktemp("tokens")
    dataset = make_span_dataset(folder / "dataset", train=18)
    tokenize_dataset(dataset, tiny_base, folder / "tokens", head_settings()["tokens"])
    return folder / "tokens"


@pytest.fixture(autouse=True)
def keep_signal_handlers():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def run_of(tokens, base, folder, settings, attempt=1) -> HeadRun:
    return HeadRun(tokens, base, folder / "checkpoints", folder / "output", settings, 2, attempt)


def train(tokens, base, folder, settings, attempt=1):
    way = train_head if settings["method"] == "head" else train_span_lora
    return way(run_of(tokens, base, folder, settings, attempt))


def weights_of(folder: Path) -> bytes:
    files = sorted((folder / "output").glob("*.safetensors"))
    assert files
    return b"".join(file.read_bytes() for file in files)


def test_training_lowers_the_loss_and_logs_it(tokens, tiny_base, tmp_path):
    curve, facts = train(tokens, tiny_base, tmp_path, head_settings(training={"epochs": 8}))
    losses = [row["loss"] for row in curve if "loss" in row]
    assert losses[-1] < 0.7 * losses[0]
    logged = {"step", "epoch", "loss", "learning_rate", "grad_norm", "mean_token_accuracy", "tokens_per_second"}
    assert logged <= curve[0].keys()
    assert any("eval_loss" in row for row in curve)
    tokens_kept, hidden = facts["features"]["tokens"], facts["features"]["hidden_size"]
    assert facts["features"]["bytes"] == facts["features"]["estimated_bytes"] == tokens_kept * hidden * 4
    assert facts["trainable_parameters"] == 7 * 256 + 7
    assert sorted(path.name for path in (tmp_path / "output").iterdir()) == [
        ".manifest.json.sha256",
        "head.safetensors",
        "head_config.json",
        "manifest.json",
    ]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_kept_hidden_states_and_those_computed_each_time_train_the_same_head(tokens, tiny_base, tmp_path, precision):
    for cache in ("always", "never"):
        settings = head_settings(head={"cache": cache}, training={"precision": precision})
        _, facts = train(tokens, tiny_base, tmp_path / cache, settings)
        assert facts["features"]["cached"] == (cache == "always")
    assert weights_of(tmp_path / "always") == weights_of(tmp_path / "never")


class LabelledDropout(torch.nn.Module):
    """What a head trains on: the labelled tokens' features, standardized, some of them dropped."""

    def __init__(self, chance: float, mean: torch.Tensor, deviation: torch.Tensor):
        super().__init__()
        self.chance, self.chosen, self.mean, self.deviation = chance, None, mean, deviation

    def forward(self, hidden):
        result = hidden.clone()
        features = (hidden[self.chosen] - self.mean) / self.deviation
        result[self.chosen] = torch.nn.functional.dropout(features, self.chance)
        return result


@pytest.mark.parametrize(("dropout", "kind"), [(0.0, "none"), (0.1, "balanced")])
def test_the_head_equals_one_trained_through_the_whole_model(tokens, tiny_base, tmp_path, dropout, kind):
    settings = head_settings(head={"dropout": dropout, "class_weights": kind}, training={"keep_best": False})
    _, facts = train(tokens, tiny_base, tmp_path, settings)
    labels, rows = read_json(tokens / "labels.json"), Rows(tokens / "train.arrow")
    model = AutoModelForTokenClassification.from_pretrained(
        tiny_base.parent, dtype=torch.float32, num_labels=len(labels)
    )
    model.requires_grad_(False)
    with torch.no_grad():
        states = [model.model(torch.tensor([ids])).last_hidden_state[0] for ids in rows.ids]
    features = torch.cat([state[places] for state, places in zip(states, rows.positions, strict=True)])
    mean, deviation = features.mean(0), features.std(0, correction=0)
    model.dropout = LabelledDropout(dropout, mean, deviation)
    model.score.load_state_dict(new_head(tiny_base.parent, labels, settings["seed"]).state_dict())
    model.score.requires_grad_(True)
    optimizer = torch.optim.AdamW(model.score.parameters(), lr=1e-2, weight_decay=0.0)
    steps = facts["steps"]
    schedule = get_cosine_schedule_with_warmup(optimizer, -(-steps * 3 // 100), steps)
    weights = torch.tensor(class_weights(kind, rows.counts(len(labels))))
    taken = 0
    for epoch in range(2):
        sampler = EpochSampler([len(ids) for ids in rows.ids], settings["seed"])
        sampler.set_epoch(epoch)
        order = list(sampler)
        for start in range(0, len(order), 4):
            batch, taken = order[start : start + 4], taken + 1
            labelled = sum(len(rows.labels[i]) for i in batch)
            for micro in range(0, len(batch), 2):
                part = [{"input_ids": rows.ids[i], "labels": full_labels(rows, i)} for i in batch[micro : micro + 2]]
                inputs = pad_batch(part, 0)
                model.dropout.chosen = inputs["labels"] != IGNORED
                torch.manual_seed((settings["seed"] * 1_000_003 + taken) * 1_009 + micro // 2)
                logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
                (summed_loss(logits.flatten(0, 1), inputs["labels"].flatten(), weights) / labelled).backward()
            torch.nn.utils.clip_grad_norm_(model.score.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    assert taken == steps
    trained = load_file(tmp_path / "output" / "head.safetensors")
    weight = model.score.weight / deviation
    assert torch.allclose(trained["score.weight"], weight, atol=1e-5, rtol=1e-5)
    assert torch.allclose(trained["score.bias"], model.score.bias - weight @ mean, atol=1e-5, rtol=1e-5)
    fresh = new_head(tiny_base.parent, labels, settings["seed"])
    assert (trained["score.weight"] - fresh.weight).abs().max() > 1e-2


def full_labels(rows: Rows, number: int) -> list[int]:
    """Return the labels of a row with those that are ignored."""
    labels = torch.full((len(rows.ids[number]),), IGNORED)
    labels[rows.positions[number]] = rows.labels[number]
    return labels.tolist()


def test_a_pass_over_the_data_that_was_cut_off_goes_on_where_it_was(tokens, tiny_base, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "FLUSH_SECONDS", 0)
    run = run_of(tokens, tiny_base, tmp_path, head_settings())
    rows = Rows(tokens / "train.arrow")
    live = live_features({"train": rows}, run)["train"]
    fill_cache(live, tmp_path / "whole", "train", torch.float32, lambda: False)
    computed, forward = [], live.forward
    monkeypatch.setattr(live, "forward", lambda batch: computed.extend(batch) or forward(batch))
    with pytest.raises(UserError, match=rf"stopped after 5 of {len(rows)} rows of train"):
        fill_cache(live, tmp_path / "cut", "train", torch.float32, lambda: len(computed) >= 5)
    with open(tmp_path / "cut" / "train.bin", "ab") as file:
        file.write(b"half a row")
    fill_cache(live, tmp_path / "cut", "train", torch.float32, lambda: False)
    assert sorted(computed) == list(range(len(rows)))
    assert (tmp_path / "cut" / "train.bin").read_bytes() == (tmp_path / "whole" / "train.bin").read_bytes()


@pytest.mark.parametrize("damage", [flip_byte, cut_short])
def test_hidden_states_that_have_changed_are_made_again(tokens, tiny_base, tmp_path, caplog, damage):
    rows = Rows(tokens / "train.arrow")
    live = live_features({"train": rows}, run_of(tokens, tiny_base, tmp_path, head_settings()))["train"]
    states, words = tmp_path / "train.bin", (tmp_path, "train")
    fill_cache(live, *words, torch.float32, lambda: False)
    whole = states.read_bytes()
    assert is_filled(*words, rows, len(whole))
    damage(states)
    assert not is_filled(*words, rows, len(whole))
    fill_cache(live, *words, torch.float32, lambda: False)
    assert "has changed since it was made: it is made again" in caplog.text
    assert states.read_bytes() == whole
    assert is_filled(*words, rows, len(whole))


@pytest.mark.parametrize(
    ("wish", "needed", "free", "kept", "why"),
    [
        ("auto", 2, 100, True, "2.00 GiB of 100.00 GiB free disk"),
        ("auto", 6, 100, False, "6.00 GiB are more than head.max_cache_gb 5"),
        ("auto", 4, 4, False, "4.00 GiB are more than 90% of the free disk, 4.00 GiB"),
        ("never", 2, 100, False, "head.cache is 'never'; 2.00 GiB would be needed"),
        ("always", 6, 100, True, "6.00 GiB; head.cache is 'always'"),
    ],
)
def test_hidden_states_are_kept_where_they_fit(wish, needed, free, kept, why):
    assert cache_decision(wish, needed * 2**30, 5, free * 2**30) == (kept, why)
    with pytest.raises(UserError, match=r"need 6\.00 GiB of disk, 4\.00 GiB are free; set head\.cache to 'auto'"):
        cache_decision("always", 6 * 2**30, 20, 4 * 2**30)


def test_hidden_states_of_other_circumstances_are_removed(tokens, tiny_base, tmp_path):
    stale = tmp_path / "checkpoints" / "hidden_states-0123456789abcdef"
    stale.mkdir(parents=True)
    train(tokens, tiny_base, tmp_path, head_settings(training={"max_steps": 1}))
    (kept,) = (tmp_path / "checkpoints").glob("hidden_states-*")
    assert kept != stale


def test_balanced_weights_are_inverse_to_the_frequency_and_one_on_average():
    counts = [80, 15, 5, 0]
    weights = class_weights("balanced", counts)
    assert weights == [pytest.approx(w) for w in (100 / 240, 100 / 45, 100 / 15, 1.0)]
    assert sum(n * w for n, w in zip(counts, weights, strict=True)) == pytest.approx(sum(counts))
    assert class_weights("none", counts) == [1.0] * 4


@pytest.mark.parametrize("method", ["head", "lora"])
def test_a_smaller_micro_batch_after_running_out_of_memory_gives_the_same_head(tokens, tiny_base, tmp_path, method):
    options = {"lora": {"dropout": 0.0}} if method == "lora" else {}
    settings = head_settings(method, head={"dropout": 0.0, "class_weights": "balanced"}, **options)
    first, _ = train(tokens, tiny_base, tmp_path / "1", settings, attempt=1)
    second, facts = train(tokens, tiny_base, tmp_path / "2", settings, attempt=2)
    assert (facts["micro_batch"], facts["accumulation"]) == (1, 4)
    for a, b in zip(first, second, strict=True):
        key = "loss" if "loss" in a else "eval_loss"
        assert a[key] == pytest.approx(b[key], rel=1e-3)


def step(tokens, base, folder, method="head", **training) -> int:
    """Run the step as the rule does; return its status."""
    arguments = ["--base", base, "--checkpoints", folder / "checkpoints", "--output", folder / "adapter"]
    outputs = ["--curve", folder / "curve.jsonl", "--facts", folder / "training.json"]
    settings = ["--settings", json.dumps(head_settings(method, training={"max_steps": 2, **training}))]
    return main([str(word) for word in [tokens, *arguments, *outputs, *settings]])


def test_the_step_leaves_no_checkpoint_and_trains_the_very_same_run_once(tokens, tiny_base, tmp_path):
    assert step(tokens, tiny_base, tmp_path) == 0
    assert not (tmp_path / "checkpoints").exists()
    assert check_manifest(tmp_path / "adapter" / "manifest.json", hashes=True)["method"] == "head"
    first = (tmp_path / "training.json").read_text()
    assert step(tokens, tiny_base, tmp_path) == 0
    assert (tmp_path / "training.json").read_text() == first
    assert step(tokens, tiny_base, tmp_path, learning_rate=0.1) == 0
    assert (tmp_path / "training.json").read_text() != first


def test_an_optimizer_that_a_head_has_no_use_for_is_refused(tokens, tiny_base, tmp_path):
    with pytest.raises(UserError, match=r"training\.optimizer 'adafactor': a head trains with AdamW"):
        train(tokens, tiny_base, tmp_path, head_settings(training={"optimizer": "adafactor"}))


def test_an_architecture_without_a_token_classifier_is_refused(tokens, tiny_base, tmp_path):
    base = shutil.copytree(tiny_base.parent, tmp_path / "base")
    config = read_json(base / "config.json") | {"model_type": "mistral3"}
    (base / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="transformers has no token classifier of the architecture 'mistral3'"):
        train(tokens, write_manifest(base, name="tiny"), tmp_path, head_settings())


def test_a_head_over_a_4_bit_backbone_is_used_over_one_again(tokens, tiny_base, tmp_path):
    settings = head_settings(head={"load_in_4bit": True}, training={"max_steps": 3})
    curve, _ = train(tokens, tiny_base, tmp_path, settings)
    assert len([row for row in curve if "loss" in row]) == 3
    assert read_json(tmp_path / "output" / "head_config.json")["load_in_4bit"]["quant_type"] == "nf4"
    merge_head(tmp_path / "output" / "manifest.json", tiny_base, tmp_path / "merged")
    scores = {}
    for wish, kind in (("auto", "Linear4bit"), ("no", "Linear")):
        model = SpanModel(tmp_path / "merged" / "manifest.json", "fp32", 48, 16, 4, wish)
        assert type(model.backbone.layers[0].mlp.up_proj).__name__ == kind
        assert torch.equal(model.head.weight.cpu(), load_file(tmp_path / "output" / "head.safetensors")["score.weight"])
        scores[wish] = model.classify([list(range(30, 50))])[0][1]
    assert scores["auto"] != scores["no"]


def logits_of(model, ids):
    with torch.no_grad():
        return model.eval()(input_ids=ids).logits.float()


def test_a_merged_head_loads_without_peft_and_the_base_is_linked(tokens, tiny_base, tmp_path):
    train(tokens, tiny_base, tmp_path, head_settings())
    merge_head(tmp_path / "output" / "manifest.json", tiny_base, tmp_path / "merged")
    model = AutoModelForTokenClassification.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    labels = read_json(tokens / "labels.json")
    assert type(model).__name__ == "MistralForTokenClassification"
    assert [model.config.id2label[i] for i in range(len(labels))] == labels
    assert model.config.label2id["O"] == 0
    assert model.dropout.p == pytest.approx(0.1)
    trained = load_file(tmp_path / "output" / "head.safetensors")
    assert torch.equal(model.score.weight, trained["score.weight"])
    base = AutoModelForTokenClassification.from_pretrained(tiny_base.parent, dtype=torch.float32)
    ids = torch.arange(30, 50)[None]
    with torch.no_grad():
        hidden = base.eval().base_model(ids).last_hidden_state
        expected = hidden @ trained["score.weight"].T + trained["score.bias"]
    assert torch.allclose(logits_of(model, ids), expected, atol=1e-6)
    linked = tmp_path / "merged" / "model-00001-of-00002.safetensors"
    assert linked.stat().st_ino == (tiny_base.parent / "model.safetensors").stat().st_ino
    assert not any(
        "lm_head" in name for name in read_json(linked.parent / "model.safetensors.index.json")["weight_map"]
    )
    assert check_manifest(tmp_path / "merged" / "manifest.json", hashes=True)["method"] == "head"


def test_lora_and_head_are_merged_as_peft_would_do_it(tokens, tiny_base, tmp_path):
    from peft import PeftModel

    training = {"epochs": 4, "precision": "fp32"}
    curve, facts = train(tokens, tiny_base, tmp_path, head_settings("lora", training=training))
    losses = [row["loss"] for row in curve if "loss" in row]
    assert losses[-1] < 0.7 * losses[0]
    assert facts["trainable_parameters"] > 7 * 256 + 7
    config = read_json(tmp_path / "output" / "adapter_config.json")
    assert config["modules_to_save"] is None
    assert "score" not in config["target_modules"]
    base = split_in_two(tiny_base, tmp_path / "base")
    merge_head(tmp_path / "output" / "manifest.json", base, tmp_path / "merged")
    merged = AutoModelForTokenClassification.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    theirs = AutoModelForTokenClassification.from_pretrained(
        tiny_base.parent, dtype=torch.float32, num_labels=len(merged.config.id2label)
    )
    head = load_file(tmp_path / "output" / "head.safetensors")
    theirs.score.load_state_dict({name.removeprefix("score."): tensor for name, tensor in head.items()})
    plain = logits_of(theirs, torch.arange(30, 50)[None])
    theirs = PeftModel.from_pretrained(theirs, tmp_path / "output").merge_and_unload()
    for parameter in theirs.parameters():
        parameter.data = parameter.data.to(torch.bfloat16).float()
    theirs.score.load_state_dict({name.removeprefix("score."): tensor for name, tensor in head.items()})
    ids = torch.arange(30, 50)[None]
    assert torch.equal(logits_of(merged, ids), logits_of(theirs, ids))
    assert not torch.allclose(logits_of(merged, ids), plain, atol=1e-2)
    assert len(list((tmp_path / "merged").glob("model-*-of-00003.safetensors"))) == 3


def split_in_two(base: Path, folder: Path) -> Path:
    """Copy a base with its weights in two files; return the manifest."""
    shutil.copytree(base.parent, folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, folder / file, {"format": "pt"})
    return write_manifest(folder, name="tiny", id=None, revision=None)


def test_a_head_of_another_base_is_refused(tokens, tiny_base, tmp_path):
    train(tokens, tiny_base, tmp_path, head_settings(training={"max_steps": 1}))
    base = shutil.copytree(tiny_base.parent, tmp_path / "base")
    config = read_json(base / "config.json") | {"hidden_size": 128}
    (base / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="was trained on hidden states of 256 numbers, the base's have 128"):
        merge_head(tmp_path / "output" / "manifest.json", write_manifest(base, name="tiny"), tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
