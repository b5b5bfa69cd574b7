"""A chat template comes with a model: one that escapes, or never ends, is stopped with a line; real ones are not."""

from contextlib import suppress

import pytest
from jinja2 import TemplateError
from transformers import AutoTokenizer

from scripts.common.chat import render
from scripts.common.chat_template import render_template
from scripts.common.errors import UserError
from scripts.model.template_date import pin_template_date
from tests.support.chat_templates import TEMPLATES

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
    "calls that double": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(90) }}",
    "a tower of powers": "{{ 9 ** (9 ** (9 ** 9)) }}",
    "a text of 10 GB": "{{ ('x' * 10**10) | length }}",
    "a list that doubles": "{% set n = namespace(t=[1]) %}{% for i in range(60) %}{% set n.t = n.t+n.t %}{% endfor %}",
    "output without end": "{% for a in range(99999) %}{{ 'x' * 99999 }}{% endfor %}",
}


@pytest.mark.parametrize("template", ESCAPES)
def test_no_way_out_of_the_sandbox(template, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with suppress(TemplateError):
        said = render_template(template, USER, "<s>", "</s>")
        assert "class" not in said
        assert "root:" not in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ENDLESS)
def test_a_model_whose_template_never_ends_or_fills_the_memory_is_refused_with_a_line(name, tmp_path, monkeypatch):
    monkeypatch.setattr("scripts.model.template_date.MAX_SECONDS", 1)  # it is 30
    (tmp_path / "chat_template.jinja").write_text(ENDLESS[name])
    with pytest.raises(UserError, match=r"the chat template needs more than 1 seconds of CPU time or 2048 MiB; name"):
        pin_template_date(tmp_path)


@pytest.fixture(scope="module")
def tokenizer(tiny_base):
    return AutoTokenizer.from_pretrained(tiny_base.parent)


def test_a_template_that_calls_itself_is_refused_with_a_line(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}")
    with pytest.raises(UserError, match="refuses the conversation: maximum recursion depth"):
        render(tokenizer, USER)


def test_sound_templates_are_rendered_as_transformers_renders_them(tokenizer):
    special = tokenizer.special_tokens_map
    for template, *_ in TEMPLATES.values():
        for messages, ending in ((USER, False), (USER[:1], True)):
            options = {"tokenize": False, "add_generation_prompt": ending, "chat_template": template}
            own = render_template(template, messages, add_generation_prompt=ending, **special)
            assert own == tokenizer.apply_chat_template(messages, **options)
