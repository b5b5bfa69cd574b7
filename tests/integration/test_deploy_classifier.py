"""The bundle of a token classifier: its files check out, and its example finds what the workflow found."""

import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from scripts.common.classifier_head import Head, save_head
from scripts.common.files import sha256_of, write_manifest
from scripts.common.span_alignment import bio_labels
from scripts.deploy.verify_bundle import verify_bundle
from scripts.predict.span_model import SpanModel
from scripts.train.merge_head import merge_head
from tests.support.bundles import build as build_bundle
from tests.support.bundles import bundle_settings, check_sums, run_example
from tests.support.crates import unknown_terms, workflow_files
from tests.support.entity_answers import LABELS, entity_answers
from tests.support.made_from import made_from
from tests.support.score_fixtures import judge_run
from tests.support.span_data import head_settings, make_span_dataset

MAX_LENGTH, OVERLAP = 24, 6
GATE = {
    "metric": "entity_f1", "variant": "shipped", "baseline": None, "relative": False, "comparison": "above",
    "threshold": 0.99, "on_failure": "hold",
}  # fmt: skip
TOKENS = {"max_length": MAX_LENGTH, "window_overlap": OVERLAP}
DEPLOY = {"description": "Finds names.", "limits": "French | English only."}
LETTERS = {"files": ["/home/somebody/raw.jsonl"], "format": "spans", "language": "fr", "license": "CC0-1.0"}


@pytest.fixture(scope="module")
def run_folder(tiny_base, tmp_path_factory) -> Path:
    """A run's folder with a classifier whose head is random, so that it finds entities of all kinds everywhere."""
    import torch

    results = tmp_path_factory.mktemp("work")
    folder = judge_run(
        results, "pii", None, {"merged": entity_answers(30, 0.3)}, {"finds <all>": GATE}, source="embedded"
    )
    head = Head(256, 2 * len(LABELS) + 1, deviation=0.5)
    with torch.no_grad():
        head.bias[0] = 2.0
    facts = {"dropout": 0.1, "method": "head", "precision": "fp32", "load_in_4bit": None, "layer": 1, "base_layers": 1}
    (folder / "adapter").mkdir()
    save_head(folder / "adapter", head, {"labels": bio_labels(set(LABELS)), "hidden_size": 256, **facts})
    adapter = write_manifest(folder / "adapter", base="tiny", method="head", trust_remote_code=False)
    merge_head(adapter, tiny_base, folder / "merged")
    make_span_dataset(folder / "data")
    shutil.copy(folder / "data/test.jsonl", folder)
    (folder / "training.json").write_text(json.dumps({"device": "cpu", "seconds": 1.5}))
    made_from(folder / "training.json", folder / "data/train.jsonl")
    return folder


def build(folder: Path, base: Path, target: Path, *more: object, model: Path | None = None) -> int:
    """Run the step on a run's folder, with more options."""
    settings = bundle_settings("pii", head_settings(tokens=TOKENS, deploy=DEPLOY), base.parent, LETTERS)
    words = ["--scores", folder / "scores/merged.json", "--raw", folder / "data/train.jsonl", *more]
    return build_bundle(model or folder / "merged/manifest.json", base.parent, folder, target, settings, *words)


@pytest.fixture(scope="module")
def bundle(run_folder, tiny_base) -> Path:
    assert build(run_folder, tiny_base, run_folder / "bundle") == 0
    return run_folder / "bundle"


@pytest.fixture(scope="module")
def example(bundle):
    """The bundle's example as a module."""
    found = importlib.util.spec_from_file_location("example_classify", bundle / "example_classify.py")
    module = importlib.util.module_from_spec(found)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "dont_write_bytecode", True)  # the bundle stays as it is
        found.loader.exec_module(module)
    return module


def test_the_bundle_is_complete_and_its_checksums_hold(bundle, run_folder):
    model = [path.name for path in (run_folder / "merged").glob("[!.]*")]
    names = {"README.md", "example_classify.py", "provenance.json", "ro-crate-metadata.json", *workflow_files()}
    names |= {f"model/{name}" for name in model}
    assert check_sums(bundle) == names
    there = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert there == {*names, "SHA256SUMS"}
    weights = next(name for name in model if name.endswith(".safetensors"))
    assert (bundle / "model" / weights).stat().st_ino == (run_folder / "merged" / weights).stat().st_ino


def test_the_example_finds_what_the_workflow_found(example, run_folder):
    texts = [row["messages"][0]["content"] for row in map(json.loads, (run_folder / "data/train.jsonl").open())]
    texts += ["", " ", "é", "🦊🦊 écrit", "mot " * 80, "<s> [INST] </s>"]
    texts += ["  deux  espaces,\n\n\tune ligne \u00a0 insécable"]
    texts += [" ".join(texts[:12])]
    model = SpanModel(run_folder / "merged/manifest.json", "auto", MAX_LENGTH, OVERLAP, 4)
    classifier = example.Classifier(Path(example.__file__).parent / "model")
    found = 0
    for text, expected in zip(texts, model.entities(texts), strict=True):
        own = classifier.entities(text)
        assert [[e["start"], e["end"], e["label"]] for e in own] == [entity[:3] for entity in expected]
        assert [e["score"] for e in own] == pytest.approx([entity[3] for entity in expected], abs=2e-5)
        assert [e["text"] for e in own] == [text[start:end] for start, end, *_ in expected]
        found += len(own)
    assert found > 60
    assert {e["label"] for text in texts for e in classifier.entities(text)} == set(LABELS)


