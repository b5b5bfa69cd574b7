"""Bundles of each kind of run: files that check out, examples that run, a card and a record that tell no secrets."""

import itertools
import json
import os
import re
import runpy
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest
import torch
import yaml
from PIL import Image

from scripts.common.errors import UserError
from scripts.common.files import read_json, read_jsonl, sha256_of, write_manifest
from scripts.common.vision import image_grid, load_image
from scripts.config.runs import Run
from scripts.deploy.build_bundle import vision_limits
from scripts.deploy.serving_files import OPTIONS
from scripts.deploy.verify_bundle import verify_bundle
from scripts.gguf.check_parity import main as check_parity
from scripts.gguf.llama_vision import prepared_image, read_image_spec
from scripts.gguf.quantize_gguf import quantize_gguf
from scripts.predict.predict_with_llama import main as predict
from scripts.predict.span_model import SpanModel
from scripts.train.classifier_head import Head, save_head
from scripts.train.merge_head import merge_head
from scripts.train.span_alignment import bio_labels
from tests.support.bundles import build as build_bundle
from tests.support.bundles import bundle_settings, check_sums, run_example
from tests.support.crates import unknown_terms, workflow_files
from tests.support.data import load
from tests.support.entity_answers import LABELS, entity_answers
from tests.support.gguf_files import write_test_records
from tests.support.made_from import made_from
from tests.support.modelfile import parse_modelfile
from tests.support.project import ROOT
from tests.support.score_fixtures import gate, judge_run
from tests.support.span_data import answer_settings, head_settings, make_span_dataset
from tests.support.tiny_model import copy_model
from tests.support.vision_run import SIZES, image_question

CRATE = "ro-crate-metadata.json"
SYSTEM = 'Tu commentes le match « Lens – Brest\u202f».\nUne "phrase".'
ALWAYS = {"README.md", "provenance.json", CRATE, *workflow_files()}
SERVING = {"Containerfile", "serve.sh", "snaketune.service", "vllm.sh"}
OF_GGUF = {"Modelfile", "example_llama_cpp.py", "example_transformers.py", "quality_monitor.py", *SERVING}
FACTS = {"name": "tiny", "source": "path", "id": None, "revision": None}
FOUND = {"own_metrics": {}, "records": 2, "answer_kind": "text", "asked": None, "by_label": {}, "people": None}
DEPLOY = {"description": "Comments.", "limits": "Knows no | rules.", "parameters": {"temperature": 0.5}}
GATES = {"loss": {"metric": "perplexity", "comparison": "below", "threshold": 9.0}}
WINDOW, OVERLAP = 24, 6
KINDS = load("bundles.yaml")


def write(path: Path, value) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return path


def section_of(dataset: str, **sections) -> dict:
    """Return the section of a run, with defaults filled in."""
    quick = {"parity": {"prompts": 2}, "generation": {"max_new_tokens": 6}}
    return Run.model_validate({"dataset": dataset, "model": "tiny", **quick, **sections}).model_dump(mode="json")


def vision_section(**sections) -> dict:
    deploy = {"parameters": {"temperature": 0.0, "repeat_penalty": 1.0}}
    return section_of("titles", task="vision", quants=["bf16"], deploy=deploy, **sections)


def settings_of(folder: Path, system: str | None = SYSTEM, **run) -> dict:
    """Return the settings of the step for the run of a text model."""
    section = section_of("commentary", quants=["bf16", "q8_0"], deploy={**DEPLOY, "system": system}, **run)
    dataset = {"files": ["/home/somebody/raw.json"], "format": "messages", "language": "fr", "license": "CC0-1.0"}
    return bundle_settings("football", section, folder / "merged", dataset, gates=GATES)


