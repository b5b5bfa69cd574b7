"""Base models: embedded ones, which folders are taken, what is kept of them, and what of them is mended.

A chat template that asks for the date writes one fixed date, everywhere the same; Tekken tokenizers that were published
with another model's pattern cut text as the model was made to read it.
"""

import json
import os
import re
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from scripts.common.chat_template import render_template
from scripts.common.errors import UserError
from scripts.common.files import check_manifest, read_json, write_json
from scripts.config.models import EmbeddedModel
from scripts.model.build_embedded_model import build_embedded_model
from scripts.model.chat_templates import BUILT_IN, BUILT_IN_TEMPLATES
from scripts.model.link_local_model import link_local_model
from scripts.model.tekken_pattern import TEKKEN, WRONG
from scripts.model.template_date import OWN_DEFAULT, pin_template_date, pinned_template, template_of_folder
from tests.support.chat_templates import LLAMA, MISTRAL, template_text
from tests.support.project import ROOT, SENTENCES
from tests.support.tiny_model import without_manifest

SETTINGS = {"architecture": "mistral", "license": "MIT", "trust_remote_code": False}
TINY = EmbeddedModel(layers=1, vocabulary=700)


@pytest.fixture
def source(tiny_base, tmp_path):
    """A model folder as a user has it."""
    return without_manifest(tiny_base, tmp_path / "source")


@pytest.mark.parametrize("architecture", ["mistral", "llama"])
def test_an_embedded_model_is_a_plain_model_folder(tmp_path, architecture):
    settings = {"architecture": architecture, "embedded": TINY}
    build_embedded_model(SENTENCES, tmp_path / "m", "m", settings, BUILT_IN_TEMPLATES[BUILT_IN[architecture]])
    facts = check_manifest(tmp_path / "m/manifest.json", hashes=True)
    model, tokenizer = (kind.from_pretrained(tmp_path / "m") for kind in (AutoModelForCausalLM, AutoTokenizer))
    assert facts["source"] == "embedded"
    assert model.config.model_type == architecture
    assert facts["parameters"] == sum(p.numel() for p in model.parameters())
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    text = "L'été à Évian : « Một cơn bão » ⚽\n\n  deux espaces"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
    turns = [{"role": "user", "content": "But ?"}, {"role": "assistant", "content": "Oui."}]
    row = tokenizer.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
    trained = [token for token, use in zip(row["input_ids"], row["assistant_masks"], strict=True) if use]
    assert tokenizer.decode(trained).strip() == f"Oui.{tokenizer.eos_token}"


def test_an_embedded_mistral3_has_a_processor_and_the_same_bytes_on_every_kind_of_cpu(tmp_path):
    template = BUILT_IN_TEMPLATES["mistral3"]
    build_embedded_model(SENTENCES, tmp_path / "m", "m", {"architecture": "mistral3", "embedded": {}}, template)
    facts = check_manifest(tmp_path / "m/manifest.json", hashes=True)
    for kind in ("default", "avx2"):
        words = [sys.executable, "-m", "scripts.model.build_embedded_model", SENTENCES, "--name", "m"]
        words += ["--folder", tmp_path / kind, "--chat-template", template]
        words += ["--settings", json.dumps({"architecture": "mistral3", "license": None, "embedded": {}})]
        environment = {**os.environ, "ATEN_CPU_CAPABILITY": kind}
        subprocess.run(list(map(str, words)), cwd=ROOT, env=environment, check=True, capture_output=True)
        assert check_manifest(tmp_path / kind / "manifest.json", hashes=True) == facts
    model, processor = (kind.from_pretrained(tmp_path / "m") for kind in (AutoModelForImageTextToText, AutoProcessor))
    assert type(model).__name__ == "Mistral3ForConditionalGeneration"
    assert type(processor).__name__ == "PixtralProcessor"
    assert (processor.patch_size, processor.spatial_merge_size) == (14, 2)
    assert model.config.image_token_id == processor.image_token_id
    assert facts["parameters"] == sum(p.numel() for p in model.parameters())


def test_a_local_model_is_linked_not_copied_and_nothing_of_an_earlier_one_is_left(source, tmp_path):
    link_local_model(source, tmp_path / "m", "mine", SETTINGS, BUILT_IN_TEMPLATES["chatml"])
    assert AutoTokenizer.from_pretrained(tmp_path / "m").chat_template == template_text("chatml")
    assert (source / "chat_template.jinja").read_text() != template_text("chatml")
    (source / "model.safetensors").rename(source / "other.safetensors")
    link_local_model(source, tmp_path / "m", "mine", SETTINGS)
    assert (tmp_path / "m/other.safetensors").is_symlink()
    facts = check_manifest(tmp_path / "m/manifest.json", hashes=True)
    assert (facts["source"], facts["name"], facts["license"], facts["template_date"]) == ("path", "mine", "MIT", None)
    assert [name for name in facts["files"] if name.endswith(".safetensors")] == ["other.safetensors"]
    assert AutoTokenizer.from_pretrained(tmp_path / "m").chat_template != template_text("chatml")
    with pytest.raises(UserError, match="nowhere: is not a folder; name the folder of a Hugging Face model"):
        link_local_model(tmp_path / "nowhere", tmp_path / "m", "mine", SETTINGS)


def written(template: str) -> str:
    """Return what a template writes today."""
    return render_template(template, [{"role": "user", "content": "Which day is it?"}], "<s>", "</s>")


