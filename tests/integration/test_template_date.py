"""A chat template that asks for the date writes one fixed date, everywhere the same."""

import json

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
from tests.support.tiny_model import without_manifest

SETTINGS = {"architecture": "llama", "license": None, "trust_remote_code": False}
MESSAGES = [{"role": "user", "content": "Which day is it?"}]


def written(template: str) -> str:
    """Return what a template writes today."""
    return render_template(template, MESSAGES, "<s>", "</s>")


@pytest.mark.parametrize(("day", "line"), [(None, "Today: 26 Jul 2024"), ("2025-03-07", "Today: 07 Mar 2025")])
def test_the_date_is_the_configured_one_or_the_templates_default_and_nothing_else_changes(day, line):
    pinned, date = pinned_template(LLAMA, day)
    assert date == (day or OWN_DEFAULT)
    today = written(LLAMA)
    start, end = (today.index(mark) for mark in ("Today: ", "\n\n<|eot_id|>"))
    assert written(pinned) == today[:start] + line + today[end:]
    assert shape_of_template(pinned, "<s>", "</s>").opening.endswith(line + "\n\n<|eot_id|>")


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


TURNED = [{"name": "tool_use", "template": "{{ 1 }}"}, {"name": "default", "template": LLAMA}]
PLACES = {
    "chat_template.jinja": LLAMA,
    "chat_template.json": {"chat_template": LLAMA},
    "list of chat_template.json": {"chat_template": TURNED},
    "tokenizer_config.json": {"chat_template": LLAMA},
    "list of tokenizer_config.json": {"chat_template": TURNED},
}


@pytest.mark.parametrize("place", PLACES)
def test_a_model_is_taken_with_a_fixed_date_wherever_its_template_stands(tiny_base, tmp_path, place):
    source, content = without_manifest(tiny_base, tmp_path / "source"), PLACES[place]
    (source / "chat_template.jinja").unlink()
    file = source / place.removeprefix("list of ")
    if file.exists():
        content = json.loads(file.read_text()) | content
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    link_local_model(source, tmp_path / "m", "mine", {**SETTINGS, "template_date": "2025-03-07"})
    assert check_manifest(tmp_path / "m/manifest.json", hashes=True)["template_date"] == "2025-03-07"
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    text = tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    assert "Today: 07 Mar 2025\n" in text
    assert template_of_folder(source) == LLAMA


def test_a_model_without_a_date_and_an_embedded_one_say_so_in_their_manifests(tiny_base, tmp_path):
    link_local_model(without_manifest(tiny_base, tmp_path / "source"), tmp_path / "m", "mine", SETTINGS)
    assert check_manifest(tmp_path / "m/manifest.json")["template_date"] is None
    template = tmp_path / "dated.jinja"
    template.write_text(LLAMA)
    build_embedded_model(SENTENCES, tmp_path / "e", "e", "llama", EmbeddedModel(layers=1, vocabulary=700), template)
    assert check_manifest(tmp_path / "e/manifest.json")["template_date"] == OWN_DEFAULT
    assert "Today: 26 Jul 2024\n" in written(AutoTokenizer.from_pretrained(tmp_path / "e").chat_template)
