"""Training on rows with images: what learns and what doesn't, its learning rates, and that it resumes exactly."""

import json
import re
import signal
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from scripts.common.errors import UserError
from scripts.common.files import check_manifest, read_json
from scripts.common.threads import use_threads
from scripts.common.vision import load_image, load_processor, vision_tokenizer
from scripts.train.batches import load_rows
from scripts.train.tokenize_conversations import tokenize_dataset
from scripts.train.train_model import main, train_model
from scripts.train.vision_training import PICTURES, VisionCollator, target_pattern
from tests.support.training import make_dataset, run_in, run_settings
from tests.support.vision import make_vision_dataset

ALL = {"train_projector": True, "train_vision_tower": True}
PARTS = ("language_model", "vision_tower", "multi_modal_projector")


def settings_of(method="lora", **sections):
    sections["training"] = {"epochs": 1, **sections.get("training", {})}
    return run_settings(method, task="vision", **sections)


@pytest.fixture(scope="module")
def data(tiny_vision_base, tmp_path_factory) -> Path:
    """A dataset's folder with its images, and its tokens beside it."""
    use_threads(2)
    folder = tmp_path_factory.mktemp("data")
    dataset = make_vision_dataset(folder / "dataset")
    settings = settings_of()
    vision = vision_tokenizer(tiny_vision_base, dataset, settings)
    tokenize_dataset(dataset, tiny_vision_base, folder / "tokens", settings["tokens"], vision)
    return folder


@pytest.fixture(autouse=True)
def keep_signal_handlers():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def train(data, base, folder, settings, attempt=1):
    return train_model(run_in(data, base, folder, settings, attempt))


def adapter_of(folder) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def parts_of(names) -> set[str]:
    return {part for name in names for part in PARTS if f".{part}." in name}


def test_training_lowers_the_loss_and_counts_the_images(data, tiny_vision_base, tmp_path):
    training = {"epochs": 6, "learning_rate": 5e-3}
    curve, facts = train(data, tiny_vision_base, tmp_path, settings_of(training=training))
    losses = [row["loss"] for row in curve if "loss" in row]
    assert losses[-1] < losses[0]
    assert any("eval_loss" in row for row in curve)
    assert facts["images"] == 12
    ledger = sum(row.count(7) + row.count(8) + row.count(9) for row in load_rows(data / "tokens", "train")["input_ids"])
    assert facts["image_tokens"] == ledger
    assert facts["trained_parts"] == ["model.language_model"]
    manifest = check_manifest(tmp_path / "adapter" / "manifest.json")
    assert (manifest["task"], manifest["longest_edge"]) == ("vision", None)


@pytest.mark.parametrize(
    ("vision", "parts"),
    [
        ({}, {"language_model"}),
        ({"train_projector": True}, {"language_model", "multi_modal_projector"}),
        ({"train_vision_tower": True}, {"language_model", "vision_tower"}),
        (ALL, set(PARTS)),
    ],
)
def test_only_the_wanted_parts_are_trained(data, tiny_vision_base, tmp_path, vision, parts):
    training = {"max_steps": 2, "scheduler": "constant", "warmup_ratio": 0.0}
    train(data, tiny_vision_base, tmp_path, settings_of(vision=vision, training=training))
    tensors = adapter_of(tmp_path)
    assert parts_of(tensors) == parts
    base = load_file(tiny_vision_base.parent / "model.safetensors")
    for name, tensor in tensors.items():
        if "multi_modal_projector" in name:
            assert not torch.equal(tensor, base[name.removeprefix("base_model.model.model.")].float()), name
        elif name.endswith("lora_B.weight"):
            assert tensor.abs().max() > 0, name


def test_the_adapter_loads_with_plain_peft_and_changes_the_answers(data, tiny_vision_base, tmp_path):
    train(data, tiny_vision_base, tmp_path, settings_of(vision=ALL, training={"learning_rate": 1e-2}))
    processor = load_processor(tiny_vision_base)
    row = load_rows(data / "tokens", "train")[0]
    image = load_image(data / "dataset", row["images"][0])
    inputs = VisionCollator(processor, data / "dataset")([{**row, PICTURES: row["images"]}])
    assert torch.equal(
        inputs["pixel_values"], processor(images=[image], text="[IMG]", return_tensors="pt")["pixel_values"]
    )
    model = AutoModelForImageTextToText.from_pretrained(tiny_vision_base.parent, dtype=torch.float32).eval()
    with torch.no_grad():
        before = model(**inputs).logits
        after = PeftModel.from_pretrained(model, tmp_path / "adapter").eval()(**inputs).logits
    assert not torch.allclose(before, after, atol=1e-2)
    assert sorted(path.name for path in (tmp_path / "adapter").iterdir()) == [
        ".manifest.json.sha256",
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
    ]


@pytest.mark.parametrize("checkpointing", [True, False])
def test_a_frozen_tower_costs_no_backward_pass(data, tiny_vision_base, tmp_path, monkeypatch, checkpointing):
    seen = []

    def remember(module, inputs, output):
        seen.append(output.requires_grad)

    loaded = AutoModelForImageTextToText.from_pretrained

    def with_a_hook(*arguments, **options):
        model = loaded(*arguments, **options)
        model.model.vision_tower.transformer.layers[0].register_forward_hook(remember)
        return model

    monkeypatch.setattr(AutoModelForImageTextToText, "from_pretrained", with_a_hook)
    training = {"max_steps": 1, "gradient_checkpointing": checkpointing}
    train(data, tiny_vision_base, tmp_path / "frozen", settings_of(training=training))
    assert seen
    assert not any(seen)
    seen.clear()
    train(data, tiny_vision_base, tmp_path / "all", settings_of(training=training, vision=ALL))
    assert any(seen)


