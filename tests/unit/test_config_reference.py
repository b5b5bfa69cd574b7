"""The reference page and the editor schema are those that the schema's classes give, and the shipped files fit them."""

import jsonschema
import pytest
import yaml

from scripts.config.faults import sections_in
from scripts.config.reference import ROOT, generated_files
from scripts.config.root import Config

SHIPPED = sorted([*(ROOT / "config").glob("*.yaml"), *(ROOT / "config/recipes").glob("*.yaml")])
FILES = generated_files()


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_generated_file_is_the_one_that_the_classes_give(path):
    assert (ROOT / path).read_text(encoding="utf-8") == FILES[path], f"{path} is stale: make docs"


def paths_without_description(section=Config, start=""):
    """Yield the dotted path of each key that has no description."""
    for key, field in section.model_fields.items():
        if not field.description:
            yield start + key
        for below in sections_in(field.annotation):
            yield from paths_without_description(below, f"{start}{key}.")


def test_every_key_is_described():
    assert list(paths_without_description()) == []


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_file_fits_the_editor_schema_and_names_it(path):
    schema = ROOT / "config/schema.json"
    text = path.read_text(encoding="utf-8")
    named = text.splitlines()[0].removeprefix("# yaml-language-server: $schema=")
    assert (path.parent / named).resolve() == schema
    jsonschema.validate(yaml.safe_load(text), yaml.safe_load(schema.read_text(encoding="utf-8")))
