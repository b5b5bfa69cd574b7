"""A merged model equals the one that PEFT merges, for each kind of LoRA."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from scripts.common.errors import UserError
from scripts.common.files import write_manifest
from scripts.train.merge_adapter import merge_adapter

KINDS = {
    "lora": {},
    "rank-stabilised": {"use_rslora": True},
    "dora": {"use_dora": True},
    "few": {"target_modules": ["q_proj"]},
}


def random_adapter(base, folder, **options):
    """Save an adapter whose weights are random, and return its manifest."""
    model = AutoModelForCausalLM.from_pretrained(base.parent, dtype=torch.float32)
    config = {"r": 4, "lora_alpha": 6, "target_modules": "all-linear", **options}
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **config))
    torch.manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_magnitude" in name:
                parameter.mul_(1.2)
            elif "lora_" in name:
                parameter.normal_(0, 0.2)
    model.save_pretrained(folder)
    return write_manifest(folder, base="tiny", method="lora")


@pytest.mark.parametrize("kind", KINDS)
def test_merging_equals_pefts_own_merge(tiny_base, tmp_path, kind):
    adapter = random_adapter(tiny_base, tmp_path / "adapter", **KINDS[kind])
    merge_adapter(adapter, tiny_base, tmp_path / "merged")
    ours = load_file(tmp_path / "merged" / "model.safetensors")
    base = AutoModelForCausalLM.from_pretrained(tiny_base.parent, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(base, adapter.parent).merge_and_unload().state_dict()
    original = load_file(tiny_base.parent / "model.safetensors")
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor.to(torch.bfloat16)), name
    assert not torch.equal(
        ours["model.layers.0.self_attn.q_proj.weight"], original["model.layers.0.self_attn.q_proj.weight"]
    )


def test_tokenizer_and_configuration_are_the_bases_byte_for_byte(tiny_base, tmp_path):
    merge_adapter(random_adapter(tiny_base, tmp_path / "adapter"), tiny_base, tmp_path / "merged")
    for name in ("tokenizer.model", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "config.json"):
        assert (tmp_path / "merged" / name).read_bytes() == (tiny_base.parent / name).read_bytes()


def test_a_base_in_several_files_is_merged_file_by_file(tiny_base, tmp_path):
    split = tmp_path / "split"
    shutil.copytree(tiny_base.parent, split)
    tensors = load_file(split / "model.safetensors")
    names = sorted(tensors)
    (split / "model.safetensors").unlink()
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, split / file, {"format": "pt"})
    places = {name: file for file, part in parts.items() for name in part}
    (split / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    base = write_manifest(split, name="tiny", id=None, revision=None)
    adapter = random_adapter(tiny_base, tmp_path / "adapter")
    merge_adapter(adapter, base, tmp_path / "merged")
    merge_adapter(adapter, tiny_base, tmp_path / "whole")
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "whole").state_dict()
    in_parts = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").state_dict()
    assert all(torch.equal(whole[name], in_parts[name]) for name in whole)


def test_an_adapter_of_another_base_is_refused(tiny_base, tmp_path):
    adapter = random_adapter(tiny_base, tmp_path / "adapter")
    tensors = load_file(adapter.parent / "adapter_model.safetensors")
    other = {name.replace("layers.0", "layers.7"): tensor for name, tensor in tensors.items()}
    save_file(other, adapter.parent / "adapter_model.safetensors")
    write_manifest(adapter.parent, base="tiny", method="lora")
    with pytest.raises(UserError, match=r"changes weights that the base has not: model\.layers\.7"):
        merge_adapter(adapter, tiny_base, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_an_adapter_that_is_no_plain_lora_is_refused(tiny_base, tmp_path):
    adapter = random_adapter(tiny_base, tmp_path / "adapter", modules_to_save=["lm_head"], target_modules=["q_proj"])
    with pytest.raises(UserError, match="modules_to_save is \\['lm_head'\\]; only plain LoRA adapters can be merged"):
        merge_adapter(adapter, tiny_base, tmp_path / "merged")


def test_a_damaged_base_is_named(tiny_base, tmp_path):
    adapter = random_adapter(tiny_base, tmp_path / "adapter")
    base = tmp_path / "base"
    shutil.copytree(tiny_base.parent, base)
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"model\.safetensors: has .* bytes, not"):
        merge_adapter(adapter, base / "manifest.json", tmp_path / "merged")