@pytest.fixture(scope="module")
def run_folder(tiny_base, tiny_gguf, tmp_path_factory) -> Path:
    """The folder of a text model's run, with all that a bundle is made of."""
    folder = tmp_path_factory.mktemp("run")
    merged = copy_model(tiny_base.parent, folder / "merged")
    write_manifest(merged, **FACTS, license="CC0-1.0", architecture="mistral")
    test = write_test_records(folder / "test.jsonl")
    quantize_gguf(tiny_gguf, folder / "gguf" / "q8_0.gguf", "q8_0", 2)
    words = [str(merged), str(tiny_gguf), "--test", str(test), "--output", str(folder / "parity.json")]
    assert check_parity([*words, "--settings", json.dumps(settings_of(folder)["run"])]) == 0
    for variant, value, devices in (("base", 9.5, {"devices": ["cpu"]}), ("q8_0", 4.25, {})):
        metrics = {"perplexity": {"value": value, "low": value - 1, "high": value + 1, "n": 2}, "bleu": None}
        write(folder / "scores" / f"{variant}.json", {**FOUND, **devices, "variant": variant, "metrics": metrics})
    judged = {"name": "learned", "metric": "perplexity", "passed": None, "reason": "It is <b>open</b> | for now"}
    write(
        folder / "verdict.json",
        {"run": "football", "verdict": "hold", "shipped": "q8_0", "reason": "failed: loss", "gates": [judged]},
    )
    write(folder / "training.json", {"device": "cpu", "versions": {"torch": "2.13.0"}, "seconds": 1.5})
    made_from(test, write(folder / "raw.json", "[]"))
    own, predicted = f"{folder.name}.tsv", "predict/predict_with_llama/football"
    benchmarks = {"gguf/fetch_converter.tsv": 2.5, f"train/train_adapter/{own}": 1800.0, f"{predicted}.q8_0.tsv": 7.5}
    others = (f"train/plot_curve/{own}", "train/train_adapter/another.tsv", f"{predicted}.q4_0.tsv")
    for name, seconds in (benchmarks | dict.fromkeys(others, 9.0)).items():
        times = f"s\th:m:s\tmax_rss\n1.0\t0:00:01\t1.0\n{seconds}\t0:00:02\t2.0\n"
        write(folder / "benchmarks" / name, times)
    return folder


def build(folder: Path, target: Path, settings: dict, *more: object) -> int:
    """Run the step on the folder of a text model's run, with more options."""
    words = ["--parity", folder / "parity.json", "--raw", folder / "raw.json", "--benchmarks", folder / "benchmarks"]
    words += ["--scores", folder / "scores/base.json", folder / "scores/q8_0.json"]
    return build_bundle(folder / "gguf/q8_0.gguf", folder / "merged", folder, target, settings, *words, *more)


@pytest.fixture(scope="module")
def vision_folder(tiny_vision, tmp_path_factory) -> Path:
    """The folder of a vision run."""
    folder = tmp_path_factory.mktemp("run")
    merged = copy_model(tiny_vision.merged, folder / "merged")
    write_manifest(merged, **FACTS, license=None, architecture="mistral3")
    words = [merged, tiny_vision.gguf, "--mmproj", tiny_vision.mmproj, "--images", tiny_vision.data]
    words += ["--test", tiny_vision.test, "--output", folder / "parity.json", "--threads", "2"]
    assert check_parity([*map(str, words), "--settings", json.dumps(vision_section())]) == 0
    write(folder / "images.json", {"files": {}})
    write(
        folder / "verdict.json",
        {"run": "titles", "verdict": "hold", "shipped": "bf16", "reason": "no gate", "gates": []},
    )
    write(folder / "training.json", {"device": "cpu", "versions": {}, "seconds": 1.0})
    return folder


@pytest.fixture(scope="module")
def classifier_folder(tiny_base, tmp_path_factory) -> Path:
    """The folder of a classifier's run; its head is random, so that it finds entities of all kinds everywhere."""
    answers, gates = {"merged": entity_answers(30, 0.3)}, {"finds <all>": gate("entity_f1", threshold=0.99)}
    folder = judge_run(tmp_path_factory.mktemp("work"), "pii", None, answers, gates, source="embedded")
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
    made_from(write(folder / "training.json", {"device": "cpu", "seconds": 1.5}), folder / "data/train.jsonl")
    return folder


