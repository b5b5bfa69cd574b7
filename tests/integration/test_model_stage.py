"""Base models: which folders are taken, what is kept of them, and the embedded ones."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from scripts.common.config.models import EmbeddedModel
from scripts.common.errors import UserError
from scripts.common.files import check_manifest
from scripts.model.build_embedded_model import build_embedded_model
from scripts.model.chat_templates import BUILT_IN, BUILT_IN_TEMPLATES, template_text
from scripts.model.link_local_model import link_local_model
from scripts.model.safetensors_files import count_parameters
from tests.support.project import ROOT, SENTENCES

SETTINGS = {"architecture": "mistral", "license": "MIT", "trust_remote_code": False}
MISTRAL = BUILT_IN_TEMPLATES["mistral"]
TINY = EmbeddedModel(layers=1, vocabulary=700)


@pytest.fixture
def source(tiny_base, tmp_path):
    return shutil.copytree(tiny_base.parent, tmp_path / "source", ignore=shutil.ignore_patterns("manifest.json"))


@pytest.mark.parametrize("architecture", ["mistral", "llama"])
def test_an_embedded_model_is_a_plain_model_folder(tmp_path, architecture):
    build_embedded_model(SENTENCES, tmp_path / "m", "m", architecture, TINY, BUILT_IN_TEMPLATES[BUILT_IN[architecture]])
    facts = check_manifest(tmp_path / "m" / "manifest.json", hashes=True)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    assert facts["source"] == "embedded"
    assert model.config.model_type == architecture
    assert facts["parameters"] == sum(p.numel() for p in model.parameters())
    text = "L'été à Évian : « Một cơn bão » ⚽\n\n  deux espaces"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


@pytest.mark.parametrize("architecture", ["mistral", "llama"])
def test_the_template_marks_the_assistants_tokens(tmp_path, architecture):
    build_embedded_model(SENTENCES, tmp_path / "m", "m", architecture, TINY, BUILT_IN_TEMPLATES[BUILT_IN[architecture]])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    turns = [{"role": "user", "content": "But ?"}, {"role": "assistant", "content": "Oui."}]
    row = tokenizer.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
    trained = [token for token, use in zip(row["input_ids"], row["assistant_masks"], strict=True) if use]
    assert tokenizer.decode(trained).strip() == f"Oui.{tokenizer.eos_token}"


def test_an_embedded_model_has_the_same_bytes_on_every_kind_of_cpu(tmp_path):
    kinds = ("default", "avx2", "avx512")
    for kind in kinds:
        words = [sys.executable, "-m", "scripts.model.build_embedded_model", SENTENCES, "--name", "m"]
        words += ["--folder", tmp_path / kind, "--chat-template", BUILT_IN_TEMPLATES["mistral3"]]
        words += ["--settings", json.dumps({"architecture": "mistral3", "license": None, "embedded": {}})]
        environment = {**os.environ, "ATEN_CPU_CAPABILITY": kind}
        subprocess.run(list(map(str, words)), cwd=ROOT, env=environment, check=True, capture_output=True)
    first, *others = (check_manifest(tmp_path / kind / "manifest.json", hashes=True) for kind in kinds)
    assert others == [first, first]


def test_an_embedded_models_weights_are_fp32_and_its_logits_have_a_deviation_of_about_one(tmp_path):
    build_embedded_model(SENTENCES, tmp_path / "m", "m", "mistral", TINY, MISTRAL)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    with torch.no_grad():
        logits = model(torch.arange(300, 400).unsqueeze(0)).logits
    assert 0.5 < logits.std() < 2


def test_a_local_model_is_linked_not_copied(source, tmp_path):
    link_local_model(source, tmp_path / "m", "mine", SETTINGS)
    assert (tmp_path / "m" / "model.safetensors").is_symlink()
    facts = check_manifest(tmp_path / "m" / "manifest.json", hashes=True)
    assert (facts["source"], facts["name"], facts["license"]) == ("path", "mine", "MIT")
    assert torch.is_tensor(next(AutoModelForCausalLM.from_pretrained(tmp_path / "m").parameters()))


def test_the_configured_chat_template_takes_the_models_place(source, tmp_path):
    link_local_model(source, tmp_path / "m", "mine", SETTINGS, BUILT_IN_TEMPLATES["chatml"])
    assert AutoTokenizer.from_pretrained(tmp_path / "m").chat_template == template_text("chatml")
    assert (source / "chat_template.jinja").read_text() != template_text("chatml")


def test_pickled_weights_are_refused(source, tmp_path):
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"has no \.safetensors file, only pytorch_model\.bin, which can hide code"):
        link_local_model(source, tmp_path / "m", "mine", SETTINGS)


def test_a_model_that_needs_code_of_its_own_is_refused(source, tmp_path):
    config = json.loads((source / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoModelForCausalLM": "modeling_own.Own"}}
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"needs Python code of its own .* 'trust_remote_code: true'"):
        link_local_model(source, tmp_path / "m", "mine", SETTINGS)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="nowhere: is no folder; name the folder of a Hugging Face model"):
        link_local_model(tmp_path / "nowhere", tmp_path / "m", "mine", SETTINGS)


def test_a_file_that_is_no_safetensors_is_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(UserError, match="is no safetensors file"):
        count_parameters(tmp_path / "model.safetensors")


def test_nothing_of_an_earlier_model_is_left_in_the_folder(source, tmp_path):
    link_local_model(source, tmp_path / "m", "mine", SETTINGS, BUILT_IN_TEMPLATES["chatml"])
    (source / "model.safetensors").rename(source / "other.safetensors")
    link_local_model(source, tmp_path / "m", "mine", SETTINGS)
    facts = check_manifest(tmp_path / "m" / "manifest.json", hashes=True)
    assert [name for name in facts["files"] if name.endswith(".safetensors")] == ["other.safetensors"]
    assert AutoTokenizer.from_pretrained(tmp_path / "m").chat_template != template_text("chatml")