def test_each_part_learns_at_its_own_rate_under_the_same_schedule(data, tiny_vision_base, tmp_path):
    moved = {}
    base = load_file(tiny_vision_base.parent / "model.safetensors")
    for rate in (1e-5, 1e-3):
        vision = {**ALL, "projector_learning_rate": rate, "vision_learning_rate": rate}
        training = {"max_steps": 1, "scheduler": "constant", "warmup_ratio": 0.0, "weight_decay": 0.0}
        train(data, tiny_vision_base, tmp_path / str(rate), settings_of(vision=vision, training=training))
        tensors = adapter_of(tmp_path / str(rate))
        moved[rate] = {
            "language_model": max(t.abs().max() for n, t in tensors.items() if "language_model" in n and "lora_B" in n),
            "vision_tower": max(t.abs().max() for n, t in tensors.items() if "vision_tower" in n and "lora_B" in n),
            "projector": max(
                (t - base[n.removeprefix("base_model.model.model.")].float()).abs().max()
                for n, t in tensors.items()
                if "projector" in n
            ),
        }
    for rate, steps in moved.items():  # AdamW's first step is the learning rate
        assert steps["vision_tower"].item() == pytest.approx(rate, rel=0.05)
        assert steps["projector"].item() == pytest.approx(rate, rel=0.05)
        assert steps["language_model"].item() == pytest.approx(1e-3, rel=0.05)


def test_trained_parts_are_held_in_full_precision_over_a_16_bit_base(data, tiny_vision_base, tmp_path):
    settings = settings_of(vision=ALL, training={"max_steps": 1, "precision": "bf16"})
    curve, _ = train(data, tiny_vision_base, tmp_path, settings)
    assert {tensor.dtype for tensor in adapter_of(tmp_path).values()} == {torch.float32}
    assert curve


def test_qlora_quantizes_the_language_model_alone(data, tiny_vision_base, tmp_path):
    curve, _ = train(data, tiny_vision_base, tmp_path, settings_of("qlora", vision=ALL, training={"max_steps": 2}))
    assert len([row for row in curve if "loss" in row]) == 2
    assert parts_of(adapter_of(tmp_path)) == set(PARTS)


def test_full_training_leaves_a_plain_model_with_its_processor(data, tiny_vision_base, tmp_path):
    settings = settings_of("full", training={"max_steps": 2}, vision={"longest_edge": 84})
    (tmp_path / "dataset").symlink_to(data / "dataset")
    vision = vision_tokenizer(tiny_vision_base, data / "dataset", settings)
    tokenize_dataset(data / "dataset", tiny_vision_base, tmp_path / "tokens", settings["tokens"], vision)
    train(tmp_path, tiny_vision_base, tmp_path, settings)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "adapter")
    base = AutoModelForImageTextToText.from_pretrained(tiny_vision_base.parent)
    changed = {
        n for (n, a), b in zip(model.named_parameters(), base.parameters(), strict=True) if not torch.equal(a, b)
    }
    assert model.dtype == torch.bfloat16
    assert parts_of(changed) == {"language_model"}
    assert load_processor(tmp_path / "adapter" / "manifest.json").image_processor.size["longest_edge"] == 84


@pytest.mark.parametrize("wanted", ["all-linear", ["q_proj"], ["self_attn.q_proj"]])
def test_an_adapter_of_the_language_model_is_in_no_other_part(tiny_vision_base, wanted):
    model = AutoModelForImageTextToText.from_pretrained(tiny_vision_base.parent)
    pattern = re.compile(target_pattern(model, wanted, ["model.language_model"]))
    found = {name for name, _ in model.named_modules() if pattern.fullmatch(name)}
    layer = "model.language_model.layers.0"
    all_linear = {f"{layer}.self_attn.{n}_proj" for n in "qkvo"} | {
        f"{layer}.mlp.{n}_proj" for n in ("up", "down", "gate")
    }
    assert found == (all_linear if wanted == "all-linear" else {f"{layer}.self_attn.q_proj"})


@pytest.mark.parametrize("name", ["no_such_proj", "patch_conv"])
def test_modules_that_are_not_there_are_one_line(data, tiny_vision_base, tmp_path, name):
    settings = settings_of(lora={"target_modules": [name]}, vision={"train_vision_tower": True})
    with pytest.raises(UserError, match=f"no module of the language model is called '{name}'"):
        train(data, tiny_vision_base, tmp_path, settings)


def test_rows_of_a_text_run_and_packing_are_refused(data, tiny_vision_base, tmp_path):
    settings = settings_of()
    settings["tokens"]["packing"] = True
    with pytest.raises(UserError, match="rows with images can't be packed"):
        train(data, tiny_vision_base, tmp_path, settings)
    tokenize_dataset(make_dataset(tmp_path / "text"), tiny_vision_base, tmp_path / "tokens", settings["tokens"])
    settings["tokens"]["packing"] = False
    with pytest.raises(UserError, match=r"train\.arrow: has no column of images: it was made for another task"):
        train(tmp_path, tiny_vision_base, tmp_path, settings)


def test_the_step_takes_the_images_folder(data, tiny_vision_base, tmp_path):
    paths = {
        "--base": tiny_vision_base, "--checkpoints": tmp_path / "c", "--output": tmp_path / "adapter",
        "--curve": tmp_path / "curve.jsonl", "--facts": tmp_path / "facts.json",
    }  # fmt: skip
    words = [data / "tokens", *(word for pair in paths.items() for word in pair)]
    words += ["--settings", json.dumps(settings_of(training={"max_steps": 1}))]
    assert main([str(word) for word in words]) == 1
    assert main([str(word) for word in [*words, "--images", data / "dataset"]]) == 0
    assert read_json(tmp_path / "facts.json")["images"] == 12
