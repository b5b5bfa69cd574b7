"""Render Jinja chat templates as transformers does, without importing it."""

import functools
import json
import re
from datetime import datetime

from jinja2 import Template, nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

GENERATION_TAG = re.compile(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}")


class GenerationTag(Extension):
    """The tag `{% generation %}`, which marks the assistant's tokens for training and has no effect on the text."""

    tags = frozenset({"generation"})

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return the statements between the tag and its end."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def refuse(message: str) -> None:
    """Raise TemplateError: the `raise_exception` of templates."""
    raise TemplateError(message)


def to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False) -> str:
    """Return JSON: the `tojson` of templates, with the arguments of transformers; Jinja's own escapes HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def time_now(pattern: str) -> str:
    """Return the formatted current time: the `strftime_now` of templates."""
    return datetime.now().strftime(pattern)


@functools.lru_cache(maxsize=32)
def compiled_template(text: str) -> Template:
    """Compile a chat template in a sandbox with the settings of `transformers.utils.chat_template_utils`.

    Raises jinja2.TemplateError for text that is not a template.
    """
    extensions = [GenerationTag, loopcontrols]
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
    environment.filters["tojson"] = to_json
    environment.globals.update(raise_exception=refuse, strftime_now=time_now)
    return environment.from_string(text)


def render_template(
    text: str, messages: list[dict], bos_token: str, eos_token: str, add_generation_prompt=True, **values
) -> str:
    """Render a chat template for a list of {"role", "content"} messages.

    `values` are further variables, such as the function `strftime_now`, which formats the current time. Raises
    jinja2.TemplateError when the template fails or refuses the conversation, for example its system message.
    """
    values = {"tools": None, "documents": None, "bos_token": bos_token, "eos_token": eos_token, **values}
    values |= {"add_generation_prompt": add_generation_prompt, "messages": [dict(message) for message in messages]}
    try:
        return compiled_template(text).render(values)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise TemplateError(f"{type(error).__name__}: {error}") from None


def without_generation_tags(text: str) -> str:
    """Return an equivalent template without `{% generation %}`, which llama.cpp and Ollama do not support.

    `{% if true %}` replaces the tag, because removing the tag would change the white space around it.
    """

    def plain(tag: re.Match) -> str:
        return f"{{%{tag[1]} {'endif' if tag[2] else 'if true'} {tag[3]}%}}"

    return GENERATION_TAG.sub(plain, text)
