"""The bundle: real files that check out, examples that run, a card and a provenance record that tell no secrets."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from scripts.common.config.datasets import Dataset
from scripts.common.config.models import Model
from scripts.common.config.project import Project
from scripts.common.config.runs import Run
from scripts.common.errors import UserError
from scripts.common.files import sha256_of, write_manifest
from scripts.deploy.build_bundle import bundle_name, main
from scripts.deploy.fill_examples import filled, sampling_of_transformers
from scripts.deploy.model_card import cell, results_table
from scripts.deploy.provenance import name_in_config, raw_data, without_places
from scripts.gguf.check_parity import main as check_parity
from scripts.gguf.quantize_gguf import quantize_gguf
from tests.support.crates import unknown_terms, workflow_files
from tests.support.gguf_files import write_test_records
from tests.support.modelfile import parse_modelfile
from tests.support.tiny_model import copy_model
from tests.unit.test_gguf_naming import SPECIFICATION

ROOT = Path(__file__).resolve().parents[2]
SYSTEM = 'Tu commentes le match « Lens – Brest\u202f».\nUne "phrase".'
FILES = [
    "Modelfile", "README.md", "SHA256SUMS", "example_llama_cpp.py", "example_transformers.py", "provenance.json",
    "ro-crate-metadata.json", *workflow_files(),
]  # fmt: skip
FOUND = {"records": 2, "answer_kind": "text", "asked": None}


def sections(**run) -> dict:
    """Return the settings of the step, as the rule gives them."""
    deploy = {
        "system": SYSTEM,
        "description": "Comments.",
        "limits": "Knows no | rules.",
        "parameters": {"temperature": 0.5},
    }
    raw = {"dataset": "commentary", "model": "tiny", "quants": ["bf16", "q8_0"], "deploy": deploy} | run
    return {
        "run_key": "football",
        "model_key": "tiny",
        "dataset_key": "commentary",
        "project": Project(organization="Club").model_dump(mode="json"),
        "run": Run.model_validate(raw).model_dump(mode="json"),
        "model": Model(path="/home/somebody/models/tiny").model_dump(mode="json"),
        "dataset": Dataset(
            files=["/home/somebody/raw.json"], format="messages", language="fr", license="CC0-1.0"
        ).model_dump(mode="json"),
        "gates": {"loss": {"metric": "perplexity", "comparison": "below", "threshold": 9.0}},
    }


def write(path: Path, value) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False))
    return path


@pytest.fixture(scope="module")
def run_folder(tiny_base, tiny_gguf, tmp_path_factory) -> Path:
    """A run's folder with all that a bundle is made of."""
    folder = tmp_path_factory.mktemp("run")
    merged = copy_model(tiny_base.parent, folder / "merged")
    write_manifest(
        merged, name="tiny", source="path", id=None, revision=None, license="CC0-1.0", architecture="mistral"
    )
    test = write_test_records(folder / "test.jsonl")
    quantize_gguf(tiny_gguf, folder / "gguf" / "q8_0.gguf", "q8_0", 2)
    words = [str(merged), str(tiny_gguf), "--test", str(test), "--output", str(folder / "parity.json")]
    assert (
        check_parity(
            [*words, "--settings", '{"parity": {"max_kl": 0.02, "prompts": 2}, "generation": {"system": null}}']
        )
        == 0
    )
    for variant, value in (("base", 9.5), ("q8_0", 4.25)):
        metrics = {"perplexity": {"value": value, "low": value - 1, "high": value + 1, "n": 2}, "bleu": None}
        devices = {"devices": ["cpu"]} if variant == "base" else {}
        write(folder / "scores" / f"{variant}.json", {**FOUND, **devices, "variant": variant, "metrics": metrics})
    gate = {
        "name": "learned",
        "metric": "perplexity",
        "passed": None,
        "reason": "Perplexity is <b>open</b> | more records are needed",
    }
    write(folder / "verdict.json", {"run": "football", "verdict": "hold", "gates": [gate]})
    write(folder / "training.json", {"device": "cpu", "versions": {"torch": "2.13.0"}, "seconds": 1.5})
    (folder / "raw.json").write_text("[]")
    run = folder.name
    for name, seconds in (
        ("gguf/fetch_converter.tsv", 2.5),
        (f"train/train_adapter/{run}.tsv", 1800.0),
        (f"train/plot_curve/{run}.tsv", 9.0),
        ("train/train_adapter/another.tsv", 9.0),
        ("predict/predict_with_llama/football.q8_0.tsv", 7.5),
        ("predict/predict_with_llama/football.q4_0.tsv", 9.0),
    ):
        path = folder / "benchmarks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\th:m:s\tmax_rss\n1.0\t0:00:01\t1.0\n{seconds}\t0:00:02\t2.0\n")
    return folder


