"""The pieces of a chat template are found by probing, or the template is refused with a line."""

import pytest

from scripts.common.chat_shape import ChatShape, probe_conversations, shape_of_template
from scripts.common.chat_template import render_template
from scripts.common.errors import UserError
from tests.support.chat_templates import TEMPLATES


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_pieces_write_what_the_template_writes(name):
    template, bos, eos, placement = TEMPLATES[name]
    shape = shape_of_template(template, bos, eos)
    assert shape.system == placement
    for messages in probe_conversations(placement != "none", shape.trims):
        expected = render_template(template, messages, bos, eos, messages[-1]["role"] != "assistant")
        assert shape.render(messages) == expected
    assert ChatShape.from_json(shape.to_json()) == shape


LOOP = "{% for m in messages %}{{ m.role }}:{{ m.content }}\n{% endfor %}"


@pytest.mark.parametrize(
    ("template", "line"),
    [
        ("{{ messages[0].content }}", "the chat template loses or repeats the message '⟦answer 0⟧'"),
        (LOOP.replace("m.content", "m.content * 2"), "loses or repeats the message '⟦user 0⟧'"),
        (LOOP.replace("m.content", "m.content | upper"), "the chat template loses or repeats the message"),
        (LOOP.replace("\n", "{{ m.content | length }}|"), "the chat template is more than fixed text around messages"),
        (LOOP.replace("m.role", "loop.index ~ m.role"), "the chat template is more than fixed text around messages"),
        ("{{ strftime_now('%Y') }}" + LOOP, "the chat template writes the current date"),
        ("{{ add_generation_prompt }}" + LOOP, "the chat template starts differently with a generation prompt"),
        ("{{ raise_exception('never') }}", "the chat template refuses the conversation: never"),
    ],
)
def test_a_template_that_is_more_than_pieces_is_refused(template, line):
    with pytest.raises(UserError, match=r"^[^\n]*$") as error:
        shape_of_template(template, "<s>", "</s>")
    assert line in str(error.value)


def test_a_template_that_mentions_the_date_but_does_not_write_it_is_fine():
    template = "{% set now = strftime_now('%Y') %}" + LOOP
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
