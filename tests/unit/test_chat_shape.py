"""The pieces of a chat template are found by probing, or the template is refused with a line."""

import pytest

from scripts.common.chat_shape import ChatShape, probe_conversations, shape_of_template
from scripts.common.chat_template import render_template
from scripts.common.errors import UserError
from tests.support.chat_templates import TEMPLATES
from tests.support.data import load


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_pieces_write_what_the_template_writes(name):
    template, bos, eos, placement = TEMPLATES[name]
    shape = shape_of_template(template, bos, eos)
    assert shape.system == placement
    for messages in probe_conversations(placement != "none", shape.trims):
        expected = render_template(template, messages, bos, eos, messages[-1]["role"] != "assistant")
        assert shape.render(messages) == expected
    assert ChatShape.from_json(shape.to_json()) == shape


@pytest.mark.parametrize(("template", "said"), load("templates.yaml")["refused"])
def test_a_template_that_is_more_than_pieces_is_refused(template, said):
    with pytest.raises(UserError, match=r"^[^\n]*$") as error:
        shape_of_template(template, "<s>", "</s>")
    assert said in str(error.value)


def test_a_template_that_mentions_the_date_but_does_not_write_it_is_fine():
    template = "{% set now = strftime_now('%Y') %}{% for m in messages %}{{ m.role }}:{{ m.content }}\n{% endfor %}"
    assert shape_of_template(template, "<s>", "</s>").user_prefix == "user:"


@pytest.mark.parametrize(
    ("name", "trims"), [("mistral v0.3", ("assistant",)), ("llama 3", ("system", "user", "assistant"))]
)
def test_white_space_that_a_template_strips_is_known_by_role(name, trims):
    template, bos, eos, _ = TEMPLATES[name]
    assert shape_of_template(template, bos, eos).trims == trims


def test_json_in_a_template_takes_the_arguments_of_transformers():
    template = "{{ messages[0].content | tojson(false, 0) }}"
    assert render_template(template, [{"role": "user", "content": "<é>"}], "", "") == '"<é>"'