def build(folder: Path, target: Path, settings: dict | None = None, test: Path | None = None, *more: object) -> int:
    """Run the step, with another test split and more options if given."""
    words = [folder / "gguf" / "q8_0.gguf", "--quant", "q8_0", "--parity", folder / "parity.json"]
    words += [
        "--verdict",
        folder / "verdict.json",
        "--scores",
        folder / "scores/base.json",
        folder / "scores/q8_0.json",
    ]
    words += ["--base", folder / "merged/manifest.json", "--training", folder / "training.json"]
    words += [
        "--test",
        test or folder / "test.jsonl",
        "--raw",
        folder / "raw.json",
        "--benchmarks",
        folder / "benchmarks",
    ]
    words += ["--read", f"model.path={folder / 'merged'}", "--folder", target, *more]
    return main([*map(str, words), "--settings", json.dumps(settings or sections())])


@pytest.fixture(scope="module")
def bundle(run_folder) -> Path:
    assert build(run_folder, run_folder / "bundle") == 0
    return run_folder / "bundle"


def test_the_bundle_is_complete_and_its_checksums_hold(bundle):
    [gguf] = bundle.glob("*.gguf")
    names = [path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()]
    assert sorted(names) == sorted([*FILES, gguf.name])
    checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=bundle, capture_output=True, text=True, check=True)
    assert checked.stdout.count(": OK\n") == len(FILES)


def test_the_gguf_has_the_specified_name(bundle):
    [gguf] = bundle.glob("*.gguf")
    found = SPECIFICATION.match(gguf.name)
    assert found
    assert (found["BaseName"], found["FineTune"], found["Version"], found["Encoding"]) == (
        "tiny",
        "football",
        "v1.0",
        "Q8_0",
    )


def test_the_modelfile_names_the_file_and_holds_the_system_text(bundle):
    [gguf] = bundle.glob("*.gguf")
    commands = parse_modelfile((bundle / "Modelfile").read_text())
    assert commands[0] == ("from", f"./{gguf.name}")
    assert dict(commands)["system"] == SYSTEM.replace("\u202f", " ")
    assert dict(commands)["temperature"] == "0.5"


