"""Templates of the configuration, rendered so that neither a template nor the data can reach beyond its record.

Jinja's immutable sandbox keeps templates from Python's internals. On top of it, this one knows only the statements,
filters and methods that a prompt needs, and it bounds text and loops, for a recipe may come from somebody else.
"""

from collections.abc import Iterable
from typing import Any

from jinja2 import StrictUndefined, TemplateSyntaxError, UndefinedError, nodes
from jinja2.compiler import CodeGenerator
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from scripts.common.errors import UserError

MAX_TEXT = 1_000_000  # characters of any text that a template makes
MAX_STEPS = 100_000  # turns of all the loops of one rendering together
MAX_TEMPLATE = 20_000  # characters of a template

# fmt: off
FILTERS = (
    "abs", "capitalize", "d", "default", "first", "float", "int", "items", "join", "last", "length", "list", "lower",
    "map", "max", "min", "reject", "rejectattr", "replace", "reverse", "round", "select", "selectattr", "sort", "sum",
    "title", "tojson", "trim", "truncate", "unique", "upper", "wordcount",
)
TEXT_METHODS = frozenset((
    "capitalize", "casefold", "count", "endswith", "find", "isalpha", "isdigit", "islower", "isnumeric", "isupper",
    "lower", "lstrip", "removeprefix", "removesuffix", "rstrip", "split", "splitlines", "startswith", "strip", "title",
    "upper",
))
# fmt: on
LOOP_FACTS = frozenset(("first", "index", "index0", "last", "length", "nextitem", "previtem", "revindex", "revindex0"))
METHODS = {
    str: TEXT_METHODS,
    dict: frozenset(("get", "items", "keys", "values")),
    list: frozenset(("count", "index")),
    LoopContext: LOOP_FACTS,
}
STATEMENTS = (nodes.Template, nodes.Output, nodes.For, nodes.If, nodes.Assign, nodes.Expr, nodes.Helper)


class TemplateFaultError(ValueError):
    """A template can't be rendered with these values: a short kind to count by, what is wrong, and how to mend it."""

    def __init__(self, kind: str, detail: str, remedy: str):
        self.kind, self.detail, self.remedy = kind, detail, remedy
        super().__init__(f"{detail}; {remedy}")


class BoundedGenerator(CodeGenerator):
    """Compiles `a ~ b` to a call that bounds the length of the text."""

    def visit_Concat(self, node: nodes.Concat, frame) -> None:  # noqa: N802 (the name is Jinja's)
        self.write("environment.joined((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment of all templates of the configuration."""

    code_generator_class = BoundedGenerator
    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self):
        super().__init__(undefined=StrictUndefined, optimized=False, finalize=printable, keep_trailing_newline=False)
        self.filters = {name: self.filters[name] for name in FILTERS}
        self.filters |= {"bounded": self.bounded, "replace": self.replaced, "join": self.join}
        self.globals = {"range": self.range}
        self.steps = 0

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        """Parse a template; refuse statements that a prompt does not need; bound each loop."""
        tree = super()._parse(source, name, filename)
        for node in tree.find_all(nodes.Stmt):
            if not isinstance(node, STATEMENTS) or getattr(node, "recursive", False):
                word = "recursive" if isinstance(node, nodes.For) else type(node).__name__.lower()
                raise TemplateSyntaxError(f"'{word}' is not allowed here", node.lineno, name, filename)
        for loop in list(tree.find_all(nodes.For)):
            loop.iter = nodes.Filter(loop.iter, "bounded", [], [], None, None, lineno=loop.lineno)
        return tree

    def bounded(self, items: Iterable) -> Iterable:
        """Pass on a loop's items, counting the turns of all loops of this rendering."""
        for item in items:
            self.steps += 1
            if self.steps > MAX_STEPS:
                raise SecurityError(f"loops take more than {MAX_STEPS} turns")
            yield item

    def range(self, *limits: int) -> range:
        """Return a range of bounded length."""
        result = range(*limits)
        if len(result) > MAX_STEPS:
            raise SecurityError(f"range() is longer than {MAX_STEPS}")
        return result

    def joined(self, parts: Iterable[Any]) -> str:
        """Return the parts as one text of bounded length."""
        texts = [str(part) for part in parts]
        check_length(sum(map(len, texts)))
        return "".join(texts)

    def join(self, parts: Iterable[Any], between: str = "") -> str:
        """Jinja's `join` filter, bounded."""
        texts = [str(part) for part in self.bounded(parts)]
        check_length(sum(map(len, texts)) + len(between) * len(texts))
        return between.join(texts)

    def replaced(self, text: Any, old: str, new: str) -> str:
        """Jinja's `replace` filter, bounded."""
        text = str(text)
        check_length(len(text) + text.count(old) * len(new))
        return text.replace(old, new)

    def call_binop(self, context, operator: str, left: Any, right: Any) -> Any:
        """Refuse operations whose result could be huge."""
        sized = [len(value) for value in (left, right) if isinstance(value, str | list | tuple)]
        factor = max([abs(value) for value in (left, right) if isinstance(value, int)] or [1])
        if operator == "%" and isinstance(left, str):
            raise SecurityError("'%' formats no text here: use '~'")
        if operator == "**" and max(abs(left), abs(right)) > 64:
            raise SecurityError("'**' takes numbers up to 64")
        check_length(sum(sized) * (factor if operator == "*" else 1))
        return super().call_binop(context, operator, left, right)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Allow the harmless methods of text, mappings, lists and of `loop`."""
        return any(isinstance(obj, kind) and attr in names for kind, names in METHODS.items())

    def rendered(self, template, values: dict) -> str:
        """Render a compiled template with one record's values. Raises TemplateFaultError with what is wrong."""
        self.steps = 0
        parts, length = [], 0
        try:
            for part in template.generate(**values):
                parts.append(part)
                length += len(part)
                check_length(length)
        except UndefinedError as error:
            known = ", ".join(map(str, values)) or "none"
            message = str(error.message).removesuffix(" is undefined")
            raise TemplateFaultError("missing field", f"has no field {message}", f"its fields are {known}") from None
        except NullValueError:
            raise TemplateFaultError(
                "null field", "a field that the template prints is null", "use default('', true)"
            ) from None
        except SecurityError as error:
            raise TemplateFaultError(
                "template limit", f"the template is stopped: {error.message}", "simplify it"
            ) from None
        except (TemplateError, ArithmeticError, TypeError, ValueError, LookupError, AttributeError) as error:
            raise TemplateFaultError(
                "template error", f"the template fails: {error}", "mend the template or the record"
            ) from None
        return "".join(parts)


class NullValueError(Exception):
    """A null was about to be printed as `None`."""


def printable(value: Any) -> Any:
    """Refuse to print null, which would put the word None in front of the model."""
    if value is None:
        raise NullValueError
    return value


def check_length(length: int) -> None:
    """Raise SecurityError for a text beyond the bound."""
    if length > MAX_TEXT:
        raise SecurityError(f"text grows beyond {MAX_TEXT} characters")


def compiled_template(sandbox: Sandbox, source: str, key: str):
    """Compile a template of the configuration. Raises UserError that names its key and the template's line."""
    if len(source) > MAX_TEMPLATE:
        raise UserError(f"{key}: the template is longer than {MAX_TEMPLATE} characters", remedy="shorten it")
    try:
        return sandbox.from_string(source)
    except TemplateSyntaxError as error:
        raise UserError(f"{key}: line {error.lineno} of the template: {error.message}", remedy="mend it") from None
    except RecursionError:
        raise UserError(f"{key}: the template is nested too deeply", remedy="simplify it") from None
