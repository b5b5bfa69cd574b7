"""Training on rows with images: what learns and what doesn't, its learning rates, and what is refused."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from scripts.common.errors import UserError
from scripts.common.files import check_manifest, read_json
from scripts.common.vision import load_processor
from scripts.train.batches import load_rows
from scripts.train.vision_training import PICTURES, collate_with_images
from tests.support.training import make_data, run_settings, train_in, train_step

ALL = {"train_projector": True, "train_vision_tower": True}
PARTS = ("language_model", "vision_tower", "multi_modal_projector")
CONSTANT = {"scheduler": "constant", "warmup_ratio": 0.0}


def settings_of(method="lora", **sections):
    return run_settings(method, task="vision", **sections | {"training": {"epochs": 1, **sections.get("training", {})}})


@pytest.fixture(scope="module")
def data(tiny_vision_base, tmp_path_factory) -> Path:
    """A folder with a small dataset of pictures and its rows."""
    return make_data(tmp_path_factory.mktemp("data"), tiny_vision_base, settings_of())


@pytest.fixture
def train(data, tiny_vision_base, tmp_path):
    """A function that trains and returns the curve and the facts; what is trained is in tmp_path/adapter."""
    return lambda *words, **sections: train_in(data, tiny_vision_base, tmp_path, settings_of(*words, **sections))


def adapter_of(folder) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter/adapter_model.safetensors")


def parts_of(names) -> set[str]:
    return {part for name in names for part in PARTS if f".{part}." in name}


def test_training_lowers_the_loss_and_counts_the_images(data, train, tmp_path):
    curve, facts = train(training={"epochs": 6, "learning_rate": 5e-3})
    losses = [row["loss"] for row in curve if "loss" in row]
    assert losses[-1] < losses[0]
    assert any("eval_loss" in row for row in curve)
    assert facts["images"] == 12
    ids = load_rows(data / "tokens", "train")["input_ids"]
    assert facts["image_tokens"] == sum(row.count(7) + row.count(8) + row.count(9) for row in ids)
    assert facts["trained_parts"] == ["model.language_model"]
    manifest = check_manifest(tmp_path / "adapter/manifest.json")
    assert (manifest["task"], manifest["longest_edge"]) == ("vision", None)


@pytest.mark.parametrize(
    ("vision", "parts"),
    [
        ({}, {"language_model"}),
        ({"train_projector": True}, {"language_model", "multi_modal_projector"}),
        ({"train_vision_tower": True}, {"language_model", "vision_tower"}),
    ],
)
def test_only_the_wanted_parts_are_trained_and_a_frozen_tower_has_no_backward_pass(
    train, tiny_vision_base, tmp_path, monkeypatch, vision, parts
):
    needs_gradients, load = [], AutoModelForImageTextToText.from_pretrained

    def load_with_hook(*arguments, **options):
        model = load(*arguments, **options)
        layer = model.model.vision_tower.transformer.layers[0]
        layer.register_forward_hook(lambda module, inputs, output: needs_gradients.append(output.requires_grad))
        return model

    monkeypatch.setattr(AutoModelForImageTextToText, "from_pretrained", load_with_hook)
    training = {"max_steps": 2, "gradient_checkpointing": len(parts) == 1, "precision": "bf16", **CONSTANT}
    train(vision=vision, training=training)
    assert needs_gradients
    assert any(needs_gradients) == ("vision_tower" in parts)
    tensors, base = adapter_of(tmp_path), load_file(tiny_vision_base.parent / "model.safetensors")
    assert parts_of(tensors) == parts
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    for name, tensor in tensors.items():
        if "multi_modal_projector" in name:
            assert not torch.equal(tensor, base[name.removeprefix("base_model.model.model.")].float()), name
        elif name.endswith("lora_B.weight"):
            assert tensor.abs().max() > 0, name


def test_the_adapter_loads_with_plain_peft_and_changes_the_answers(data, train, tiny_vision_base, tmp_path):
    train("qlora", vision=ALL, training={"learning_rate": 1e-2})
    assert parts_of(adapter_of(tmp_path)) == set(PARTS)
    row = load_rows(data / "tokens", "train")[0]
    inputs = collate_with_images([{**row, PICTURES: row["images"]}], load_processor(tiny_vision_base), data / "dataset")
    model = AutoModelForImageTextToText.from_pretrained(tiny_vision_base.parent, dtype=torch.float32).eval()
    with torch.no_grad():
        before = model(**inputs).logits
        after = PeftModel.from_pretrained(model, tmp_path / "adapter").eval()(**inputs).logits
    assert not torch.allclose(before, after, atol=1e-2)


def test_each_part_learns_at_its_own_rate(train, tiny_vision_base, tmp_path):
    vision = {**ALL, "projector_learning_rate": 1e-5, "vision_learning_rate": 1e-4}
    train(vision=vision, training={"max_steps": 1, "weight_decay": 0.0, **CONSTANT})
    base = load_file(tiny_vision_base.parent / "model.safetensors")
    moved = dict.fromkeys(PARTS, 0.0)
    for name, tensor in adapter_of(tmp_path).items():
        [part] = parts_of([name])
        if part == "multi_modal_projector":
            tensor = tensor - base[name.removeprefix("base_model.model.model.")].float()
        if part == "multi_modal_projector" or "lora_B" in name:
            moved[part] = max(moved[part], tensor.abs().max().item())
    # AdamW's first step is the learning rate.
    expected = {"language_model": 1e-3, "vision_tower": 1e-4, "multi_modal_projector": 1e-5}
    assert moved == pytest.approx(expected, rel=0.05)


def test_full_training_leaves_a_plain_model_with_its_processor(tiny_vision_base, tmp_path):
    settings = settings_of("full", training={"max_steps": 2}, vision={"longest_edge": 84})
    train_in(make_data(tmp_path, tiny_vision_base, settings), tiny_vision_base, tmp_path, settings)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "adapter")
    base = AutoModelForImageTextToText.from_pretrained(tiny_vision_base.parent)
    pairs = zip(model.named_parameters(), base.parameters(), strict=True)
    assert model.dtype == torch.bfloat16
    assert parts_of(name for (name, new), old in pairs if not torch.equal(new, old)) == {"language_model"}
    assert load_processor(tmp_path / "adapter/manifest.json").image_processor.size["longest_edge"] == 84


def test_only_the_named_modules_of_the_language_model_are_trained(train, tmp_path):
    # The vision tower has modules that end like the first.
    train(lora={"target_modules": ["q_proj", "self_attn.k_proj"]}, training={"max_steps": 1})
    place = "base_model.model.model.language_model.layers.0.self_attn"
    names = {f"{place}.{module}_proj.lora_{part}.weight" for module in "qk" for part in "AB"}
    assert adapter_of(tmp_path).keys() == names


@pytest.mark.parametrize("name", ["no_such_proj", "patch_conv"])
def test_modules_that_are_not_there_are_one_line(train, name):
    with pytest.raises(UserError, match=f"no module of the language model is called '{name}'"):
        train(lora={"target_modules": [name]}, vision={"train_vision_tower": True})


def test_the_step_needs_the_folder_of_the_images(data, tiny_vision_base, tmp_path, capfd):
    settings = settings_of(training={"max_steps": 1})
    assert train_step(data, tiny_vision_base, tmp_path, settings) == 1
    assert "a vision run needs the folder of its images; add --images" in capfd.readouterr().err
    assert train_step(data, tiny_vision_base, tmp_path, settings, "--images", data / "dataset") == 0
    assert read_json(tmp_path / "training.json")["images"] == 12
