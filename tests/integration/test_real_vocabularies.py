"""Llama 3 and Phi-3 on the way to GGUF: real tokenizers and templates on tiny random models, and fused weights."""

import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, Phi3Config, Phi3ForCausalLM

from scripts.common.chat_shape import shape_of_template
from scripts.common.files import check_manifest, read_json, write_manifest
from scripts.config.models import EmbeddedModel
from scripts.gguf.base_tokenizer import write_tokenizer
from scripts.gguf.check_parity import main as check_parity
from scripts.gguf.convert_to_gguf import convert_to_gguf
from scripts.gguf.fetch_converter import read_pin
from scripts.gguf.llama import open_gguf
from scripts.gguf.reader import read_gguf
from scripts.gguf.tokenizer_repairs import name_for_llama_cpp
from scripts.model.build_embedded_model import build_embedded_model
from scripts.model.chat_templates import BUILT_IN, BUILT_IN_TEMPLATES
from scripts.model.template_date import pin_template_date, pinned_template
from scripts.train.merge_adapter import merge_adapter
from tests.support.gguf_files import CONVERTER, conversion_settings, write_test_records
from tests.support.one_worker import one_worker_at_a_time
from tests.support.project import SENTENCES
from tests.support.real_vocabularies import NAMES, TEMPLATES, unpack_real_files, write_phi3_tokenizer
from tests.support.training import make_data, run_settings, train_in

PHI3 = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m['content'] + '<|end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"
)
SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2}
LLAMA_ROPE = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip


@pytest.fixture(scope="module")
def real_files(converter_archive, request):
    """The folder of the vocabularies and templates; unpacked once and kept in pytest's cache."""
    folder = request.config.cache.mkdir("real_files") / read_pin(CONVERTER).sha256[:12]
    with one_worker_at_a_time(folder):
        if not folder.is_dir():
            unpack_real_files(converter_archive, folder)
    return folder


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model").mkdir()
    return tmp_path / "model"


def converted(folder, tools, model: str):
    """Convert a model folder whose hub name is `model`; return the GGUF file."""
    manifest = write_manifest(folder, name="m", source="hub", license=None, revision=None)
    settings = conversion_settings()
    settings["model"] |= {"name": model}
    convert_to_gguf(folder, tools, manifest, folder.with_suffix(".gguf"), settings)
    return folder.with_suffix(".gguf")


def parity_of(folder, gguf, system: str | None = None) -> dict:
    """Return the report of the parity check, which must pass."""
    report, test = folder.with_name("parity.json"), write_test_records(folder.with_name("test.jsonl"))
    settings = {"parity": {"max_kl": 0.02, "prompts": 1}, "generation": {"system": system}}
    words = [folder, gguf, "--test", test, "--output", report, "--threads", "2", "--settings", json.dumps(settings)]
    assert check_parity([*map(str, words)]) == 0
    return read_json(report)


@pytest.mark.parametrize(
    ("template", "day", "opening"),
    [
        (TEMPLATES[0], None, "Today Date: 26 Jul 2024\n\n<|eot_id|>"),
        (TEMPLATES[1], None, "Today Date: 26 Jul 2024\n\n<|eot_id|>"),
        (TEMPLATES[1], "2025-03-17", "Today Date: 17 Mar 2025\n\n<|eot_id|>"),
        (TEMPLATES[2], "2025-03-17", "The current date is 2025-03-17."),
    ],
)
def test_the_templates_of_real_models_are_known_once_their_date_is_fixed(real_files, template, day, opening):
    pinned, _ = pinned_template((real_files / template).read_text(encoding="utf-8"), day)
    ends = ("<|begin_of_text|>", "<|eot_id|>") if "Llama" in template else ("<s>", "</s>")
    shape = shape_of_template(pinned, *ends)
    assert opening in shape.opening
    assert shape.system == "at_start"


