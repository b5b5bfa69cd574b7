"""A chat template comes with a model: one that escapes, or never ends, is stopped with a line; real ones are not."""

import time

import pytest
from jinja2 import TemplateError

from scripts.common.chat import render
from scripts.common.chat_template import render_template, tokenizer_text
from scripts.common.errors import UserError

USER = [{"role": "user", "content": "Qui marque ?"}, {"role": "assistant", "content": "Jovanic."}]
ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__class__ }}{{ messages[0].__init__.__globals__ }}",
    "{{ (messages | attr('__class__')).__mro__[0] }}",
    "{{ lipsum.__globals__['os'].popen('touch ran').read() }}",
    "{{ cycler.__init__.__globals__.os.popen('touch ran') }}",
    "{{ raise_exception.__globals__['json'].codecs.open('/etc/passwd').read() }}",
    "{{ strftime_now.__globals__ }}{{ strftime_now.__globals__['json'].loads('1') }}",
    "{{ '{0.__class__.__mro__[1]}'.format(bos_token) + none }}",
    "{{ messages.append(1) }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os.system('touch ran') }}",
    "{% set x = namespace() %}{{ x.__init__.__globals__.os }}{{ x.__init__.__globals__.os.system('touch ran') }}",
]
ENDLESS = {
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a long range": "{% for a in range(10**9) %}{% endfor %}",
    "a loop over its own turns": "{% for a in range(99999) recursive %}{{ loop([a]) }}{% endfor %}",
    "a macro that calls itself": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "a macro that calls itself twice": (
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(90) }}"
    ),
    "a text times a billion": "{{ ('x' * 10**9) | length }}",
    "a list times a billion": "{{ ([1] * 10**9) | length }}",
    "a text that doubles": "{% set n = namespace(t='x') %}{% for i in range(60) %}{% set n.t = n.t~n.t %}{% endfor %}",
    "a sum that doubles": "{% set n = namespace(t='x') %}{% for i in range(60) %}{% set n.t = n.t + n.t %}{% endfor %}",
    "a list that doubles": "{% set n = namespace(t=[1]) %}{% for i in range(60) %}{% set n.t = n.t+n.t %}{% endfor %}",
    "replacing that multiplies": "{{ ('x' * 9999999).replace('x', 'y' * 9999999) | length }}",
    "a filter that replaces": "{{ ('x' * 10000) | replace('x', 'y' * 10000) | length }}",
    "joining that multiplies": "{{ ('x' * 9999999).join(['a'] * 9999) | length }}",
    "a wide text": "{{ 'x'.center(10**10) }}",
    "a wide filter": "{{ 'x' | center(10**10) }}",
    "a deep indent": "{{ 'x\ny' | indent(10**10) }}",
    "a wide format": "{{ '{:>10000000000}'.format('x') }}",
    "a wide percent": "{{ '%10000000000d' % 1 }}",
    "a wide percent of a star": "{{ '%*d' % (10**10, 1) }}",
    "a wide format filter": "{{ '%10000000000d' | format(1) }}",
    "a tower of powers": "{{ 9 ** 9 ** 9 ** 9 }}",
    "output without end": "{% for a in range(99999) %}{{ 'x' * 99999 }}{% endfor %}",
}


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("scripts.common.chat_sandbox.MAX_SECONDS", 0.5)


@pytest.mark.parametrize("template", ESCAPES)
def test_no_way_out_of_the_sandbox(template: str, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        said = render_template(template, USER, "<s>", "</s>")
    except (TemplateError, TypeError):
        said = ""
    assert "class" not in said
    assert "root:" not in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ENDLESS)
def test_what_never_ends_or_fills_the_memory_is_stopped(name: str, quick):
    begun = time.thread_time()
    with pytest.raises(TemplateError):
        render_template(ENDLESS[name], USER, "<s>", "</s>")
    assert time.thread_time() - begun < 5


def test_it_is_one_line_for_the_user(tiny_base, quick):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_base.parent)
    tokenizer.chat_template = ENDLESS["nested loops"]
    with pytest.raises(UserError, match=r"refuses the conversation: it takes more than 0\.5 seconds"):
        render(tokenizer, USER)


def test_sound_templates_are_rendered_as_transformers_renders_them(tiny_base):
    from transformers import AutoTokenizer

    from scripts.model.chat_templates import BUILT_IN_TEMPLATES
    from tests.support.chat_templates import TEMPLATES

    tokenizer = AutoTokenizer.from_pretrained(tiny_base.parent)
    templates = [path.read_text(encoding="utf-8") for path in BUILT_IN_TEMPLATES.values()]
    for template in [*templates, *(entry[0] for entry in TEMPLATES.values())]:
        for ending in (False, True):
            own = tokenizer_text(tokenizer, USER[: 1 if ending else 2], ending, template)
            theirs = tokenizer.apply_chat_template(
                USER[: 1 if ending else 2], tokenize=False, add_generation_prompt=ending, chat_template=template
            )
            assert own == theirs
