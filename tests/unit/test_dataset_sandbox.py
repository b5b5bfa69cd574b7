"""Templates render prompts, and neither templates nor data get out of the sandbox or run away."""

import pytest

from scripts.common.errors import UserError
from scripts.common.sandbox import Sandbox, TemplateFaultError, compiled_template

RECORD = {
    "text": "But de Jovanic",
    "minute": "90'+3",
    "score": {"home": 2, "away": 1},
    "players": ["Jovanic", "Ferrandi"],
    "nothing": None,
}


def rendered(source: str, **values) -> str:
    sandbox = Sandbox()
    return sandbox.rendered(compiled_template(sandbox, source, "fields.user"), RECORD | values)


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
    ],
)
def test_templates_render(source: str, text: str):
    assert rendered(source) == text


def test_data_is_never_a_template():
    assert rendered("{{ text }}", text="{{ 7 * 7 }} {% raw %}") == "{{ 7 * 7 }} {% raw %}"


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ text.__class__ }}",
        "{{ text['__class__'] }}",
        "{{ text | attr('__class__') }}",
        "{{ score.__init__.__globals__ }}",
        "{{ range.__init__ }}",
        "{{ self.__init__.__globals__ }}",
        "{{ loop.__class__ }}",
        "{% for x in players %}{{ loop._iterator }}{% endfor %}",
        "{{ lipsum.__globals__['os'].popen('id').read() }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{{ joiner }}",
        "{{ namespace() }}",
        "{{ '{0.__class__}'.format(text) }}",
        "{{ '{0.__class__}'.format_map({'0': text}) }}",
        "{{ players.append('x') }}",
        "{{ score.update({'home': 9}) }}",
        "{{ score.pop('home') }}",
        "{{ environment }}",
        "{{ text.encode() }}",
        "{{ ('x' | map('attr', '__class__')) | list }}",
        "{{ players | map(attribute='__class__') | join }}",
        "{{ '%s' % text }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{% extends 'page.html' %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% filter upper %}x{% endfilter %}",
        "{% block a %}{% endblock %}",
    ],
)
def test_no_way_out(source: str):
    with pytest.raises((TemplateFaultError, UserError)):
        rendered(source)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ 'x' * 10000000 }}", "text grows beyond 1000000 characters"),
        ("{{ 10000000 * 'x' }}", "text grows beyond 1000000 characters"),
        ("{{ [1] * 10000000 }}", "text grows beyond 1000000 characters"),
        ("{{ ('x' * 999999) + text }}", "text grows beyond 1000000 characters"),
        ("{% set a = 'x' * 900000 %}{% set b = a ~ a %}{{ b | length }}", "text grows beyond 1000000 characters"),
        ("{{ ['x' * 900000, 'x' * 900000] | join }}", "text grows beyond 1000000 characters"),
        ("{{ ('x' * 10000) | replace('x', 'y' * 10000) | length }}", "text grows beyond 1000000 characters"),
        ("{% for i in range(90000) %}{{ text }}{% endfor %}", "text grows beyond 1000000 characters"),
        ("{{ range(10000000) | list | length }}", "range() is longer than 100000"),
        ("{% for i in range(50000) %}{% for j in range(50000) %}{% endfor %}{% endfor %}",
         "loops take more than 100000 turns"),
        ("{{ 9 ** 9999 }}", "'**' takes numbers up to 64"),
        ("{{ '%1000000000d' % 1 }}", "'%' formats no text here: use '~'"),
    ],
)  # fmt: skip
def test_what_runs_away_is_stopped(source: str, reason: str):
    with pytest.raises(TemplateFaultError) as error:
        rendered(source)
    assert error.value.detail == f"the template is stopped: {reason}"


def test_bounds_are_those_of_one_record():
    sandbox = Sandbox()
    template = compiled_template(sandbox, "{% for i in range(60000) %}{% endfor %}x", "fields.user")
    assert [sandbox.rendered(template, {}) for _ in range(3)] == ["x"] * 3


@pytest.mark.parametrize(
    ("source", "line"),
    [
        (
            "{{ text",
            "fields.user: line 1 of the template: unexpected end of template, expected 'end of print statement'.",
        ),
        ("a\n{% if %}", "fields.user: line 2 of the template: Expected an expression, got 'end of statement block'"),
        ("{{ text | shout }}", "fields.user: line 1 of the template: No filter named 'shout'."),
        ("{% macro f() %}{% endmacro %}", "fields.user: line 1 of the template: 'macro' is not allowed here"),
        ("x" * 20_001, "fields.user: the template is longer than 20000 characters"),
    ],
)
def test_a_faulty_template_is_named_by_its_key_and_line(source: str, line: str):
    with pytest.raises(UserError) as error:
        rendered(source)
    assert str(error.value).rpartition(";")[0] == line


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("{{ tetx }}", "has no field 'tetx'; its fields are text, minute, score, players, nothing"),
        ("{{ nothing }}", "a field that the template prints is null; use default('', true)"),
        ("{{ 1 / 0 }}", "the template fails: division by zero; mend the template or the record"),
    ],
)
def test_what_a_template_can_t_render_is_said(source: str, line: str):
    with pytest.raises(TemplateFaultError) as error:
        rendered(source)
    assert str(error.value) == line
