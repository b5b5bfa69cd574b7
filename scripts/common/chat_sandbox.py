"""The sandbox of chat templates, which come with a model: as transformers sets it up, and with bounds.

Jinja's immutable sandbox keeps a template from Python's internals, but not from running for ever or from filling the
memory. Unlike the templates of the configuration (scripts/common/sandbox.py) a chat template may use all of Jinja:
macros, methods of text, every filter. So it is not told what it may use, but stopped when it takes too much.
"""

import functools
import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from scripts.common.sandbox import BoundedGenerator

MAX_SECONDS = 10.0  # of computing for one conversation; templates take milliseconds
MAX_TEXT = 20_000_000  # characters, or entries of a list, that a template makes at once, and that it writes
MAX_NUMBER = 1_000_000  # that a method or filter is given: a width, a count
MAX_TEMPLATE = 1_000_000  # characters of a template
WIDE = re.compile(r"\d{7}|%[^a-zA-Z%]*\*")


class ChatSandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox with bounds on time, text and lists."""

    code_generator_class = BoundedGenerator
    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self, **options):
        super().__init__(**options)
        self.filters = {name: self.guarded(used) for name, used in self.filters.items()} | {"_bounded": self.bounded}
        self.begun = time.thread_time()

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        """Parse a template, and have each loop ask whether there is time left."""
        if len(source) > MAX_TEMPLATE:
            raise SecurityError(f"it is longer than {MAX_TEMPLATE} characters")
        tree = super()._parse(source, name, filename)
        for loop in list(tree.find_all(nodes.For)):
            loop.iter = nodes.Filter(loop.iter, "_bounded", [], [], None, None, lineno=loop.lineno)
        return tree

    def check_time(self) -> None:
        """Raise SecurityError when the time is over."""
        if time.thread_time() - self.begun > MAX_SECONDS:
            raise SecurityError(f"it takes more than {MAX_SECONDS:g} seconds")

    def checked(self, value: Any) -> Any:
        """Return a value that is not too large."""
        self.check_time()
        if isinstance(value, str | list | tuple | dict) and len(value) > MAX_TEXT:
            raise SecurityError(f"it makes more than {MAX_TEXT} characters")
        return value

    def bounded(self, items: Iterable) -> Iterable:
        """Pass on a loop's items while there is time; what is no list stays what it is, for `loop.length`."""
        if isinstance(items, list | tuple | dict | range | str):
            items = list(items)
        return TimedList(items, self) if isinstance(items, list) else self.timed(items)

    def timed(self, items: Iterable) -> Iterator:
        """Yield items while there is time."""
        for item in items:
            self.check_time()
            yield item

    def joined(self, parts: Iterable[Any]) -> str:
        """Return the parts of `a ~ b` as one text."""
        texts = [str(part) for part in parts]
        if sum(map(len, texts)) > MAX_TEXT:
            raise SecurityError(f"it makes more than {MAX_TEXT} characters")
        self.check_time()
        return "".join(texts)

    def guarded(self, used: Callable) -> Callable:
        """Return a filter that takes no huge number and makes no huge text."""

        @functools.wraps(used)
        def bounded(*arguments, **options):
            check_numbers(arguments, options)
            if used.__name__ == "do_format" and WIDE.search(str(arguments[0])):
                raise SecurityError("it formats a very wide text")
            return self.checked(used(*arguments, **options))

        return bounded

    def call(self, context, called, *arguments, **options) -> Any:
        """Call a method, function or macro; the time is looked at, for macros may call each other for ever."""
        self.check_time()
        check_numbers(arguments, options)
        method = getattr(called, "__wrapped__", called)
        text = getattr(method, "__self__", None)
        if isinstance(text, str):
            if getattr(method, "__name__", "").startswith("format") and WIDE.search(text):
                raise SecurityError("it formats a very wide text")
            if method.__name__ == "replace" and len(arguments) > 1:
                self.checked_length(len(text) + text.count(str(arguments[0])) * len(str(arguments[1])))
            if method.__name__ == "join" and arguments:
                parts = list(arguments[0])
                self.checked_length(len(text) * len(parts) + sum(len(str(part)) for part in parts))
                arguments = (parts, *arguments[1:])
        return self.checked(super().call(context, called, *arguments, **options))

    def checked_length(self, length: int) -> None:
        """Raise SecurityError for a text that would be too long."""
        if length > MAX_TEXT:
            raise SecurityError(f"it makes more than {MAX_TEXT} characters")

    def call_binop(self, context, operator: str, left: Any, right: Any) -> Any:
        """Refuse operations whose result could be huge."""
        sized = sum(len(value) for value in (left, right) if isinstance(value, str | list | tuple))
        factor = max([abs(value) for value in (left, right) if isinstance(value, int)] or [1])
        if operator == "%" and isinstance(left, str):
            check_numbers(right if isinstance(right, tuple) else (right,), {})
            if WIDE.search(left):
                raise SecurityError("it formats a very wide text")
        if operator == "**" and max(abs(left), abs(right)) > MAX_NUMBER**0.5:
            raise SecurityError("it takes a huge power")
        self.checked_length(sized * (factor if operator == "*" else 1))
        return self.checked(super().call_binop(context, operator, left, right))

    def rendered(self, template, values: dict) -> str:
        """Render a compiled template. Raises jinja2.TemplateError, also where it takes too much."""
        self.begun = time.thread_time()
        parts, length = [], 0
        try:
            for part in template.generate(**values):
                parts.append(part)
                length += len(part)
                self.checked_length(length)
        except (RecursionError, MemoryError, OverflowError) as error:
            raise TemplateError(f"it takes too much ({type(error).__name__})") from None
        return "".join(parts)


class TimedList(list):
    """A list whose items are passed on while there is time."""

    def __init__(self, items: list, sandbox: ChatSandbox):
        super().__init__(items)
        self.sandbox = sandbox

    def __iter__(self) -> Iterator:
        return self.sandbox.timed(super().__iter__())


def check_numbers(arguments: Iterable, options: dict) -> None:
    """Raise SecurityError for a number that would make a huge text of a short one."""
    if any(isinstance(value, int) and abs(value) > MAX_NUMBER for value in (*arguments, *options.values())):
        raise SecurityError(f"it gives a method or filter a number beyond {MAX_NUMBER}")