def test_the_card_has_metadata_results_and_limits(bundle):
    text = (bundle / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    metadata = yaml.safe_load(front)
    assert metadata["license"] == "cc0-1.0"
    assert metadata["language"] == ["fr"]
    assert metadata["pipeline_tag"] == "text-generation"
    assert "| Perplexity per token | 9.50 (8.50 to 10.5) | 4.25 (3.25 to 5.25) |" in body
    assert "| | base | **q8_0** |" in body
    assert "Verdict: **hold**" in body
    assert "learned, open: Perplexity is &lt;b>open&lt;/b> \\| more records" in body
    assert "- Knows no | rules." in body
    assert "- The system text has no-break spaces; in the Modelfile they are plain spaces" in body
    assert "ollama create tiny-football -f Modelfile" in body


def test_provenance_says_what_and_not_where(bundle, run_folder):
    for name in ("provenance.json", "ro-crate-metadata.json"):
        text = (bundle / name).read_text()
        assert socket.gethostname() not in re.findall(r"[\w.-]+", text)
        for place in ("/home", "/tmp", "/work", str(run_folder), os.path.expanduser("~"), str(ROOT), sys.prefix):
            assert not re.findall(rf"(?<![\w.]){re.escape(place)}\b", re.sub("https?://", "", text)), place
    record = json.loads((bundle / "provenance.json").read_text())
    assert record["data"]["files"][0]["name"] == "raw.json"
    assert record["config"]["sections"]["model"]["path"] == "tiny"
    assert record["files"]["model.path"]["name"] == "tiny"
    assert record["config"]["sections"]["gates"]["loss"]["threshold"] == 9.0
    assert record["converter"]["package"] == "llama-cpp-python"
    assert len(record["converter"]["sha256"]) == 64
    assert record["seeds"] == {"training": 42, "splits": 0, "generation": 0, "score": 0}
    assert record["training"]["device"] == "cpu"
    assert set(record["made_from"]) == {"gguf", "parity", "verdict", "scores/base", "scores/q8_0"}
    assert len(record["code"]["sha256"]) == 64
    assert "gguf.lock" in record["locks"]


def test_provenance_has_hashes_of_tokenizer_and_code_devices_and_times(bundle, run_folder):
    record = json.loads((bundle / "provenance.json").read_text())
    tokenizer = record["tokenizer"]
    assert tokenizer["files"]["tokenizer.json"] == sha256_of(run_folder / "merged" / "tokenizer.json")
    assert not any(name.endswith(".safetensors") for name in tokenizer["files"])
    assert record["devices"] == {"training": "cpu", "predictions": {"base": ["cpu"], "q8_0": None}}
    assert record["code"]["files"]["Snakefile"] == sha256_of(ROOT / "Snakefile")
    assert record["environment"]["kind"] in ("venv", "conda", "container", "system")
    assert record["steps"] == [
        {"stage": "train", "step": "train_adapter", "variant": None, "seconds": 1800.0},
        {"stage": "gguf", "step": "fetch_converter", "variant": None, "seconds": 2.5},
        {"stage": "predict", "step": "predict_with_llama", "variant": "q8_0", "seconds": 7.5},
    ]
    assert record["cost"] == {"hours": 0.502778, "price_per_hour": None, "estimate": None}


def test_a_file_that_the_configuration_names_has_to_be_given(run_folder, tmp_path, capfd):
    settings = sections(prompt_sets={"style": {"file": "data/style.jsonl"}})
    assert build(run_folder, tmp_path / "bundle", settings) == 1
    assert "--read does not fit the settings: run.prompt_sets.style.file" in capfd.readouterr().err


def test_the_cost_is_estimated_where_there_is_a_price(run_folder, tmp_path):
    settings = sections(score={"price_per_hour": 4.0})
    assert build(run_folder, tmp_path / "bundle", settings) == 0
    record = json.loads((tmp_path / "bundle" / "provenance.json").read_text())
    assert record["cost"] == {"hours": 0.502778, "price_per_hour": 4.0, "estimate": 2.011111}


def test_the_bundle_is_a_valid_crate_of_a_workflows_run(bundle, crate_validator, tmp_path):
    assert unknown_terms(bundle) == set()
    assert crate_validator.issues(bundle, tmp_path) == []


def test_the_crate_lacks_of_what_is_recommended_only_what_nobody_knows(bundle, crate_validator, tmp_path):
    issues = crate_validator.issues(bundle, tmp_path, "recommended")
    assert {issue.partition(": ")[2] for issue in issues} == {
        "The Application SHOULD have a url",
        "The SoftwareApplication id SHOULD be an absolute URI",
        "The organization SHOULD have a URL.",
    }


def test_a_crate_that_is_spoiled_is_not_valid(bundle, crate_validator, tmp_path):
    shutil.copytree(bundle, tmp_path / "bundle")
    path = tmp_path / "bundle" / "ro-crate-metadata.json"
    path.write_text(path.read_text().replace('"instrument"', '"name"'))
    assert crate_validator.issues(tmp_path / "bundle", tmp_path) != []


def test_the_crate_lists_every_file_with_its_hash_and_what_it_was_made_from(bundle):
    entities = {item["@id"]: item for item in json.loads((bundle / "ro-crate-metadata.json").read_text())["@graph"]}
    others = {"SHA256SUMS", "ro-crate-metadata.json"}
    listed = {item["@id"]: item["sha256"] for item in entities.values() if "File" in item["@type"]}
    files = {path.relative_to(bundle).as_posix(): path for path in bundle.rglob("*") if path.is_file()}
    assert listed == {name: sha256_of(path) for name, path in files.items() if name not in others}
    action = entities["#run"]
    assert action["instrument"] == {"@id": "workflow/Snakefile"}
    assert action["agent"] == {"@id": "#organization"}
    assert {"@id": "#raw-data"} in action["object"]
    assert entities["#data-1"]["name"] == "raw.json"
    assert json.loads(entities["#config-run"]["value"])["dataset"] == "commentary"
    assert json.loads(entities["#config-gates"]["value"])["loss"]["threshold"] == 9.0
    assert {"@id": "#files-read"} in action["object"]
    assert entities["#files-read"]["hasPart"] == {"@id": "#file-1"}
    assert (entities["#file-1"]["name"], len(entities["#file-1"]["sha256"])) == ("tiny", 64)
    assert "/home" not in (bundle / "ro-crate-metadata.json").read_text()


def test_a_bundle_is_the_same_each_time(bundle, run_folder, tmp_path):
    assert build(run_folder, tmp_path / "again") == 0
    assert (tmp_path / "again" / "SHA256SUMS").read_text() == (bundle / "SHA256SUMS").read_text()


def test_provenance_has_the_hash_of_the_facts_on_a_redaction(run_folder, tmp_path):
    facts = write(tmp_path / "redaction.json", {"model": "0" * 64})
    assert build(run_folder, tmp_path / "bundle", None, None, "--redaction", facts) == 0
    record = json.loads((tmp_path / "bundle" / "provenance.json").read_text())
    assert record["made_from"]["redaction"] == sha256_of(facts)


@pytest.mark.parametrize("name", ["example_llama_cpp.py", "example_transformers.py"])
def test_an_example_runs_as_it_stands(bundle, name, tmp_path):
    surroundings = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, str(bundle / name), "--max-tokens", "4"]
    result = subprocess.run(command, cwd=tmp_path, env=surroundings, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("\n")
    assert "Le but ?" in (bundle / name).read_text()


def test_a_bundle_that_can_not_be_made_leaves_the_old_one(bundle, run_folder, capfd):
    before = (bundle / "SHA256SUMS").read_text()
    settings = sections()
    settings["run"]["deploy"]["system"] = 'three """ quotes'
    assert build(run_folder, bundle, settings) == 1
    assert 'deploy.system holds """' in capfd.readouterr().err
    assert (bundle / "SHA256SUMS").read_text() == before
    assert [path.name for path in run_folder.iterdir() if "partial" in path.name] == []


def test_a_file_without_a_name_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"has no general\.size_label"):
        bundle_name({"general.basename": "a"}, "q8_0", tmp_path / "x.gguf")


