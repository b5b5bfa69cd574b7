"""Render templates of the configuration in Jinja's sandbox, so that a template can't access Python's internals."""

from typing import Any

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, UndefinedError
from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from scripts.common.errors import UserError


class TemplateFaultError(ValueError):
    """A template can't be rendered. `kind` groups such errors, `detail` is the problem and `remedy` the solution."""

    def __init__(self, kind: str, detail: str, remedy: str):
        self.kind, self.detail, self.remedy = kind, detail, remedy
        super().__init__(f"{detail}; {remedy}")


class NullValueError(Exception):
    """A template prints a null."""


def printable(value: Any) -> Any:
    """Return the value. Raises NullValueError for null, which would become the word None in the model's input."""
    if value is None:
        raise NullValueError
    return value


def compiled_template(source: str, key: str) -> Template:
    """Compile a template of the configuration. Raises UserError with its key and the template's line."""
    try:
        return ImmutableSandboxedEnvironment(undefined=StrictUndefined, finalize=printable).from_string(source)
    except TemplateSyntaxError as error:
        raise UserError(f"{key}: line {error.lineno} of the template: {error.message}", remedy="correct it") from None
    except RecursionError:
        raise UserError(f"{key}: the template is nested too deeply", remedy="simplify it") from None


def rendered(template: Template, values: dict) -> str:
    """Render a compiled template with one record's values. Raises TemplateFaultError if that fails."""
    try:
        return template.render(values)
    except UndefinedError as error:
        known = ", ".join(map(str, values)) or "none"
        message = str(error.message).removesuffix(" is undefined")
        fault = ("missing field", f"has no field {message}", f"its fields are {known}")
    except NullValueError:
        fault = ("null field", "a field that the template prints is null", "use default('', true)")
    except (MemoryError, RecursionError) as error:
        what = f"the template needs too much memory or recursion ({type(error).__name__})"
        fault = ("template limit", what, "simplify it")
    except (TemplateError, ArithmeticError, TypeError, ValueError, LookupError, AttributeError) as error:
        fault = ("template error", f"the template fails: {error}", "correct the template or the record")
    raise TemplateFaultError(*fault)
