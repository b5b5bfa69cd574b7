"""The bundle of a token classifier: its files check out, and its example finds what the workflow found."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from scripts.common.classifier_head import Head, save_head
from scripts.common.config.datasets import Dataset
from scripts.common.config.models import Model
from scripts.common.config.project import Project
from scripts.common.files import sha256_of, write_manifest
from scripts.common.span_alignment import bio_labels
from scripts.deploy.build_classifier_bundle import first_text, main
from scripts.deploy.verify_bundle import verify_bundle
from scripts.predict.span_model import SpanModel
from scripts.train.merge_head import merge_head
from tests.support.crates import unknown_terms, workflow_files
from tests.support.entity_answers import LABELS, entity_answers
from tests.support.score_fixtures import judge_run
from tests.support.span_data import head_settings, make_span_dataset

MAX_LENGTH, OVERLAP = 24, 6
GATE = {
    "metric": "entity_f1", "variant": "shipped", "baseline": None, "relative": False, "comparison": "above",
    "threshold": 0.99, "on_failure": "hold",
}  # fmt: skip


def sections(**deploy) -> dict:
    """Return the settings of the step, as the rule gives them."""
    tokens = {"max_length": MAX_LENGTH, "window_overlap": OVERLAP}
    deploy = {"description": "Finds names.", "limits": "French | English only."} | deploy
    return {
        "run_key": "pii",
        "model_key": "tiny",
        "dataset_key": "letters",
        "project": Project().model_dump(mode="json"),
        "run": head_settings(tokens=tokens, deploy=deploy),
        "model": Model(path="/home/somebody/models/tiny").model_dump(mode="json"),
        "dataset": Dataset(
            files=["/home/somebody/raw.jsonl"], format="spans", language="fr", license="CC0-1.0"
        ).model_dump(mode="json"),
    }


@pytest.fixture(scope="module")
def run_folder(tiny_base, tmp_path_factory) -> Path:
    """A run's folder with a classifier whose head is random, so that it finds entities of all kinds everywhere."""
    import torch

    results = tmp_path_factory.mktemp("work")
    folder = judge_run(results, "pii", None, {"merged": entity_answers(30, 0.3)}, {"finds <all>": GATE})
    head = Head(256, 2 * len(LABELS) + 1, deviation=0.5)
    with torch.no_grad():
        head.bias[0] = 2.0
    facts = {"dropout": 0.1, "method": "head", "precision": "fp32", "load_in_4bit": None}
    (folder / "adapter").mkdir()
    save_head(folder / "adapter", head, {"labels": bio_labels(set(LABELS)), "hidden_size": 256, **facts})
    adapter = write_manifest(folder / "adapter", base="tiny", method="head", trust_remote_code=False)
    merge_head(adapter, tiny_base, folder / "merged")
    make_span_dataset(folder / "data")
    (folder / "training.json").write_text(json.dumps({"device": "cpu", "seconds": 1.5}))
    return folder


def build(folder: Path, base: Path, target: Path, *more: object) -> int:
    """Run the step, with more options if given."""
    words = [
        folder / "merged/manifest.json",
        "--verdict",
        folder / "verdict.json",
        "--scores",
        folder / "scores/merged.json",
    ]
    words += ["--base", base, "--training", folder / "training.json", "--test", folder / "data/test.jsonl"]
    words += ["--raw", folder / "data/train.jsonl", "--read", f"model.path={base.parent}", "--folder", target]
    return main([*map(str, [*words, *more]), "--settings", json.dumps(sections())])


@pytest.fixture(scope="module")
def bundle(run_folder, tiny_base) -> Path:
    assert build(run_folder, tiny_base, run_folder / "bundle") == 0
    return run_folder / "bundle"


@pytest.fixture(scope="module")
def example(bundle):
    """The bundle's example as a module."""
    found = importlib.util.spec_from_file_location("example_classify", bundle / "example_classify.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_the_bundle_is_complete_and_its_checksums_hold(bundle, run_folder):
    names = sorted(path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file())
    model = sorted(path.name for path in (run_folder / "merged").glob("[!.]*"))
    others = ["README.md", "SHA256SUMS", "example_classify.py", "provenance.json", "ro-crate-metadata.json"]
    others += workflow_files()
    assert names == sorted([*others, *(f"model/{name}" for name in model)])
    checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=bundle, capture_output=True, text=True, check=True)
    assert checked.stdout.count(": OK\n") == len(names) - 1
    weights = next(name for name in model if name.endswith(".safetensors"))
    assert (bundle / "model" / weights).stat().st_ino == (run_folder / "merged" / weights).stat().st_ino


