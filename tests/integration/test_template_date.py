"""A chat template that asks for the date writes one fixed date, everywhere the same."""

import json
import shutil

import pytest
from transformers import AutoTokenizer

from scripts.common.chat_shape import shape_of_template
from scripts.common.chat_template import render_template
from scripts.common.config.models import EmbeddedModel
from scripts.common.errors import UserError
from scripts.common.files import check_manifest
from scripts.model.build_embedded_model import build_embedded_model
from scripts.model.link_local_model import link_local_model
from scripts.model.template_date import OWN_DEFAULT, pin_template_date, pinned_template, template_of_folder
from tests.support.chat_templates import LLAMA, MISTRAL
from tests.support.project import SENTENCES

SETTINGS = {"architecture": "llama", "license": None, "trust_remote_code": False}
MESSAGES = [{"role": "user", "content": "Which day is it?"}]


def written(template: str) -> str:
    """Return what a template writes today."""
    return render_template(template, MESSAGES, "<s>", "</s>")


@pytest.mark.parametrize(("day", "line"), [(None, "Today: 26 Jul 2024\n"), ("2025-03-07", "Today: 07 Mar 2025\n")])
def test_the_date_is_the_configured_one_or_the_templates_default(day, line):
    pinned, date = pinned_template(LLAMA, day)
    assert date == day or (day is None and date == OWN_DEFAULT)
    assert line in written(pinned)
    assert "strftime_now" not in pinned
    assert shape_of_template(pinned, "<s>", "</s>").opening.endswith(line + "\n<|eot_id|>")


def test_nothing_but_the_date_changes():
    today = written(LLAMA)
    start, end = (today.index(mark) for mark in ("Today: ", "\n\n<|eot_id|>"))
    assert written(pinned_template(LLAMA, "2025-03-07")[0]) == today[:start] + "Today: 07 Mar 2025" + today[end:]


def test_a_template_without_a_date_is_left_as_it_is(caplog):
    assert pinned_template("{{ messages[0].content }}") == ("{{ messages[0].content }}", None)
    assert caplog.text == ""
    assert pinned_template("{{ messages[0].content }}", "2025-03-07") == ("{{ messages[0].content }}", None)
    assert "template_date has no effect" in caplog.text


def test_a_template_that_has_no_default_asks_for_one(tmp_path):
    (tmp_path / "chat_template.jinja").write_text(MISTRAL)
    with pytest.raises(UserError, match="has no default for it; set 'template_date' under the model"):
        pin_template_date(tmp_path)
    assert "The current date is 2025-03-17." in written(pinned_template(MISTRAL, "2025-03-17")[0])


@pytest.mark.parametrize(
    "template",
    [
        "{% set day = '%d' %}{{ strftime_now(day) }}",
        "{% set clock = strftime_now %}{{ clock('%d %b %Y') }}",
        "{{ strftime_now('%d') if strftime_now is callable else '26' }}",
    ],
)
def test_a_date_that_is_asked_for_in_another_way_is_refused(template):
    with pytest.raises(UserError, match="in a way that can't be replaced by a fixed one; write the date into a copy"):
        pinned_template(template, "2025-03-07")


@pytest.mark.parametrize(
    "guard", ["strftime_now is not defined", "not strftime_now is defined", "strftime_now is undefined"]
)
@pytest.mark.parametrize(("day", "text"), [(None, "never"), ("2025-03-07", "Friday")])
def test_every_usual_guard_is_understood(guard, day, text):
    template = f"{{% if {guard} %}}never{{% else %}}{{{{ strftime_now(format='%A') }}}}{{% endif %}}"
    assert written(pinned_template(template, day)[0]) == text


PLACES = ["chat_template.jinja", "chat_template.json", "tokenizer_config.json", "list", "list of chat_template.json"]


@pytest.mark.parametrize("place", PLACES)
def test_a_model_is_taken_with_a_fixed_date_wherever_its_template_stands(tiny_base, tmp_path, place):
    source = shutil.copytree(tiny_base.parent, tmp_path / "source", ignore=shutil.ignore_patterns("manifest.json"))
    (source / "chat_template.jinja").unlink()
    if place == "chat_template.jinja":
        (source / place).write_text(LLAMA)
    elif place == "chat_template.json":
        (source / place).write_text(json.dumps({"chat_template": LLAMA}))
    elif place == "list of chat_template.json":
        named = [{"name": "tool_use", "template": "{{ 1 }}"}, {"name": "default", "template": LLAMA}]
        (source / "chat_template.json").write_text(json.dumps({"chat_template": named}))
    else:
        config = json.loads((source / "tokenizer_config.json").read_text())
        config["chat_template"] = LLAMA if place != "list" else [{"name": "default", "template": LLAMA}]
        (source / "tokenizer_config.json").write_text(json.dumps(config))
    link_local_model(source, tmp_path / "m", "mine", {**SETTINGS, "template_date": "2025-03-07"})
    assert check_manifest(tmp_path / "m" / "manifest.json", hashes=True)["template_date"] == "2025-03-07"
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    text = tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    assert "Today: 07 Mar 2025\n" in text
    assert template_of_folder(source) == LLAMA


def test_a_model_without_a_date_says_so_in_its_manifest(tiny_base, tmp_path):
    source = shutil.copytree(tiny_base.parent, tmp_path / "source", ignore=shutil.ignore_patterns("manifest.json"))
    link_local_model(source, tmp_path / "m", "mine", SETTINGS)
    assert check_manifest(tmp_path / "m" / "manifest.json")["template_date"] is None


def test_an_embedded_model_fixes_the_date_of_the_template_that_it_is_given(tmp_path):
    template = tmp_path / "dated.jinja"
    template.write_text(LLAMA)
    tiny = EmbeddedModel(layers=1, vocabulary=700)
    build_embedded_model(SENTENCES, tmp_path / "m", "m", "llama", tiny, template)
    assert check_manifest(tmp_path / "m" / "manifest.json")["template_date"] == OWN_DEFAULT
    assert "Today: 26 Jul 2024\n" in written(AutoTokenizer.from_pretrained(tmp_path / "m").chat_template)