def test_an_example_takes_any_value():
    program = "SYSTEM = None\nOTHER = 1\n"
    value = "a \\1 \"b\" \n'c' {d}"
    scope: dict = {}
    exec(filled(program, {"SYSTEM": value}), scope)
    assert scope["SYSTEM"] == value
    with pytest.raises(ValueError, match="0 lines 'MISSING"):
        filled(program, {"MISSING": 1})


def test_temperature_0_is_greedy():
    parameters = {"temperature": 0, "top_p": 0.9, "top_k": 40, "min_p": 0.0, "repeat_penalty": 1.1}
    assert sampling_of_transformers(parameters) == {"do_sample": False, "repetition_penalty": 1.1}


def test_a_cell_can_not_break_out_of_its_table():
    assert cell("a | b\n<img> \\|") == "a \\| b &lt;img> \\\\\\|"


def test_metrics_that_nobody_has_are_left_out_of_the_table():
    lines = results_table([{"variant": "base", "metrics": {"bleu": None}}], "q8_0")
    assert len(lines) == 2


def test_the_card_of_answers_that_must_be_exact_has_no_row_on_style(run_folder, tmp_path):
    metrics = {name: {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9} for name in ("exact_match", "emoji_rate")}
    for kind, rows in (("exact", 1), ("text", 2)):
        scores = {**FOUND, "variant": "q8_0", "answer_kind": kind, "metrics": metrics}
        path = write(tmp_path / kind / "q8_0.json", scores)
        assert build(run_folder, tmp_path / kind / "bundle", None, None, "--scores", path) == 0
        card = (tmp_path / kind / "bundle" / "README.md").read_text()
        assert ("| Exact match |" in card, card.count("50.0 % (40.0 to 60.0)")) == (True, rows)


@pytest.mark.parametrize(
    ("path", "patterns", "name"),
    [
        ("data/a/raw.json", ["data/b/raw.json", "data/a/raw.json"], "data/a/raw.json"),
        ("../../home/me/snaketune/data/a/raw.json", ["data/*/raw.json"], "data/a/raw.json"),
        ("/home/me/raw.json", ["/home/me/*.json"], "raw.json"),
    ],
)
def test_a_raw_file_is_named_as_the_configuration_names_it(path, patterns, name):
    assert name_in_config(Path(path), patterns) == name


def test_files_of_whole_splits_are_named_as_well(tmp_path):
    keys = {"files": "train", "validation_files": "validation", "test_files": "test"}
    paths = [tmp_path / "data" / f"{stem}.jsonl" for stem in keys.values()]
    (tmp_path / "data").mkdir()
    for path in paths:
        path.write_text("{}\n")
    section = {"hub": None} | {key: [f"data/{stem}.jsonl"] for key, stem in keys.items()}
    names = [file["name"] for file in raw_data(section, paths)["files"]]
    assert names == ["data/train.jsonl", "data/validation.jsonl", "data/test.jsonl"]


def test_absolute_paths_are_cut_and_other_texts_stay():
    value = {"a": ["/x/y.json", "data/y.json", "/not a path\nbut text"], "b": 1, "c": None}
    assert without_places(value) == {"a": ["y.json", "data/y.json", "/not a path\nbut text"], "b": 1, "c": None}