@pytest.fixture(scope="module")
def build_kind(run_folder, vision_folder, classifier_folder, tiny_base, tiny_vision) -> Callable[..., int]:
    """Run the step on the files of a kind of run."""
    titles = {"files": ["raw.jsonl"], "format": "messages", "images": str(tiny_vision.data)}
    letters = {"files": ["/home/somebody/raw.jsonl"], "format": "spans", "language": "fr", "license": "CC0-1.0"}
    words = ["--mmproj", tiny_vision.mmproj, "--images", vision_folder / "images.json", "--test", tiny_vision.test]
    seen = [*words, "--parity", vision_folder / "parity.json"]
    scored = ["--scores", classifier_folder / "scores/merged.json", "--raw", classifier_folder / "data/train.jsonl"]
    section = head_settings(
        tokens={"max_length": WINDOW, "window_overlap": OVERLAP},
        deploy={"description": "Finds names.", "limits": "French | English only."},
    )

    def run(kind: str, target: Path, *more: object) -> int:
        if kind == "text":
            return build(run_folder, target, settings_of(run_folder), *more)
        if kind == "images":
            settings = bundle_settings("titles", vision_section(), vision_folder / "merged", titles)
            files = (tiny_vision.gguf, vision_folder / "merged", vision_folder, target)
            return build_bundle(*files, settings, *seen, *more)
        settings = bundle_settings("pii", section, tiny_base.parent, letters)
        files = (classifier_folder / "merged/manifest.json", tiny_base.parent, classifier_folder, target)
        return build_bundle(*files, settings, *scored, *more)

    return run


@pytest.fixture(scope="module")
def bundles(build_kind, run_folder, vision_folder, classifier_folder) -> dict[str, Path]:
    """A bundle of each kind, beside its run's merged model."""
    folders = {"text": run_folder, "images": vision_folder, "entities": classifier_folder}
    assert [build_kind(kind, folder / "bundle") for kind, folder in folders.items()] == [0] * len(folders)
    return {kind: folder / "bundle" for kind, folder in folders.items()}


