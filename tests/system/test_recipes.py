"""The shipped recipes, from raw file to bundle, on the models that are made here."""

import base64
import io
import json
import os
import re
import runpy
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from scripts.common.files import read_json, read_jsonl
from scripts.common.records import text_of
from tests.support.checkout import copy_of_the_checkout, make
from tests.support.llama_server import free_port, server
from tests.support.project import ROOT, planned_jobs

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
    assert bundle_of(checkout, "titles").exists()
    file = checkout / path
    before, times = file.read_bytes(), file.stat()
    file.write_bytes(edit(before))
    printed = make(checkout, "recipe", "NAME=titles", "ARGS=-n")
    file.write_bytes(before)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    planned = planned_jobs(printed).keys()
    assert again <= planned
    assert not kept & planned


def bundle_of(checkout: Path, recipe: str) -> Path:
    """Return the bundle of a recipe's run; make it if its test above has not run."""
    bundle = checkout / f"results/{recipe}/embedded/runs/{recipe}/bundle"
    if not bundle.exists():
        make(checkout, "recipe", f"NAME={recipe}")
    return bundle


def event_of(content: str) -> tuple[str, ...] | None:
    """Return minute, label and match of a prompt of football."""
    found = re.fullmatch(r"Minute (.*)\. Événement : (.*)\. Match : (.*)\.", content)
    return found and found.groups()


def card_of(content: str) -> tuple[dict]:
    """Return the card in a prompt of the stories."""
    return (dict(zip(("name", "type", "effect"), re.split(r"\n?[^\n:]*: ", content)[1:], strict=True)),)


def page_of(content: list[dict]) -> tuple[Path, str] | None:
    """Return file name and question of a prompt of the titles in which the image comes first."""
    return (content[0]["image"], content[1]["text"]) if content[0]["type"] == "image" else None


def news_of(content: str) -> tuple[str] | None:
    """Return the news in a prompt of the captions."""
    return (content.removeprefix("Write a caption: "),) if content.startswith("Write a caption: ") else None


@pytest.fixture
def example(monkeypatch) -> Callable[[str], dict]:
    """Return what a file of examples/ defines."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    return lambda name: runpy.run_path(str(ROOT / f"examples/{name}.py"))


ASKED = {
    "football": ("comment", event_of),
    "stories": ("generate_story", card_of),
    "titles": ("title", page_of),
    "captions": ("caption", news_of),
}


@pytest.mark.parametrize("recipe", ASKED)
def test_an_example_asks_the_served_bundle_as_the_test_split_was_asked(recipe, checkout, example, monkeypatch):
    bundle, (name, arguments_of) = bundle_of(checkout, recipe), ASKED[recipe]
    system = read_json(bundle / "provenance.json")["config"]["sections"]["run"]["deploy"]["system"]
    for row in read_jsonl(bundle.parent / "answers/q4_k_m.jsonl"):
        arguments = arguments_of(row["messages"][-1]["content"])
        if arguments and system in (None, text_of(row["messages"][0]["content"])):
            break
    if recipe == "titles":
        arguments = (bundle.parents[2] / "datasets/titles" / arguments[0], arguments[1])
    sent, replies, urlopen = [], [], urllib.request.urlopen

    def recording(request, timeout):
        sent.append(json.loads(request.data))
        with urlopen(request, timeout=timeout) as reply:
            replies.append(reply.read())
        return io.BytesIO(replies[-1])

    function = example(recipe)[name]
    with server(bundle) as url, monkeypatch.context() as patch:
        patch.setattr(urllib.request, "urlopen", recording)
        answer = function(*arguments, bundle=bundle, server=url)
    [asked], [reply] = sent, map(json.loads, replies)
    for part in asked["messages"][-1]["content"] if recipe == "titles" else ():
        if image := part.pop("image_url", None):
            program = runpy.run_path(str(bundle / "example_llama_cpp.py"))
            picture = Image.open(io.BytesIO(base64.b64decode(image["url"].partition(",")[2])))
            assert picture.tobytes() == program["scaled"](program["opened"](arguments[0])).tobytes()
            part |= {"type": "image", "image": row["messages"][-1]["content"][0]["image"]}
    assert asked == {"messages": row["messages"], "max_tokens": 8}
    assert reply["usage"]["prompt_tokens"] == row["prompt_tokens"]
    assert answer == reply["choices"][0]["message"]["content"].strip()
    with pytest.raises(RuntimeError, match=rf"no answer from {url} .*bundle/serve\.sh running"):
        function(*arguments, bundle=bundle, server=url)


def test_the_programs_of_the_page_on_applications_run(checkout, tmp_path, monkeypatch):
    bundle, port = bundle_of(checkout, "football"), free_port()
    page = (ROOT / "docs/how-to/use-in-an-app.md").read_text(encoding="utf-8")
    codes = re.findall(r"(?ms)^```python\n(.*?)^```", page)
    for name in ("football", "bundle_client", "quality_monitor"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(ROOT / "examples")
    monkeypatch.syspath_prepend(bundle)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BUNDLE", str(bundle))
    with server(bundle) as url:
        monkeypatch.setenv("SERVER", url)
        found = {}
        for code in codes:
            code = re.sub(r"/srv/[\w/-]+", str(bundle), code).replace("8000", str(port))
            exec(re.sub(r"http://127.0.0.1:808\d", url, code), found)
        assert [type(text) for text in found["comments"]] == [str, str, str]
        found["watched_comment"]("anna", "12'", "goal")
        thread = threading.Thread(target=found["service"].serve_forever)
        thread.start()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/?minute=12&event=goal") as reply:
                assert list(json.load(reply)) == ["comment"]
            with pytest.raises(urllib.error.HTTPError, match="400"):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/?minute=12&event=rain")
        finally:
            found["service"].shutdown()
            found["service"].server_close()
            thread.join()
    with pytest.raises(RuntimeError, match=r"serve\.sh"):
        found["watched_comment"]("anna", "13'", "goal")
    report = found["monitor"].get_comparison_report()
    assert sum(report[model]["errors"] for model in ("old", "new")) == 1


def test_a_text_is_redacted_as_the_test_split_was_read(checkout, example):
    bundle = bundle_of(checkout, "pii")
    redact = example("pii")["redact"]
    rows = [row for row in read_jsonl(bundle.parent / "answers/merged.jsonl") if json.loads(row["answer"])]
    text, found = rows[0]["text"], json.loads(rows[0]["answer"])
    redacted = redact(text, bundle)
    labels = re.findall(r"\[([A-Z_]+)\]", redacted)
    assert labels == [entity["label"] for entity in found]