@pytest.mark.parametrize(("day", "line"), [(None, "Today: 26 Jul 2024"), ("2025-03-07", "Today: 07 Mar 2025")])
def test_the_date_is_the_configured_one_or_the_templates_default_and_nothing_else_changes(day, line):
    pinned, date = pinned_template(LLAMA, day)
    assert date == (day or OWN_DEFAULT)
    before, _, after = re.split(r"(Today: .*)", written(LLAMA))
    assert written(pinned) == before + line + after


def test_a_template_without_a_date_is_left_as_it_is(caplog):
    assert pinned_template("{{ messages[0].content }}") == ("{{ messages[0].content }}", None)
    assert caplog.text == ""
    assert pinned_template("{{ messages[0].content }}", "2025-03-07") == ("{{ messages[0].content }}", None)
    assert "template_date has no effect" in caplog.text


@pytest.mark.parametrize(
    ("template", "day", "line"),
    [
        (MISTRAL, None, "has no default for it; set 'template_date' under the model"),
        ("{% set day = '%d' %}{{ strftime_now(day) }}", "2025-03-07", "can't be replaced by a fixed one; write"),
        ("{% set now = strftime_now %}{{ now('%d') }}", "2025-03-07", "can't be replaced by a fixed one; write"),
    ],
)
def test_a_date_without_a_default_or_asked_for_in_another_way_is_refused(tmp_path, template, day, line):
    (tmp_path / "chat_template.jinja").write_text(template)
    with pytest.raises(UserError, match=line):
        pin_template_date(tmp_path, day)


@pytest.mark.parametrize(
    "guard", ["strftime_now is not defined", "not strftime_now is defined", "strftime_now is undefined"]
)
def test_every_usual_guard_is_understood(guard):
    template = f"{{% if {guard} %}}never{{% else %}}{{{{ strftime_now(format='%A') }}}}{{% endif %}}"
    assert written(pinned_template(template, None)[0]) == "never"
    assert written(pinned_template(template, "2025-03-07")[0]) == "Friday"


LISTED = [{"name": "tool_use", "template": "{{ 1 }}"}, {"name": "default", "template": LLAMA}]


@pytest.mark.parametrize(
    ("place", "template"),
    [("chat_template.jinja", LLAMA), ("chat_template.json", LLAMA), ("tokenizer_config.json", LISTED)],
)
def test_a_model_is_taken_with_a_fixed_date_wherever_its_template_stands(source, tmp_path, place, template):
    (source / "chat_template.jinja").unlink()
    if place.endswith(".json"):
        before = read_json(source / place) if (source / place).exists() else {}
        template = json.dumps({**before, "chat_template": template})
    (source / place).write_text(template)
    link_local_model(source, tmp_path / "m", "mine", {**SETTINGS, "template_date": "2025-03-07"})
    assert check_manifest(tmp_path / "m/manifest.json", hashes=True)["template_date"] == "2025-03-07"
    assert "Today: 07 Mar 2025\n" in written(AutoTokenizer.from_pretrained(tmp_path / "m").chat_template)
    assert template_of_folder(source) == LLAMA


def test_an_embedded_model_has_the_date_of_its_template(tmp_path):
    (tmp_path / "dated.jinja").write_text(LLAMA)
    settings = {"architecture": "llama", "embedded": TINY}
    build_embedded_model(SENTENCES, tmp_path / "e", "e", settings, tmp_path / "dated.jinja")
    assert check_manifest(tmp_path / "e/manifest.json")["template_date"] == OWN_DEFAULT
    assert "Today: 26 Jul 2024\n" in written(AutoTokenizer.from_pretrained(tmp_path / "e").chat_template)


NAME = "O'Donnell, l'ÉCOLE, iPhone, 2024"
TEKKENS_WORDS = ["O", "'Donnell", ",", " l", "'ÉCOLE", ",", " i", "Phone", ",", " ", "2", "0", "2", "4"]


def give_tekken(source, pattern, turn="[INST]"):
    """Give a model folder a tokenizer that splits by a pattern, in the layout of Tekken's."""
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    tokenizer = read_json(source / "tokenizer.json")
    tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split]}
    next(token for token in tokenizer["added_tokens"] if token["content"] == "[INST]")["content"] = turn
    write_json(source / "tokenizer.json", tokenizer)
    write_json(source / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"})


def words(folder):
    """Return the words into which a folder's tokenizer cuts a text before it looks for pieces."""
    split = AutoTokenizer.from_pretrained(folder).backend_tokenizer.pre_tokenizer
    return [NAME[start:end] for _, (start, end) in split.pre_tokenize_str(NAME)]


def test_the_pattern_is_mended_for_everyone_who_loads_the_folder(source, tmp_path):
    give_tekken(source, WRONG)
    link_local_model(source, tmp_path / "m", "mine", SETTINGS)
    assert words(tmp_path / "m") == TEKKENS_WORDS
    assert check_manifest(tmp_path / "m/manifest.json", hashes=True)["mended"] == ["tokenizer.json"]
    assert read_json(tmp_path / "m/tokenizer_config.json")["fix_mistral_regex"] is True
    assert "'D" in words(source)


@pytest.mark.parametrize("case", ["right pattern", "another model", "another tokenizer"])
def test_nothing_else_is_touched(source, tmp_path, case):
    turn = "<turn>" if case == "another tokenizer" else "[INST]"
    give_tekken(source, TEKKEN if case == "right pattern" else WRONG, turn)
    if case == "another model":
        write_json(source / "config.json", read_json(source / "config.json") | {"model_type": "llama"})
    link_local_model(source, tmp_path / "m", "mine", SETTINGS)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "m" / name).read_bytes() == (source / name).read_bytes()
    assert "mended" not in check_manifest(tmp_path / "m/manifest.json")
