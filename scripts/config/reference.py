"""Generate reference pages, editor schema and list of metrics from the schema's classes and the metrics."""

import argparse
import ast
import datetime
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from scripts.config.faults import sections_in
from scripts.config.root import Config
from scripts.score.metrics import METRICS, MODULES

ROOT = Path(__file__).resolve().parents[2]
PAGE = Path("docs/reference/configuration.md")
SCHEMA = Path("config/schema.json")
METRICS_PAGE = Path("docs/reference/metrics.md")
TABLE_START, TABLE_END = "<!-- Made by `make docs` from the decorators: -->\n", "<!-- End of the table. -->\n"
INTRODUCTION = """# Configuration

<!-- Made by `make docs` from scripts/config; do not edit. -->

One YAML file describes datasets, models, runs and gates. It is checked before any job runs: unknown keys, wrong types
and conflicting settings are reported in one line each, all at once. `<name>` stands for a name that you choose
(letters, digits, `.`, `_` and `-`). A key marked `(required)` has no default.

Several files can be combined: `snakemake --configfile config/recipes/football.yaml config/embedded.yaml`. Later files
replace settings of earlier ones. For completion in your editor, refer to the schema in the first line of a file in
`config/`: `# yaml-language-server: $schema=schema.json`.
"""
TYPE_NAMES = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Any: "anything",
    datetime.date: "date",
}
BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "multiple_of": "multiple of"}


def editor_schema() -> dict:
    """Return the JSON schema for editors; a file may also contain only `override`."""
    schema = Config.model_json_schema()
    required = schema.pop("required")
    choice = [{"required": required}, {"required": ["override"]}]
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": dialect, **schema, "title": "snaketune configuration", "anyOf": choice}


def section_lines(section: type[BaseModel], place: tuple[str, ...]) -> Iterator[str]:
    """Yield the lines of a section and then of its subsections."""
    if place:
        yield f"{'#' * min(len([p for p in place if p != '<name>']) + 1, 4)} `{'.'.join(place)}`\n"
        yield f"{section.__doc__}\n"
    fields = section.model_fields.items()
    rows = [(key, field) for key, field in fields if place or not list(sections_in(field.annotation))]
    if rows:
        yield "| key | type | default | |\n|---|---|---|---|"
        yield from (
            f"| `{key}` | {type_text(field)} | {default_text(field)} | {cell(field.description)} |"
            for key, field in rows
        )
        yield ""
    for key, field in fields:
        for below in sections_in(field.annotation):
            kind = container(field.annotation)
            name = f"{key}[]" if kind is list else key
            yield from section_lines(below, (*place, name, *(["<name>"] if kind is dict else [])))


def container(annotation: Any) -> type | None:
    """Return dict or list if a field is a mapping or a list, optional or not; otherwise None."""
    kinds = [get_origin(annotation), *(get_origin(argument) for argument in get_args(annotation))]
    return next((kind for kind in kinds if kind in (dict, list)), None)


def type_text(field: FieldInfo) -> str:
    """Return a field's type in words, with its bounds."""
    bounds = [(BOUNDS[key], getattr(item, key)) for item in field.metadata for key in BOUNDS if hasattr(item, key)]
    return ", ".join([annotation_text(field.annotation), *(f"{word} {value:g}" for word, value in bounds)])


def annotation_text(annotation: Any) -> str:
    """Return an annotation in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return annotation_text(arguments[0])
    if origin is Literal:
        return " \\| ".join(f"`{value}`" for value in arguments)
    if origin in (Union, UnionType):
        return " \\| ".join(annotation_text(argument) for argument in arguments if argument is not NoneType)
    if origin is list:
        return f"list of {annotation_text(arguments[0])}"
    if origin is dict:
        return f"mapping of name to {annotation_text(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return TYPE_NAMES[annotation]


def default_text(field: FieldInfo) -> str:
    """Return a field's default as text."""
    if field.default is PydanticUndefined:
        return "(required)"
    if field.default is None:
        return "none"
    if isinstance(field.default, BaseModel):
        return "see below"
    return f"`{json.dumps(field.default, ensure_ascii=False)}`"


def cell(text: str | None) -> str:
    """Return text escaped for a table cell."""
    return (text or "").replace("|", "\\|").replace("\n", " ")


def metrics_table() -> str:
    """Return the table of metrics; formula and source are a docstring's paragraphs after the first."""
    formulas = {}
    for module in MODULES:
        for function in ast.parse((ROOT / f"scripts/score/{module}.py").read_bytes()).body:
            for decorator in getattr(function, "decorator_list", []):
                named = [word.value.value for word in getattr(decorator, "keywords", []) if word.arg == "name"]
                rest = (ast.get_docstring(function) or "").partition("\n\n")[2]
                formulas[(named or [function.name])[0]] = " ".join(rest.split())
    rows = [
        f"| `{name}` | {entry.meaning} | {formulas[name]} | {entry.direction} | {'yes' if entry.quality else ''} |"
        for name, entry in METRICS.items()
    ]
    head = ["| key | what it is | formula and source | better | quality |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows, ""])


def generated_files() -> dict[Path, str]:
    """Return the text of each generated file by its path in the repository."""
    schema = json.dumps(editor_schema(), ensure_ascii=False, indent=2) + "\n"
    before, _, after = (ROOT / METRICS_PAGE).read_text(encoding="utf-8").partition(TABLE_START)
    metrics = before + TABLE_START + "\n" + metrics_table() + "\n" + TABLE_END + after.partition(TABLE_END)[2]
    page = "\n".join([INTRODUCTION, *section_lines(Config, ())])
    return {METRICS_PAGE: metrics, PAGE: page, SCHEMA: schema}


def main(argv=None) -> int:
    """Write the generated files."""
    argparse.ArgumentParser(description=__doc__).parse_args(argv)
    for path, text in generated_files().items():
        (ROOT / path).write_text(text, encoding="utf-8")
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
