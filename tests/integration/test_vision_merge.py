"""A merged vision model equals base and adapter together, whichever names the base's files have for its tensors."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from scripts.common.errors import UserError
from scripts.common.files import check_manifest, write_manifest
from scripts.common.vision import load_image, load_processor, pixel_inputs
from scripts.train.merge_adapter import merge_adapter, names_in_files
from scripts.train.vision_training import target_pattern
from tests.support.vision import save_picture

LANGUAGE, BOTH = ["model.language_model"], ["model.language_model", "model.vision_tower"]
KINDS = {
    "language model": (LANGUAGE, {}),
    "dora": (LANGUAGE, {"use_dora": True}),
    "projector": (LANGUAGE, {"modules_to_save": ["multi_modal_projector"]}),
    "all": (BOTH, {"modules_to_save": ["multi_modal_projector"], "use_rslora": True}),
}


@pytest.fixture(scope="module")
def bases(tiny_vision_base, tmp_path_factory):
    """The same model with the tensors' names of the hub and with those of the loaded model."""
    folder = tmp_path_factory.mktemp("bases") / "loaded"
    shutil.copytree(tiny_vision_base.parent, folder)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    model.save_pretrained(folder, save_original_format=False)
    return {"hub": tiny_vision_base, "loaded": write_manifest(folder, name="tiny", id=None, revision=None)}


def random_adapter(base, folder, parts, longest_edge=None, **options):
    """Save an adapter whose weights are random, as a vision run leaves it, and return its manifest."""
    model = AutoModelForImageTextToText.from_pretrained(base.parent, dtype=torch.float32)
    config = {"r": 4, "lora_alpha": 6, "target_modules": target_pattern(model, "all-linear", parts), **options}
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **config))
    torch.manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_magnitude" in name:
                parameter.mul_(1.2)
            elif "lora_" in name:
                parameter.normal_(0, 0.2)
            elif parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * parameter.std())
    model.save_pretrained(folder)
    return write_manifest(folder, base="tiny", method="lora", task="vision", longest_edge=longest_edge)


def logits(model, base, folder):
    """Return the logits of a prompt with two images of different size."""
    processor = load_processor(base)
    names = [save_picture(folder, "Rapport"), save_picture(folder, "Le chat", (50, 110))]
    images = [load_image(folder, name) for name in names]
    inputs = processor(images=images, text="<s>[INST][IMG] et [IMG][/INST]", return_tensors="pt")
    with torch.no_grad():
        return model.eval()(**inputs).logits


@pytest.mark.parametrize("layout", ["hub", "loaded"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_merged_model_answers_as_base_and_adapter(bases, tmp_path, kind, layout):
    parts, options = KINDS[kind]
    base = bases[layout]
    adapter = random_adapter(bases["hub"], tmp_path / "adapter", parts, **options)
    merge_adapter(adapter, base, tmp_path / "merged")
    ours = AutoModelForImageTextToText.from_pretrained(tmp_path / "merged")
    plain = AutoModelForImageTextToText.from_pretrained(base.parent, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(plain, adapter.parent).merge_and_unload()
    for (name, tensor), (same, other) in zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True):
        assert name == same
        assert torch.equal(tensor, other.to(torch.bfloat16)), name
    again = AutoModelForImageTextToText.from_pretrained(base.parent, dtype=torch.float32)
    expected = logits(PeftModel.from_pretrained(again, adapter.parent), base, tmp_path)
    plain = AutoModelForImageTextToText.from_pretrained(base.parent, dtype=torch.float32)
    changed = (expected - logits(plain, base, tmp_path)).abs().mean()
    error = (logits(ours.float(), base, tmp_path) - expected).abs().mean()
    assert error < 0.02 * changed
    assert sorted(names_in_files(tmp_path / "merged")) == sorted(names_in_files(base.parent))


def test_a_base_in_several_files_with_both_namings_is_refused(bases, tmp_path):
    folder = shutil.copytree(bases["hub"].parent, tmp_path / "base")
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {"model.language_model.norm.weight": tensors["language_model.model.norm.weight"]},
        folder / "more.safetensors",
        {"format": "pt"},
    )
    base = write_manifest(folder, name="tiny")
    with pytest.raises(UserError, match=r"has more than one tensor for 'model\.language_model\.norm\.weight'"):
        merge_adapter(random_adapter(bases["hub"], tmp_path / "a", LANGUAGE), base, tmp_path / "merged")


def test_the_merged_folder_scales_images_as_training_did(tiny_vision_base, tmp_path):
    adapter = random_adapter(tiny_vision_base, tmp_path / "a", LANGUAGE, longest_edge=84)
    merge_adapter(adapter, tiny_vision_base, tmp_path / "merged")
    picture = load_image(tmp_path, save_picture(tmp_path, "Rapport", (400, 300)))
    ours = load_processor(tmp_path / "merged" / "manifest.json")
    trained = load_processor(tiny_vision_base, 84)
    for key in ("pixel_values", "image_sizes"):
        assert torch.equal(pixel_inputs(ours, [picture])[key], pixel_inputs(trained, [picture])[key])
    manifest = check_manifest(tmp_path / "merged" / "manifest.json", hashes=True)
    assert (manifest["task"], manifest["longest_edge"]) == ("vision", 84)


def test_everything_else_is_the_bases_byte_for_byte(tiny_vision_base, tmp_path):
    merge_adapter(random_adapter(tiny_vision_base, tmp_path / "a", LANGUAGE), tiny_vision_base, tmp_path / "merged")
    for path in tiny_vision_base.parent.iterdir():
        if path.name not in ("model.safetensors", "manifest.json", ".manifest.json.sha256"):
            assert (tmp_path / "merged" / path.name).read_bytes() == path.read_bytes(), path.name


def test_an_adapter_of_another_base_is_refused(tiny_vision_base, tmp_path):
    adapter = random_adapter(tiny_vision_base, tmp_path / "a", LANGUAGE)
    path = adapter.parent / "adapter_model.safetensors"
    save_file({name.replace("layers.0", "layers.7"): tensor for name, tensor in load_file(path).items()}, path)
    write_manifest(adapter.parent, base="tiny", method="lora", task="vision", longest_edge=None)
    with pytest.raises(UserError, match=r"changes weights that the base has not: model\.language_model\.layers\.7"):
        merge_adapter(adapter, tiny_vision_base, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_another_module_trained_in_full_is_refused(tiny_vision_base, tmp_path):
    adapter = random_adapter(tiny_vision_base, tmp_path / "a", LANGUAGE)
    config = json.loads((adapter.parent / "adapter_config.json").read_text()) | {"modules_to_save": ["embed_tokens"]}
    (adapter.parent / "adapter_config.json").write_text(json.dumps(config))
    write_manifest(adapter.parent, base="tiny", method="lora", task="vision", longest_edge=None)
    with pytest.raises(UserError, match=r"modules_to_save is \['embed_tokens'\]; only plain LoRA"):
        merge_adapter(adapter, tiny_vision_base, tmp_path / "merged")