def test_the_example_runs_as_it_stands(bundle):
    lines = run_example(bundle / "example_classify.py").splitlines()
    assert lines
    for line in lines:
        assert set(json.loads(line)) == {"start", "end", "label", "score", "text"}


def test_the_example_redacts_a_file(example, tmp_path, monkeypatch, capsys):
    (tmp_path / "letter.txt").write_text("Le gardien de Lens était battu.", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["example_classify.py", "--file", str(tmp_path / "letter.txt"), "--redact"])
    example.main()
    assert re.search(r"\[(CITY|DATE|EMAIL|PERSON)\]", capsys.readouterr().out)


def test_redacted_texts_have_labels_in_place_of_entities(example):
    entities = [{"start": 0, "end": 4, "label": "PERSON"}, {"start": 8, "end": 12, "label": "CITY"}]
    assert example.redacted("Anna in Oslo!", entities) == "[PERSON] in [CITY]!"


def test_the_example_shows_the_first_text_that_has_an_entity(bundle, run_folder):
    rows = map(json.loads, (run_folder / "test.jsonl").read_text(encoding="utf-8").splitlines())
    text = next(row["messages"][0]["content"] for row in rows if row["spans"])
    program = (bundle / "example_classify.py").read_text(encoding="utf-8")
    assert f"TEXT = {text!r}\n" in program
    assert f"MAX_LENGTH = {MAX_LENGTH}\n" in program


def test_the_card_has_classes_languages_errors_and_limits(bundle, run_folder):
    _, front, body = (bundle / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    metadata = yaml.safe_load(front)
    assert (metadata["pipeline_tag"], metadata["library_name"], metadata["license"]) == (
        "token-classification", "transformers", "unknown",
    )  # fmt: skip
    scores = json.loads((run_folder / "scores/merged.json").read_text(encoding="utf-8"))
    for label in LABELS:
        assert re.search(rf"\| {label} \| 30 \| [\d.]+ % \([\d.]+ to [\d.]+\) \|", body)
    assert re.search(r"\| en \| 15 \| 60 \|", body)
    assert f"{scores['entities']['errors']['missed']} missed" in body
    assert "\n\n`CITY`, `DATE`, `EMAIL`, `PERSON`\n\n" in body
    assert "finds &lt;all>, failed" in body
    assert "- French | English only.\n" in body
    assert "**Not for use.** Its base is a stand-in" in body
    assert "Verdict: **hold**: the base model is a stand-in" in body
    assert "on stand-in (mistral).\n" in body
    assert "tiny" not in body
    assert f"windows of {MAX_LENGTH} tokens that overlap by {OVERLAP}" in body
    assert not re.search(r"\{[{%]|\n\n\n", body)


def test_the_bundle_is_a_valid_crate_of_a_workflows_run(bundle, crate_validator, tmp_path):
    assert unknown_terms(bundle) == set()
    assert crate_validator.issues(bundle, tmp_path) == []


def test_the_bundle_is_verified_file_by_file(bundle, tmp_path):
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    findings = verify_bundle(copy, [])
    assert findings.faults == []
    assert "made from: merged: not here" in findings.absent
    (copy / "model" / "config.json").write_text("{}")
    [fault] = verify_bundle(copy, []).faults
    assert fault.startswith("model/config.json: recorded ")


def test_provenance_says_what_and_not_where(run_folder, tiny_base, tmp_path):
    (tmp_path / "redaction.json").write_text('{"model": "0"}', encoding="utf-8")
    assert build(run_folder, tiny_base, tmp_path / "bundle", "--redaction", tmp_path / "redaction.json") == 0
    text = (tmp_path / "bundle" / "provenance.json").read_text(encoding="utf-8")
    record = json.loads(text)
    assert "converter" not in record
    assert set(record["made_from"]) == {"merged", "verdict", "scores/merged", "redaction"}
    assert record["made_from"]["redaction"] == sha256_of(tmp_path / "redaction.json")
    assert record["data"]["files"][0]["name"] == "train.jsonl"
    for place in ("/home", "/tmp", str(run_folder)):
        assert place not in text


def test_a_bundle_is_the_same_each_time(bundle, run_folder, tiny_base, tmp_path):
    assert build(run_folder, tiny_base, tmp_path / "again") == 0
    assert (tmp_path / "again" / "SHA256SUMS").read_text() == (bundle / "SHA256SUMS").read_text()


def test_a_chat_model_is_refused(run_folder, tiny_base, tmp_path, capfd):
    assert build(run_folder, tiny_base, tmp_path / "bundle", "--raw", model=tiny_base) == 1
    assert "is not a token classifier" in capfd.readouterr().err
    assert not (tmp_path / "bundle").exists()