def test_the_monitor_of_a_bundle_has_the_language_and_the_generic_phrases_of_the_run(run_folder, tmp_path):
    settings = settings_of(run_folder, score={"generic_phrases": ["quel(le)? \\w+", "l'été"]})
    assert build(run_folder, tmp_path / "bundle", settings) == 0
    monitor = runpy.run_path(str(tmp_path / "bundle/quality_monitor.py"))["ABTestMonitor"](tmp_path / "monitor.sqlite")
    assert (monitor.settings["language"], monitor.settings["models"]) == ("fr", ["old", "new"])
    for text in ("L’été arrive.", "C'est fini."):
        monitor.log_metric(model="new", text=text)
    report = monitor.get_comparison_report()["new"]
    assert (report["generic_phrase_rate"], report["avg_length"]) == (0.5, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_is_complete_its_checksums_hold_and_it_is_the_same_each_time(bundles, build_kind, kind, tmp_path):
    bundle = bundles[kind]
    model = {path.relative_to(bundle).as_posix() for path in (*bundle.glob("*.gguf"), *bundle.glob("model/*"))}
    names = ALWAYS | model | ({"example_classify.py"} if kind == "entities" else OF_GGUF)
    assert check_sums(bundle) == names
    files = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert files == {*names, "SHA256SUMS"}
    if kind != "entities":
        served = [value for key, value in parse_modelfile((bundle / "Modelfile").read_text()) if key == "from"]
        assert sorted(served) == sorted(f"./{path.name}" for path in bundle.glob("*.gguf"))
    assert verify_bundle(bundle, []).faults == []
    assert {path.stat().st_nlink > 1 for path in bundle.glob("model/*.safetensors")} <= {True}  # linked, not copied
    assert build_kind(kind, tmp_path / "again") == 0
    assert (tmp_path / "again" / "SHA256SUMS").read_bytes() == (bundle / "SHA256SUMS").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_a_card_has_metadata_results_and_limits(bundles, kind):
    _, front, body = (bundles[kind] / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert KINDS[kind]["metadata"].items() <= yaml.safe_load(front).items()
    assert [text for text in KINDS[kind]["said"] if text not in body] == []
    assert not re.search(rf"{KINDS[kind]['unsaid']}|\{{[{{%]|\n\n\n", body)


@pytest.mark.parametrize("kind", KINDS)
def test_provenance_says_what_and_not_where(bundles, run_folder, classifier_folder, kind):
    for name in ("provenance.json", CRATE):
        text = (bundles[kind] / name).read_text()
        assert socket.gethostname() not in re.findall(r"[\w.-]+", text)
        places = (run_folder, classifier_folder, os.path.expanduser("~"), ROOT, sys.prefix)
        for place in ("/home", "/tmp", "/work", *map(str, places)):
            assert not re.findall(rf"(?<![\w.]){re.escape(place)}\b", re.sub("https?://", "", text)), place
    record = read_json(bundles[kind] / "provenance.json")
    assert set(record["made_from"]) == set(KINDS[kind]["made_from"])
    assert ("converter" in record) == (kind != "entities")


def test_provenance_has_seeds_devices_and_times(bundles, run_folder):
    """Its hashes are held against the files in test_verify_bundle.py."""
    record = read_json(bundles["text"] / "provenance.json")
    assert record["data"]["files"] == [{"name": "raw.json", "bytes": 2, "sha256": sha256_of(run_folder / "raw.json")}]
    assert record["files"]["model.path"]["name"] == record["config"]["sections"]["model"]["path"] == "merged"
    assert record["config"]["sections"]["gates"] == GATES
    assert (record["converter"]["package"], len(record["converter"]["sha256"])) == ("llama-cpp-python", 64)
    assert record["seeds"] == {"training": 42, "splits": 0, "generation": 0, "score": 0}
    assert record["devices"] == {"training": "cpu", "predictions": {"base": ["cpu"], "q8_0": None}}
    times = {(step["step"], step["variant"]): step["seconds"] for step in record["steps"]}
    others = {("train_adapter", None): 1800.0, ("fetch_converter", None): 2.5}
    assert times == {**others, ("predict_with_llama", "q8_0"): 7.5}
    assert record["cost"] == {"hours": 0.502778, "price_per_hour": None, "estimate": None}


@pytest.mark.parametrize(("kind", "rows"), [("exact", 1), ("text", 2)])
def test_a_price_and_a_redaction_are_recorded_and_exact_answers_have_no_row_on_style(run_folder, tmp_path, kind, rows):
    metrics = {name: {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9} for name in ("exact_match", "emoji_rate")}
    scores = write(tmp_path / "q8_0.json", {**FOUND, "variant": "q8_0", "answer_kind": kind, "metrics": metrics})
    facts = write(tmp_path / "redaction.json", {"model": "0" * 64})
    settings, bundle = settings_of(run_folder, score={"price_per_hour": 4.0}), tmp_path / "bundle"
    assert build(run_folder, bundle, settings, "--scores", scores, "--redaction", facts) == 0
    card, record = (bundle / "README.md").read_text(), read_json(bundle / "provenance.json")
    assert ("| Exact match |" in card, card.count("50.0 % (40.0 to 60.0)")) == (True, rows)
    assert (record["cost"]["estimate"], record["made_from"]["redaction"]) == (2.011111, sha256_of(facts))


@pytest.mark.parametrize(("kind", "severity"), [("text", "recommended"), ("entities", "required")])
def test_a_bundle_is_a_valid_crate_that_lists_every_file_and_lacks_only_what_nobody_knows(
    bundles, crate_validator, tmp_path, kind, severity
):
    bundle = bundles[kind]
    assert unknown_terms(bundle) == set()
    issues = {issue.partition(": ")[2] for issue in crate_validator.issues(bundle, tmp_path, severity)}
    lacking = {"The Application SHOULD have a url", "The SoftwareApplication id SHOULD be an absolute URI"}
    assert issues == (lacking | {"The organization SHOULD have a URL."} if kind == "text" else set())
    entities = {item["@id"]: item for item in read_json(bundle / CRATE)["@graph"]}
    listed = {item["@id"]: item["sha256"] for item in entities.values() if "File" in item["@type"]}
    assert listed == {name: sha256_of(bundle / name) for name in check_sums(bundle) - {CRATE}}
    action = entities["#run"]
    assert (action["instrument"]["@id"], action["agent"]["@id"]) == ("workflow/Snakefile", "#organization")
    assert {"#raw-data", "#base-model", "#config-run"} <= {item["@id"] for item in action["object"]}
    if kind == "text":
        copy = shutil.copytree(bundle, tmp_path / "bundle")
        write(copy / CRATE, (bundle / CRATE).read_text().replace('"instrument"', '"name"'))
        assert crate_validator.issues(copy, tmp_path) != []


def test_the_modelfile_has_the_system_text_and_the_sampling(bundles):
    commands = dict(parse_modelfile((bundles["text"] / "Modelfile").read_text()))
    assert re.fullmatch(r"\./tiny-[\d.]+[KM]-football-v1\.0-Q8_0\.gguf", commands["from"])
    assert (commands["system"], commands["temperature"]) == (SYSTEM.replace("\u202f", " "), "0.5")


def run_script(script: Path, *words: str, **variables: str) -> subprocess.CompletedProcess:
    """Run a shell script of a bundle by itself from another folder."""
    environment = {"PATH": os.environ["PATH"], **variables}
    return subprocess.run([script, *words], cwd="/", env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("kind", ["text", "images"])
def test_serve_sh_starts_the_server_with_the_models_files_context_and_sampling(bundles, kind):
    bundle = bundles[kind]
    commands = dict(parse_modelfile((bundle / "Modelfile").read_text()))
    done = run_script(bundle / "serve.sh", "--no-mmap", LLAMA_SERVER="/bin/echo", PARALLEL="3", HOST="::1", PORT="80")
    words = done.stdout.split()
    given = dict(itertools.pairwise(words))
    model = next(path for path in bundle.glob("*.gguf") if path.name != "mmproj.gguf")
    assert (given["--model"], given["--host"], given["--port"]) == (str(model), "::1", "80")
    assert (given["--parallel"], given["--ctx-size"]) == ("3", str(3 * int(commands["num_ctx"])))
    for option, name in OPTIONS.items():
        assert given[name] == commands[option]
    assert given.get("--mmproj") == (str(bundle / "mmproj.gguf") if kind == "images" else None)
    assert given.get("--image-max-tokens") == ("16" if kind == "images" else None)
    assert words[-1] == "--no-mmap"


def test_the_scripts_of_servers_say_in_one_line_what_they_lack(bundles, tmp_path):
    done = run_script(bundles["text"] / "serve.sh", LLAMA_SERVER="/gone/llama-server")
    assert (done.returncode, done.stderr.count("\n")) == (127, 1)
    assert "there is no program '/gone/llama-server'; run `make llama-server`" in done.stderr
    done = run_script(bundles["text"] / "vllm.sh", MERGED=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == f"vllm.sh: there is no model in '{tmp_path}'; set MERGED to the run's folder 'merged'\n"


def test_vllm_sh_serves_the_merged_model_beside_the_bundle_with_its_sampling(bundles, tmp_path):
    write(tmp_path / "vllm", '#!/bin/sh\nprintf "%s\\n" "$@"\n').chmod(0o755)
    done = run_script(bundles["text"] / "vllm.sh", "--dtype", "auto", PATH=f"{tmp_path}:{os.environ['PATH']}")
    command, model, *words = done.stdout.splitlines()
    assert (command, (Path(model) / "config.json").is_file(), words[-2:]) == ("serve", True, ["--dtype", "auto"])
    sampling = json.loads(words[words.index("--override-generation-config") + 1])
    assert sampling == {"temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.0, "repetition_penalty": 1.0}


@pytest.mark.parametrize(
    ("kind", "name", "words", "question"),
    [
        ("text", "llama_cpp", ["--max-tokens", "4"], "Le but ?"),
        ("text", "transformers", ["--max-tokens", "4"], "Le but ?"),
        ("images", "transformers", ["--max-tokens", "4", "large.png"], "Le titre ?"),
        ("entities", "classify", [], f"MAX_LENGTH = {WINDOW}\n"),
    ],
)
def test_an_example_runs_as_it_stands(bundles, tiny_vision, kind, name, words, question):
    program = bundles[kind] / f"example_{name}.py"
    words = [str(tiny_vision.data / "images" / word) if word.endswith("png") else word for word in words]
    printed = run_example(program, *words)
    assert printed.endswith("\n")
    assert question in program.read_text()
    for line in printed.splitlines() if kind == "entities" else ():
        assert set(json.loads(line)) == {"start", "end", "label", "score", "text"}


def test_a_bundle_that_can_not_be_made_leaves_the_old_one(bundles, run_folder, capfd):
    before, merged = (bundles["text"] / "SHA256SUMS").read_text(), run_folder / "merged"
    settings = settings_of(run_folder, prompt_sets={"style": {"file": "no.jsonl"}})
    assert build(run_folder, bundles["text"], settings) == 1
    assert "no.jsonl: run.prompt_sets.style.file is missing" in capfd.readouterr().err
    assert build_bundle(merged / "manifest.json", merged, run_folder, bundles["text"], settings_of(run_folder)) == 2
    assert (bundles["text"] / "SHA256SUMS").read_text() == before
    assert [path.name for path in bundles["text"].parent.iterdir() if "partial" in path.name] == []


def test_the_example_of_a_classifier_finds_what_the_workflow_found_and_redacts_it(
    bundles, classifier_folder, tmp_path, monkeypatch, capsys
):
    example = SimpleNamespace(**runpy.run_path(str(bundles["entities"] / "example_classify.py")))
    rows = list(read_jsonl(classifier_folder / "test.jsonl"))
    assert next(row["messages"][0]["content"] for row in rows if row["spans"]) == example.TEXT
    texts = [row["messages"][0]["content"] for row in read_jsonl(classifier_folder / "data/train.jsonl")]
    texts += ["", " ", "é", "🦊🦊 écrit", "mot " * 80, "<s> [INST] </s>", " deux  espaces,\n\n\tune ligne\u00a0!"]
    texts += [" ".join(texts[:12])]
    model = SpanModel(classifier_folder / "merged/manifest.json", answer_settings(WINDOW, OVERLAP, precision="auto"))
    classifier, found = example.Classifier(bundles["entities"] / "model"), []
    for text, expected in zip(texts, model.entities(texts), strict=True):
        own = classifier.entities(text)
        assert [[e["start"], e["end"], e["label"]] for e in own] == [entity[:3] for entity in expected]
        assert [e["score"] for e in own] == pytest.approx([entity[3] for entity in expected], abs=2e-5)
        assert [e["text"] for e in own] == [text[start:end] for start, end, *_ in expected]
        found += own
    assert len(found) > 60
    assert {entity["label"] for entity in found} == set(LABELS)
    entities = [{"start": 0, "end": 4, "label": "PERSON"}, {"start": 8, "end": 12, "label": "CITY"}]
    assert example.redacted("Anna in Oslo!", entities) == "[PERSON] in [CITY]!"
    letter = write(tmp_path / "letter.txt", "Le gardien de Lens était battu.")
    monkeypatch.setattr(sys, "argv", ["example_classify.py", "--file", str(letter), "--redact"])
    example.main()
    assert re.search(r"\[(CITY|DATE|EMAIL|PERSON)\]", capsys.readouterr().out)


def test_the_example_for_images_in_llama_cpp_answers_as_prediction_did(bundles, tiny_vision, tmp_path):
    messages = [*image_question("images/square.png", "Le titre ?"), {"role": "assistant", "content": "x"}]
    test, answers = write(tmp_path / "test.jsonl", {"id": "x", "messages": messages}), tmp_path / "a/b/bf16.jsonl"
    words = [tiny_vision.gguf, "--mmproj", tiny_vision.mmproj, "--images", tiny_vision.data, "--test", test]
    words += ["--answers", answers, "--likelihood", tmp_path / "likelihood.jsonl"]
    assert predict([*map(str, words), "--settings", json.dumps(vision_section())]) == 0
    [row] = read_jsonl(answers)
    shown = [str(tiny_vision.data / f"images/{name}.png") for name in ("square", "wide")]
    words = ["Le titre ?", "--max-tokens", "6"]
    square, wide = (run_example(bundles["images"] / "example_llama_cpp.py", image, *words) for image in shown)
    assert row["answer"] + "\n" == square != wide


def test_the_example_scales_images_as_training_did_whatever_their_size(bundles, tiny_vision):
    scaled = runpy.run_path(str(bundles["images"] / "example_llama_cpp.py"), run_name="example")["scaled"]
    image_spec = read_image_spec(tiny_vision.mmproj)
    for name in SIZES:
        image = load_image(tiny_vision.data, f"images/{name}.png")
        expected, found = prepared_image(image, image_spec).astype(int), numpy.asarray(scaled(image)).astype(int)
        assert found.shape == expected.shape, name
        assert abs(expected - found).max() <= 1, name
    for size in itertools.product(range(8, 700, 23), range(8, 700, 29)):
        rows, columns = image_grid(image_spec, size)
        assert scaled(Image.new("RGB", size)).size == (columns * 28, rows * 28), size


@pytest.mark.parametrize("name", ["example_llama_cpp.py", "example_transformers.py"])
def test_the_examples_turn_images_upright_and_put_what_is_transparent_on_white(bundles, tmp_path, name):
    image, expected = Image.new("RGBA", (40, 20), (255, 0, 0, 0)), Image.new("RGB", (20, 40), "white")
    exif = Image.Exif()
    image.putpixel((0, 0), (0, 0, 255, 255))
    expected.putpixel((19, 0), (0, 0, 255))
    exif[0x0112] = 6  # turned by a quarter
    image.save(tmp_path / "a.png", exif=exif)
    found = runpy.run_path(str(bundles["images"] / name), run_name="example")["opened"](str(tmp_path / "a.png"))
    assert numpy.array_equal(numpy.asarray(found), numpy.asarray(expected))


@pytest.mark.parametrize(("parts", "first"), [(("images/a.png", "What?"), True), (("What?", "images/a.png"), False)])
def test_the_place_of_the_image_is_that_of_the_first_question_that_has_one_and_examples_have_none(
    tiny_vision, tmp_path, parts, first
):
    rows = [[{"role": "user", "content": "no image"}], image_question(*parts), image_question("images/b.png")]
    test = write(tmp_path / "test.jsonl", "".join(json.dumps({"messages": messages}) + "\n" for messages in rows))
    found = vision_limits(tiny_vision.mmproj, vision_section(vision={"longest_edge": 56}), test, [])
    assert found == {"longest_edge": 56, "cell": 28, "most_tokens": 4, "image_first": first}
    with pytest.raises(UserError, match="shows images as examples"):
        vision_limits(tiny_vision.mmproj, vision_section(), test, image_question(*parts))


@pytest.mark.parametrize(
    ("program", "words", "lacking"),
    [
        ("example_transformers.py", ["Hello", "--model", "elsewhere"], "elsewhere"),
        ("example_transformers_image.py", ["page.png"], "{folder}/merged"),
        ("example_transformers_image.py", ["gone.png"], "gone.png"),
        ("example_llama_cpp_image.py", ["gone.png"], "gone.png"),
    ],
)
def test_what_an_example_lacks_is_named_in_one_line(program, words, lacking, tmp_path, monkeypatch):
    copied = write(tmp_path / "bundle" / program, (ROOT / "scripts/deploy/examples" / program).read_text())
    (tmp_path / "page.png").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [program, *words])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(copied), run_name="__main__")
    assert isinstance(ended.value.code, str)  # Python prints it to stderr and ends with status 1
    assert lacking.format(folder=tmp_path) in ended.value.code
