"""What is wrong with a configuration, in the user's words."""

import difflib
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}


def sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the sections that an annotation mentions, however deep in mappings, lists and unions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from sections_in(argument)


def keys_at(root: type[BaseModel], parts: tuple) -> list[str]:
    """Return the keys that the section at this path knows; names of entries and positions in lists are passed over."""
    section = root
    for part in parts:
        if part in section.model_fields:
            section = next(sections_in(section.model_fields[part].annotation), section)
    return list(section.model_fields)


def closest(word: str, words: list[str]) -> str:
    """Return `, did you mean 'x'?` for the most similar word, one that it starts with or that starts it first."""
    prefixes = [known for known in words if word and known[0] == word[0] and (len(known) < 3 or word in known)]
    found = difflib.get_close_matches(word, words, n=1, cutoff=0.6) or prefixes[:1]
    return f", did you mean '{found[0]}'?" if found else f"; known keys: {', '.join(words)}"


def shown(value: Any) -> str:
    """Show a value as it stands in YAML, shortened."""
    kinds = {dict: "a mapping", list: "a list", type(None): "nothing", bool: str(value).lower()}
    text = kinds.get(type(value)) or (f"text '{value}'" if isinstance(value, str) else str(value))
    return text if len(text) <= 60 else text[:57] + "..."


def explanation(fault: dict, root: type[BaseModel]) -> str:
    """Say what is wrong and what is expected, for one error of pydantic's `ValidationError.errors()`."""
    kind, context, value = fault["type"], fault.get("ctx", {}), fault["input"]
    key = str(fault["loc"][-1]) if fault["loc"] else ""
    if kind == "extra_forbidden":
        return f"unknown key{closest(key, keys_at(root, fault['loc'][:-1]))}"
    if kind == "missing":
        return "is missing"
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        allowed = [word.strip("' ") for word in context["expected"].replace(" or ", ", ").split(", ")]
        near = difflib.get_close_matches(str(value), allowed, n=1, cutoff=0.6)
        hint = f", did you mean '{near[0]}'?" if near else ""
        return f"{shown(value)} is not one of {', '.join(allowed)}{hint}"
    if kind in EXPECTED:
        return f"expected {EXPECTED[kind]}, got {shown(value)}"
    if kind == "string_pattern_mismatch":
        return pattern_explanation(key, value, context["pattern"])
    bounds = {"greater_than": "gt", "greater_than_equal": "ge", "less_than": "lt", "less_than_equal": "le"}
    if kind in bounds:
        words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
        return f"must be {words[bounds[kind]]} {context[bounds[kind]]:g}, got {shown(value)}"
    if kind in ("too_short", "string_too_short"):
        return "may not be empty"
    if kind == "multiple_of":
        return f"must be a multiple of {context['multiple_of']}, got {shown(value)}"
    return f"{fault['msg'][0].lower()}{fault['msg'][1:]}, got {shown(value)}"


def pattern_explanation(key: str, value: Any, pattern: str) -> str:
    """Say what a text should have looked like."""
    if key == "revision":
        return f"{shown(value)} is not a commit hash: pin the 40 hex digits, for branches and tags move"
    if key == "version":
        return f"{shown(value)} is not a version such as v1.0"
    if key == "id":
        return f"{shown(value)} is not a repository id such as org/name"
    return f"{shown(value)} may hold letters, digits, '.', '_' and '-' only, and starts with a letter or digit"


def fault_line(fault: dict, root: type[BaseModel], place: tuple | None = None) -> str:
    """Return `place: what is wrong` for one error; `place` defaults to where pydantic found it."""
    parts = [str(part) for part in (fault["loc"] if place is None else place)]
    if parts and parts[-1] == "[key]":
        parts.pop()
    known = [part for part in parts if not part.startswith(("list[", "literal[", "function-", "constrained-"))]
    return f"{'.'.join(known) or 'config'}: {explanation(fault, root)}"
