"""Templates of the configuration render prompts, and no record gets out of the sandbox."""

import pytest

from scripts.common.errors import UserError
from scripts.common.sandbox import TemplateFaultError, compiled_template
from scripts.common.sandbox import rendered as render
from tests.support.data import load

TABLE = load("templates.yaml")
RECORD = {"text": "But de Jovanic", "minute": "90'+3", "score": {"home": 2, "away": 1}}
RECORD |= {"players": ["Jovanic", "Ferrandi"], "nothing": None, "markup": "{{ 7 * 7 }} {% raw %}"}


def rendered(source: str) -> str:
    return render(compiled_template(source, "fields.user"), RECORD)


@pytest.mark.parametrize(("source", "text"), TABLE["rendered"])
def test_templates_render_and_data_is_no_template(source: str, text: str):
    assert rendered(source) == text


@pytest.mark.parametrize("source", TABLE["escapes"])
def test_no_way_out(source: str):
    with pytest.raises(TemplateFaultError):
        rendered(source)


@pytest.mark.parametrize(("source", "line"), [*TABLE["faulty"], ("{{ " + "(" * 9999, "fields.user: the template is")])
def test_a_faulty_template_is_named_by_key_and_line_and_what_it_can_t_render_is_said(source: str, line: str):
    with pytest.raises((UserError, TemplateFaultError)) as error:
        rendered(source)
    assert str(error.value).startswith(line)
    assert "; " in str(error.value), "a remedy"