def test_llama_3s_own_tokenizer_and_dated_template_pass_parity(real_files, converter_tools, folder):
    write_tokenizer(read_gguf(real_files / NAMES[0]), folder)
    settings = read_json(folder / "tokenizer_config.json") | {"eos_token": "<|eot_id|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text((real_files / TEMPLATES[1]).read_text(encoding="utf-8"))
    pin_template_date(folder, "2025-03-17")
    own = {"bos_token_id": 128000, "eos_token_id": 128009, "max_position_embeddings": 131072}
    config = LlamaConfig(**SMALL, **own, vocab_size=128256, num_key_value_heads=1, rope_parameters=LLAMA_ROPE)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    gguf = converted(folder, converter_tools, "Llama-3.1-8B-Instruct")
    with open_gguf(gguf, context=8, vocab_only=True) as model:
        assert model.metadata["tokenizer.ggml.pre"] == "llama-bpe"
    report = parity_of(folder, gguf)
    assert report["conversations"]["refused_by_both"] == []
    assert report["modelfile"]["equal"] > 20
    assert (report["shape"]["system"], report["shape"]["trims"]) == ("at_start", ["system", "user", "assistant"])
    assert "\nToday Date: 17 Mar 2025\n" in report["shape"]["opening"]
    assert report["eos"] == "<|eot_id|>"


@pytest.mark.parametrize("name", ["Phi-3-mini-4k-instruct", "mini-4k"])
def test_phi_3s_own_tokenizer_and_template_pass_parity_under_any_name(real_files, converter_tools, folder, name):
    write_phi3_tokenizer(real_files / NAMES[1], folder, PHI3)
    own = {"bos_token_id": 1, "eos_token_id": 32000, "pad_token_id": 32000, "sliding_window": 2047}
    context = {"max_position_embeddings": 4096, "original_max_position_embeddings": 4096}
    config = Phi3Config(**SMALL, **own, **context, vocab_size=32064, num_key_value_heads=2)
    Phi3ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    report = parity_of(folder, converted(folder, converter_tools, name))
    assert report["modelfile"]["not_expressible"] == []
    assert (report["shape"]["closing"], report["adds_bos"]) == ("<|endoftext|>", False)


def test_a_name_with_phi_3_is_changed_where_llama_cpp_would_draw_the_wrong_conclusion(tiny_base, caplog):
    plain = AutoTokenizer.from_pretrained(tiny_base.parent)
    assert name_for_llama_cpp("Phi 3 mini", plain) == "Phi 3 mini"
    assert not caplog.messages
    assert name_for_llama_cpp("better than PHI-3", plain) == "better than Phi 3"
    assert "general.name is 'better than Phi 3', not 'better than PHI-3'" in caplog.text


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The manifest of an embedded Phi-3."""
    folder, tiny = tmp_path_factory.mktemp("phi3") / "base", EmbeddedModel(layers=1, vocabulary=700, context=256)
    settings = {"architecture": "phi3", "embedded": tiny}
    build_embedded_model(SENTENCES, folder, "small", settings, BUILT_IN_TEMPLATES[BUILT_IN["phi3"]])
    return folder / "manifest.json"


def test_an_embedded_phi_3_is_one_whose_chat_tokens_swallow_the_line_ends_after_them(base):
    assert check_manifest(base, hashes=True)["architecture"] == "phi3"
    names = load_file(base.parent / "model.safetensors").keys()
    assert {"model.layers.0.self_attn.qkv_proj.weight", "model.layers.0.mlp.gate_up_proj.weight"} <= names
    assert AutoModelForCausalLM.from_pretrained(base.parent).config.model_type == "phi3"
    tokenizer = AutoTokenizer.from_pretrained(base.parent)
    ids = tokenizer("<|user|>\nHi<|end|>\n<|assistant|>\n", add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["<|user|>", "H", "i", "<|end|>", "<|assistant|>"]


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_an_adapter_on_its_fused_projections_is_trained_merged_and_served_as_trained(
    base, converter_tools, tmp_path, method
):
    settings = run_settings(method, training={"max_steps": 2})
    train_in(make_data(tmp_path, base, settings), base, tmp_path, settings)
    adapter, merged = tmp_path / "adapter/manifest.json", tmp_path / "merged"
    targets = read_json(adapter.parent / "adapter_config.json")["target_modules"]
    names = ["down_proj", "gate_up_proj", "o_proj", "qkv_proj"]
    assert sorted(name.rpartition(".")[2] for name in targets) == names
    merge_adapter(adapter, base, merged)
    theirs = AutoModelForCausalLM.from_pretrained(base.parent, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(theirs, adapter.parent).merge_and_unload().state_dict()
    ours, before = load_file(merged / "model.safetensors"), load_file(base.parent / "model.safetensors")
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight)
    for name in names[1:]:
        place = next(key for key in ours if f".{name}." in key)
        assert not torch.equal(ours[place], before[place])
    convert_to_gguf(merged, converter_tools, base, tmp_path / "bf16.gguf", conversion_settings())
    assert parity_of(merged, tmp_path / "bf16.gguf", system="Be loud.")["modelfile"]["not_expressible"] == []
