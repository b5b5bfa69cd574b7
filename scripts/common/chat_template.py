"""Jinja chat templates, rendered outside transformers with the same semantics."""

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
    """`{% generation %}` marks the assistant's tokens for the trainer; when rendering it means nothing."""

    tags = frozenset({"generation"})

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return the statements between the tag and its end."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def refuse(message: str) -> None:
    """Be the template's `raise_exception`."""
    raise TemplateError(message)


def to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False) -> str:
    """Be the template's `tojson`, which unlike Jinja's own escapes no HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def time_now(pattern: str) -> str:
    """Be the template's `strftime_now`."""
    return datetime.now().strftime(pattern)


@functools.lru_cache(maxsize=32)
def compiled_template(text: str) -> Template:
    """Compile a chat template in a sandbox set up as that of `transformers.utils.chat_template_utils`.

    Raises jinja2.TemplateError for text that is not a template.
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, loopcontrols]
    )
    environment.filters["tojson"] = to_json
    environment.globals.update(raise_exception=refuse, strftime_now=time_now)
    return environment.from_string(text)


def rendered_template(text: str, messages: list[dict], **values) -> str:
    """Render a chat template for a conversation of {"role", "content"} messages, with the values of special tokens.

    Raises jinja2.TemplateError when the template refuses the conversation, as some refuse a system message, or fails.
    """
    values = {"tools": None, "documents": None, **values, "messages": [dict(message) for message in messages]}
    try:
        return compiled_template(text).render(values)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise TemplateError(f"{type(error).__name__}: {error}") from None


def render_template(
    text: str,
    messages: list[dict],
    bos_token: str,
    eos_token: str,
    add_generation_prompt: bool = True,
    now: datetime | None = None,
) -> str:
    """Render a chat template, as at the time `now` if given. Raises jinja2.TemplateError as `rendered_template`."""
    clock = {} if now is None else {"strftime_now": now.strftime}
    special = {"bos_token": bos_token, "eos_token": eos_token}
    return rendered_template(text, messages, add_generation_prompt=add_generation_prompt, **special, **clock)


def without_generation_tags(text: str) -> str:
    """Return a template that renders the same and has no `{% generation %}`, which llama.cpp and Ollama don't know.

    A condition that always holds takes the tag's place: unlike bare removal it keeps the tag's effect on the white
    space around it.
    """

    def plain(tag: re.Match) -> str:
        return f"{{%{tag[1]} {'endif' if tag[2] else 'if true'} {tag[3]}%}}"

    return GENERATION_TAG.sub(plain, text)
