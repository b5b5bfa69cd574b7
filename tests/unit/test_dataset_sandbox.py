"""Templates of the configuration render prompts, and no record gets out of the sandbox."""

import pytest

from scripts.common.errors import UserError
from scripts.common.sandbox import TemplateFaultError, compiled_template
from scripts.common.sandbox import rendered as render

RECORD = {"text": "But de Jovanic", "minute": "90'+3", "score": {"home": 2, "away": 1}}
RECORD |= {"players": ["Jovanic", "Ferrandi"], "nothing": None, "markup": "{{ 7 * 7 }} {% raw %}"}


def rendered(source: str) -> str:
    return render(compiled_template(source, "fields.user"), RECORD)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ minute }} : {{ text | upper }}", "90'+3 : BUT DE JOVANIC"),
        ("{{ score.home }}-{{ score['away'] }}", "2-1"),
        ("{% for name in players %}{{ loop.index }}. {{ name }}\n{% endfor %}", "1. Jovanic\n2. Ferrandi\n"),
        ("{{ players | join(', ') }}", "Jovanic, Ferrandi"),
        ("{% if missing is defined %}x{% else %}y{% endif %}", "y"),
        ("{{ nothing | default('', true) }}|{{ missing | default('z') }}", "|z"),
        ("{{ text.split(' ') | last }} {{ text | replace('But', 'Tir') }}", "Jovanic Tir de Jovanic"),
        ("{% set name = players[0] %}{{ name ~ ' ' ~ score.home }}", "Jovanic 2"),
        ("{% for i in range(3) %}{{ i }}{% endfor %}", "012"),
        ("{{ score | tojson }}", '{"away": 1, "home": 2}'),
        ("{{ '%' }}{{ 7 % 4 }}{{ 2 ** 3 }}{{ 'ab' * 2 }}", "%38abab"),
        ("{{ markup }}", "{{ 7 * 7 }} {% raw %}"),
    ],
)
def test_templates_render_and_data_is_no_template(source: str, text: str):
    assert rendered(source) == text


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ text['__class__'] }}",
        "{{ score.__init__.__globals__ }}",
        "{{ lipsum.__globals__['os'].popen('id').read() }}",
        "{{ '{0.__class__}'.format(text) }}",
        "{{ players.append('x') }}",
        "{{ score.pop('home') }}",
        "{{ players | map(attribute='__class__') | join }}",
        "{% include '/etc/passwd' %}",
    ],
)
def test_no_way_out(source: str):
    with pytest.raises(TemplateFaultError):
        rendered(source)


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("{{ text", "line 1 of the template: unexpected end of template, expected 'end of print statement'."),
        ("a\n{% if %}", "line 2 of the template: Expected an expression, got 'end of statement block'"),
        ("{{ text | shout }}", "line 1 of the template: No filter named 'shout'."),
        ("{{ " + "(" * 9999, "the template is nested too deeply"),
    ],
)
def test_a_faulty_template_is_named_by_its_key_and_line(source: str, line: str):
    with pytest.raises(UserError) as error:
        rendered(source)
    assert str(error.value).rpartition(";")[0] == f"fields.user: {line}"


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("{{ tetx }}", "has no field 'tetx'; its fields are text, minute, score, players, nothing, markup"),
        ("{{ nothing }}", "a field that the template prints is null; "),
        (
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
            "the template needs too much memory or recursion (RecursionError); ",
        ),
        ("{{ 'x' * 10**18 }}", "the template needs too much memory or recursion (MemoryError); "),
        ("{{ 1 / 0 }}", "the template fails: division by zero; "),
    ],
)
def test_what_a_template_can_t_render_is_said(source: str, line: str):
    with pytest.raises(TemplateFaultError) as error:
        rendered(source)
    assert str(error.value).startswith(line)
