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


@pytest.mark.parametrize(
    ("template", "line"),
    [
        ("{{ messages[0].content }}", "the chat template loses or repeats the message '⟦answer 0⟧'"),
        ("{% for m in messages %}{{ m.content * 2 }}{% endfor %}", "loses or repeats the message '⟦user 0⟧'"),
        (
            "{% for m in messages %}{{ m.role }}:{{ m.content }}{{ m.content | length }}|{% endfor %}",
            "the chat template is more than fixed text around messages",
        ),
        (
            "{% for m in messages %}{{ loop.index }}{{ m.role }}:{{ m.content }}\n{% endfor %}",
            "the chat template is more than fixed text around messages",
        ),
        (
            "{% for m in messages %}{{ m.role }}:{{ m.content | upper }}\n{% endfor %}",
            "the chat template loses or repeats the message",
        ),
        (
            "{{ strftime_now('%Y') }}{% for m in messages %}{{ m.role }}:{{ m.content }}\n{% endfor %}",
            "the chat template writes the current date",
        ),
        (
            "{{ add_generation_prompt }}{% for m in messages %}{{ m.role }}:{{ m.content }}\n{% endfor %}",
            "the chat template begins otherwise where the assistant is to speak",
        ),
        ("{{ raise_exception('never') }}", "the chat template refuses the conversation: never"),
    ],
)
def test_a_template_that_is_more_than_pieces_is_refused(template, line):
    with pytest.raises(UserError, match=r"^[^\n]*$") as error:
        shape_of_template(template, "<s>", "</s>")
    assert line in str(error.value)


def test_a_template_that_mentions_the_date_but_does_not_write_it_is_fine():
    template = "{% set now = strftime_now('%Y') %}{% for m in messages %}{{ m.role }}:{{ m.content }}\n{% endfor %}"
    assert shape_of_template(template, "<s>", "</s>").user_prefix == "user:"


def test_white_space_that_a_template_strips_is_known_by_role():
    template, bos, eos, _ = TEMPLATES["mistral v0.3"]
    assert shape_of_template(template, bos, eos).trims == ("assistant",)
    template, bos, eos, _ = TEMPLATES["llama 3"]
    assert shape_of_template(template, bos, eos).trims == ("system", "user", "assistant")
