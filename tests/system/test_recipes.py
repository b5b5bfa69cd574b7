"""The shipped recipes, from raw file to bundle, on the models that are made here."""

import os
import re

import pytest

from scripts.common.files import read_json
from tests.support.checkout import copy_of_the_checkout, make
from tests.support.project import planned_jobs

SERVED = ("Modelfile", "README.md", "SHA256SUMS")
# The runs of each recipe, and what has to be among the files of their bundles.
RECIPES = {
    "football": {"football": SERVED},
    "stories": {"stories": SERVED},
    "titles": {"titles": (*SERVED, "mmproj.gguf")},
    "pii": {"pii": ("model", "example_classify.py", "SHA256SUMS"), "pii-prompted": (), "pii-generated": SERVED},
    "captions": {"captions": SERVED, "captions-phi3": SERVED},
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A checkout in which the recipes run, one after another."""
    return copy_of_the_checkout(tmp_path_factory.mktemp("recipes"))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_runs_from_end_to_end_on_the_embedded_model(checkout, recipe):
    printed = make(checkout, "recipe", f"NAME={recipe}")
    for run, shipped in RECIPES[recipe].items():
        assert re.search(rf"^{run} (promote|hold|rollback): ", printed, re.MULTILINE)
        bundle = checkout / f"results/{recipe}/embedded/runs/{run}/bundle"
        assert all((bundle / name).exists() for name in shipped), sorted(bundle.iterdir())
        assert bundle.exists() == bool(shipped)
        assert "only the path was tried" in read_json(bundle.parent / "verdict.json")["reason"]


@pytest.mark.parametrize(
    ("path", "edit", "again", "kept"),
    [
        ("data/titles/documents/en-report-1.png", lambda old: old + b"\n", {"ingest_records", "train_adapter"}, set()),
        (
            "config/recipes/titles.yaml",
            lambda old: old.replace(b"train_vision_tower: false", b"train_vision_tower: false, longest_edge: 196"),
            {"tokenize_conversations", "train_adapter", "predict_with_llama"},
            {"ingest_records", "split_records"},
        ),
    ],
    ids=["an image", "the longest edge"],
)
def test_what_an_edit_of_the_titles_runs_again(checkout, path, edit, again, kept):
    make(checkout, "recipe", "NAME=titles")
    file = checkout / path
    before, times = file.read_bytes(), file.stat()
    file.write_bytes(edit(before))
    printed = make(checkout, "recipe", "NAME=titles", "ARGS=-n")
    file.write_bytes(before)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    planned = planned_jobs(printed).keys()
    assert again <= planned
    assert not kept & planned
