"""Phi-3, whose projections are fused: embedded, trained, merged, converted, and served as it was trained."""

import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from scripts.common.config.models import EmbeddedModel
from scripts.common.files import check_manifest, read_json
from scripts.gguf.check_parity import main as check_parity
from scripts.gguf.convert_to_gguf import convert_to_gguf
from scripts.model.build_embedded_model import build_embedded_model
from scripts.model.chat_templates import BUILT_IN, BUILT_IN_TEMPLATES
from scripts.train.merge_adapter import merge_adapter
from scripts.train.tokenize_conversations import main as tokenize
from scripts.train.train_model import main as train
from tests.support.gguf_files import conversion_settings
from tests.support.project import SENTENCES
from tests.support.training import make_dataset, run_settings

TINY = EmbeddedModel(layers=1, vocabulary=700, context=256)
PROJECTIONS = ["down_proj", "gate_up_proj", "o_proj", "qkv_proj"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The manifest of an embedded Phi-3."""
    folder = tmp_path_factory.mktemp("phi3")
    build_embedded_model(SENTENCES, folder / "base", "small", "phi3", TINY, BUILT_IN_TEMPLATES[BUILT_IN["phi3"]])
    return folder / "base" / "manifest.json"


def test_an_embedded_phi_3_is_one(base):
    assert check_manifest(base, hashes=True)["architecture"] == "phi3"
    names = load_file(base.parent / "model.safetensors").keys()
    assert {"model.layers.0.self_attn.qkv_proj.weight", "model.layers.0.mlp.gate_up_proj.weight"} <= names
    assert AutoModelForCausalLM.from_pretrained(base.parent).config.model_type == "phi3"


def test_the_tokens_of_its_chat_swallow_the_line_ends_after_them(base):
    tokenizer = AutoTokenizer.from_pretrained(base.parent)
    ids = tokenizer("<|user|>\nHi<|end|>\n<|assistant|>\n", add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["<|user|>", "H", "i", "<|end|>", "<|assistant|>"]


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_an_adapter_on_its_fused_projections_is_trained_merged_and_served_as_trained(
    base, converter_tools, tmp_path, method
):
    dataset, settings = make_dataset(tmp_path / "dataset"), run_settings(method, training={"max_steps": 2})
    words = [str(dataset), "--base", str(base), "--folder", str(tmp_path / "tokens")]
    assert tokenize([*words, "--settings", json.dumps(settings)]) == 0
    words = [tmp_path / "tokens", "--base", base, "--checkpoints", tmp_path / "checkpoints", "--output"]
    words += [tmp_path / "adapter", "--curve", tmp_path / "curve.jsonl", "--facts", tmp_path / "facts.json"]
    assert train([*map(str, words), "--settings", json.dumps(settings)]) == 0
    adapter, merged = tmp_path / "adapter" / "manifest.json", tmp_path / "merged"
    targets = read_json(adapter.parent / "adapter_config.json")["target_modules"]
    assert sorted(name.rpartition(".")[2] for name in targets) == PROJECTIONS
    merge_adapter(adapter, base, merged)
    theirs = AutoModelForCausalLM.from_pretrained(base.parent, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(theirs, adapter.parent).merge_and_unload().state_dict()
    ours, before = load_file(merged / "model.safetensors"), load_file(base.parent / "model.safetensors")
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight)
    for name in PROJECTIONS[1:]:
        place = next(key for key in ours if f".{name}." in key)
        assert not torch.equal(ours[place], before[place])
    gguf, report = tmp_path / "bf16.gguf", tmp_path / "parity.json"
    convert_to_gguf(merged, converter_tools, base, gguf, conversion_settings())
    words = [merged, gguf, "--test", dataset / "test.jsonl", "--output", report, "--threads", "2"]
    parity = {"parity": {"max_kl": 0.02, "prompts": 2}, "generation": {"system": "Be loud."}}
    assert check_parity([*map(str, words), "--settings", json.dumps(parity)]) == 0
    assert read_json(report)["modelfile"]["not_expressible"] == []