def test_the_example_finds_what_the_workflow_found(example, run_folder):
    texts = [row["messages"][0]["content"] for row in map(json.loads, (run_folder / "data/train.jsonl").open())]
    texts += [
        "",
        " ",
        "é",
        "🦊🦊 écrit",
        "  deux  espaces,\n\n\tune ligne \u00a0 insécable",
        "mot " * 80,
        "<s> [INST] </s>",
    ]
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


def test_the_example_runs_as_it_stands(bundle, tmp_path):
    surroundings = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, str(bundle / "example_classify.py")]
    found = subprocess.run(command, cwd=tmp_path, env=surroundings, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout
    for line in found.stdout.splitlines():
        assert set(json.loads(line)) == {"start", "end", "label", "score", "text"}


def test_the_example_redacts_a_file(example, tmp_path, monkeypatch, capsys):
    (tmp_path / "letter.txt").write_text("Le gardien de Lens était battu.", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["example_classify.py", "--file", str(tmp_path / "letter.txt"), "--redact"])
    example.main()
    assert re.search(r"\[(CITY|DATE|EMAIL|PERSON)\]", capsys.readouterr().out)


def test_redacted_texts_have_labels_in_place_of_entities(example):
    entities = [{"start": 0, "end": 4, "label": "PERSON"}, {"start": 8, "end": 12, "label": "CITY"}]
    assert example.redacted("Anna in Oslo!", entities) == "[PERSON] in [CITY]!"


def test_the_example_shows_a_text_that_has_an_entity(bundle, run_folder):
    text = first_text(run_folder / "data/test.jsonl")
    assert f"TEXT = {text!r}" in (bundle / "example_classify.py").read_text(encoding="utf-8")
    assert f"MAX_LENGTH = {MAX_LENGTH}" in (bundle / "example_classify.py").read_text(encoding="utf-8")


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
    assert "finds 4 kinds of entities" in body
    assert "`CITY`, `DATE`, `EMAIL`, `PERSON`" in body
    assert "finds &lt;all>, failed" in body
    assert "- French | English only." in body
    assert "Its base is a tiny model" in body
    assert f"windows of {MAX_LENGTH} tokens that overlap by {OVERLAP}" in body


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


def test_provenance_says_what_and_not_where(bundle, run_folder):
    text = (bundle / "provenance.json").read_text(encoding="utf-8")
    record = json.loads(text)
    assert "converter" not in record
    assert set(record["made_from"]) == {"merged", "verdict", "scores/merged"}
    assert record["data"]["files"][0]["name"] == "train.jsonl"
    for place in ("/home", "/tmp", str(run_folder)):
        assert place not in text


def test_provenance_has_the_hash_of_the_facts_on_a_redaction(run_folder, tiny_base, tmp_path):
    (tmp_path / "redaction.json").write_text('{"model": "0"}', encoding="utf-8")
    assert build(run_folder, tiny_base, tmp_path / "bundle", "--redaction", tmp_path / "redaction.json") == 0
    record = json.loads((tmp_path / "bundle" / "provenance.json").read_text(encoding="utf-8"))
    assert record["made_from"]["redaction"] == sha256_of(tmp_path / "redaction.json")


def test_a_bundle_is_the_same_each_time(run_folder, tiny_base, tmp_path):
    sums = []
    for name in ("once", "again"):
        assert build(run_folder, tiny_base, tmp_path / name) == 0
        sums.append((tmp_path / name / "SHA256SUMS").read_text())
    assert sums[0] == sums[1]


def test_a_chat_model_is_refused(run_folder, tiny_base, tmp_path, capfd):
    words = [
        tiny_base,
        "--verdict",
        run_folder / "verdict.json",
        "--base",
        tiny_base,
        "--test",
        run_folder / "data/test.jsonl",
    ]
    words += ["--training", run_folder / "training.json", "--folder", tmp_path / "bundle"]
    assert main([*map(str, words), "--settings", json.dumps(sections())]) == 1
    assert "is no token classifier" in capfd.readouterr().err
    assert not (tmp_path / "bundle").exists()
