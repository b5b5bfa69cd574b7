"""The bundle: real files that check out, examples that run, a card and a provenance record that tell no secrets."""

import json
import os
import re
import shutil
import socket
import sys
from pathlib import Path

import pytest
import yaml

from scripts.common.config.runs import Run
from scripts.common.errors import UserError
from scripts.common.files import sha256_of, write_manifest
from scripts.deploy.build_bundle import bundle_name
from scripts.deploy.fill_examples import filled, sampling_of_transformers
from scripts.deploy.provenance import name_in_config, without_places
from scripts.gguf.check_parity import main as check_parity
from scripts.gguf.quantize_gguf import quantize_gguf
from scripts.score.read_scores import KEYS
from tests.support.bundles import build as build_bundle
from tests.support.bundles import bundle_settings, check_sums, run_example
from tests.support.crates import unknown_terms, workflow_files
from tests.support.gguf_files import write_test_records
from tests.support.made_from import made_from
from tests.support.modelfile import parse_modelfile
from tests.support.tiny_model import copy_model
from tests.unit.test_gguf_naming import SPECIFICATION

ROOT = Path(__file__).resolve().parents[2]
SYSTEM = 'Tu commentes le match « Lens – Brest\u202f».\nUne "phrase".'
FILES = {
    "Modelfile", "README.md", "example_llama_cpp.py", "example_transformers.py", "provenance.json",
    "ro-crate-metadata.json", *workflow_files(),
}  # fmt: skip
FOUND = {**dict.fromkeys(KEYS), "own_metrics": {}, "records": 2, "answer_kind": "text", "asked": None}
DEPLOY = {"description": "Comments.", "limits": "Knows no | rules.", "parameters": {"temperature": 0.5}}
GATES = {"loss": {"metric": "perplexity", "comparison": "below", "threshold": 9.0}}
PARITY = '{"parity": {"max_kl": 0.02, "prompts": 2}, "generation": {"system": null}}'


def settings_of(folder: Path, system: str | None = SYSTEM, **run) -> dict:
    """Return the settings of the step for a run's folder."""
    raw = {"dataset": "commentary", "model": "tiny", "quants": ["bf16", "q8_0"], "deploy": {**DEPLOY, "system": system}}
    section = Run.model_validate(raw | run).model_dump(mode="json")
    dataset = {"files": ["/home/somebody/raw.json"], "format": "messages", "language": "fr", "license": "CC0-1.0"}
    return bundle_settings("football", section, folder / "merged", dataset, gates=GATES)


def write(path: Path, value) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False))
    return path


@pytest.fixture(scope="module")
def run_folder(tiny_base, tiny_gguf, tmp_path_factory) -> Path:
    """A run's folder with all that a bundle is made of."""
    folder = tmp_path_factory.mktemp("run")
    merged = copy_model(tiny_base.parent, folder / "merged")
    facts = {"name": "tiny", "source": "path", "id": None, "revision": None}
    write_manifest(merged, **facts, license="CC0-1.0", architecture="mistral")
    test = write_test_records(folder / "test.jsonl")
    quantize_gguf(tiny_gguf, folder / "gguf" / "q8_0.gguf", "q8_0", 2)
    words = [str(merged), str(tiny_gguf), "--test", str(test), "--output", str(folder / "parity.json")]
    assert check_parity([*words, "--settings", PARITY]) == 0
    for variant, value, devices in (("base", 9.5, {"devices": ["cpu"]}), ("q8_0", 4.25, {})):
        metrics = {"perplexity": {"value": value, "low": value - 1, "high": value + 1, "n": 2}, "bleu": None}
        write(folder / "scores" / f"{variant}.json", {**FOUND, **devices, "variant": variant, "metrics": metrics})
    gate = {"name": "learned", "metric": "perplexity", "passed": None, "reason": "It is <b>open</b> | for now"}
    write(folder / "verdict.json", {"run": "football", "verdict": "hold", "reason": "failed: loss", "gates": [gate]})
    write(folder / "training.json", {"device": "cpu", "versions": {"torch": "2.13.0"}, "seconds": 1.5})
    (folder / "raw.json").write_text("[]")
    made_from(test, folder / "raw.json")
    for name, seconds in (
        ("gguf/fetch_converter.tsv", 2.5),
        (f"train/train_adapter/{folder.name}.tsv", 1800.0),
        (f"train/plot_curve/{folder.name}.tsv", 9.0),
        ("train/train_adapter/another.tsv", 9.0),
        ("predict/predict_with_llama/football.q8_0.tsv", 7.5),
        ("predict/predict_with_llama/football.q4_0.tsv", 9.0),
    ):
        path = folder / "benchmarks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\th:m:s\tmax_rss\n1.0\t0:00:01\t1.0\n{seconds}\t0:00:02\t2.0\n")
    return folder


def build(folder: Path, target: Path, settings: dict, *more: object) -> int:
    """Run the step on a run's folder, with more options."""
    words = ["--parity", folder / "parity.json", "--raw", folder / "raw.json", "--benchmarks", folder / "benchmarks"]
    words += ["--scores", folder / "scores/base.json", folder / "scores/q8_0.json"]
    return build_bundle(folder / "gguf/q8_0.gguf", folder / "merged", folder, target, settings, *words, *more)


@pytest.fixture(scope="module")
def bundle(run_folder) -> Path:
    assert build(run_folder, run_folder / "bundle", settings_of(run_folder)) == 0
    return run_folder / "bundle"


def test_the_bundle_is_complete_and_its_checksums_hold(bundle):
    [gguf] = bundle.glob("*.gguf")
    assert check_sums(bundle) == {*FILES, gguf.name}
    names = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert names == {*FILES, gguf.name, "SHA256SUMS"}


def test_the_gguf_has_the_specified_name(bundle):
    [gguf] = bundle.glob("*.gguf")
    found = SPECIFICATION.match(gguf.name).groupdict()
    named = [found[key] for key in ("BaseName", "FineTune", "Version", "Encoding")]
    assert named == ["tiny", "football", "v1.0", "Q8_0"]


def test_the_modelfile_names_the_file_and_holds_the_system_text(bundle):
    [gguf] = bundle.glob("*.gguf")
    commands = parse_modelfile((bundle / "Modelfile").read_text())
    assert commands[0] == ("from", f"./{gguf.name}")
    assert dict(commands)["system"] == SYSTEM.replace("\u202f", " ")
    assert dict(commands)["temperature"] == "0.5"


def test_the_card_has_metadata_results_and_limits(bundle):
    _, front, body = (bundle / "README.md").read_text().split("---\n", 2)
    metadata = yaml.safe_load(front)
    told = [metadata[key] for key in ("license", "language", "pipeline_tag", "library_name")]
    assert told == ["cc0-1.0", ["fr"], "text-generation", "gguf"]
    assert "| | base | **q8_0** |\n|---|---|---|\n" in body
    assert "| Perplexity per token | 9.50 (8.50 to 10.5) | 4.25 (3.25 to 5.25) |\n\nVerdict: **hold**" in body
    assert "BLEU" not in body
    assert "learned, open: It is &lt;b>open&lt;/b> \\| for now" in body
    assert "- Knows no | rules.\n- The system text has no-break spaces" in body
    assert "ollama create tiny-football -f Modelfile\n" in body
    assert not re.search(r"\{[{%]|\n\n\n", body)


def test_provenance_says_what_and_not_where(bundle, run_folder):
    for name in ("provenance.json", "ro-crate-metadata.json"):
        text = (bundle / name).read_text()
        assert socket.gethostname() not in re.findall(r"[\w.-]+", text)
        for place in ("/home", "/tmp", "/work", str(run_folder), os.path.expanduser("~"), str(ROOT), sys.prefix):
            assert not re.findall(rf"(?<![\w.]){re.escape(place)}\b", re.sub("https?://", "", text)), place


def test_provenance_has_hashes_seeds_devices_and_times(bundle, run_folder):
    record = json.loads((bundle / "provenance.json").read_text())
    merged, tokenizer = run_folder / "merged", record["tokenizer"]["files"]
    assert tokenizer["tokenizer.json"] == sha256_of(merged / "tokenizer.json")
    assert not any(name.endswith(".safetensors") for name in tokenizer)
    assert record["base_model"]["manifest_sha256"] == sha256_of(merged / "manifest.json")
    assert record["data"]["files"] == [{"name": "raw.json", "bytes": 2, "sha256": sha256_of(run_folder / "raw.json")}]
    assert record["files"]["model.path"]["name"] == record["config"]["sections"]["model"]["path"] == "merged"
    assert record["config"]["sections"]["gates"] == GATES
    assert record["code"]["files"]["Snakefile"] == sha256_of(ROOT / "Snakefile")
    assert record["locks"]["gguf.lock"] == sha256_of(ROOT / "envs" / "gguf.lock")
    assert (record["converter"]["package"], len(record["converter"]["sha256"])) == ("llama-cpp-python", 64)
    assert record["seeds"] == {"training": 42, "splits": 0, "generation": 0, "score": 0}
    assert record["devices"] == {"training": "cpu", "predictions": {"base": ["cpu"], "q8_0": None}}
    assert set(record["made_from"]) == {"gguf", "parity", "verdict", "scores/base", "scores/q8_0"}
    assert [(step["step"], step["variant"], step["seconds"]) for step in record["steps"]] == [
        ("train_adapter", None, 1800.0), ("fetch_converter", None, 2.5), ("predict_with_llama", "q8_0", 7.5),
    ]  # fmt: skip
    assert record["cost"] == {"hours": 0.502778, "price_per_hour": None, "estimate": None}


def test_a_price_and_a_redaction_are_recorded(run_folder, tmp_path):
    settings = settings_of(run_folder, score={"price_per_hour": 4.0})
    facts = write(tmp_path / "redaction.json", {"model": "0" * 64})
    assert build(run_folder, tmp_path / "bundle", settings, "--redaction", facts) == 0
    record = json.loads((tmp_path / "bundle" / "provenance.json").read_text())
    assert record["cost"]["estimate"] == 2.011111
    assert record["made_from"]["redaction"] == sha256_of(facts)


def test_a_file_that_the_configuration_names_has_to_be_there(run_folder, tmp_path, capfd):
    settings = settings_of(run_folder, prompt_sets={"style": {"file": "data/none.jsonl"}})
    assert build(run_folder, tmp_path / "bundle", settings) == 1
    assert "data/none.jsonl: run.prompt_sets.style.file is missing" in capfd.readouterr().err


def test_the_bundle_is_a_valid_crate_that_lacks_only_what_nobody_knows(bundle, crate_validator, tmp_path):
    assert unknown_terms(bundle) == set()
    issues = crate_validator.issues(bundle, tmp_path, "recommended")
    assert {issue.partition(": ")[2] for issue in issues} == {
        "The Application SHOULD have a url",
        "The SoftwareApplication id SHOULD be an absolute URI",
        "The organization SHOULD have a URL.",
    }
    shutil.copytree(bundle, tmp_path / "bundle")
    path = tmp_path / "bundle" / "ro-crate-metadata.json"
    path.write_text(path.read_text().replace('"instrument"', '"name"'))
    assert crate_validator.issues(tmp_path / "bundle", tmp_path) != []


def test_the_crate_lists_every_file_with_its_hash_and_what_it_was_made_from(bundle):
    entities = {item["@id"]: item for item in json.loads((bundle / "ro-crate-metadata.json").read_text())["@graph"]}
    listed = {item["@id"]: item["sha256"] for item in entities.values() if "File" in item["@type"]}
    [gguf] = bundle.glob("*.gguf")
    assert listed == {name: sha256_of(bundle / name) for name in (FILES | {gguf.name}) - {"ro-crate-metadata.json"}}
    action = entities["#run"]
    assert (action["instrument"]["@id"], action["agent"]["@id"]) == ("workflow/Snakefile", "#organization")
    assert {"#raw-data", "#files-read", "#base-model", "#config-run"} <= {item["@id"] for item in action["object"]}
    assert entities["#raw-data"]["hasPart"] == {"@id": "#data-1"}
    assert (entities["#data-1"]["name"], entities["#file-1"]["name"]) == ("raw.json", "merged")
    assert json.loads(entities["#config-gates"]["value"]) == GATES


def test_a_bundle_is_the_same_each_time(bundle, run_folder, tmp_path):
    assert build(run_folder, tmp_path / "again", settings_of(run_folder)) == 0
    assert (tmp_path / "again" / "SHA256SUMS").read_text() == (bundle / "SHA256SUMS").read_text()


@pytest.mark.parametrize("name", ["example_llama_cpp.py", "example_transformers.py"])
def test_an_example_runs_as_it_stands(bundle, name):
    assert run_example(bundle / name, "--max-tokens", "4").endswith("\n")
    assert "Le but ?" in (bundle / name).read_text()


def test_a_bundle_that_can_not_be_made_leaves_the_old_one(bundle, run_folder, capfd):
    before = (bundle / "SHA256SUMS").read_text()
    assert build(run_folder, bundle, settings_of(run_folder, 'three """ quotes')) == 1
    assert "deploy.system" in capfd.readouterr().err
    assert (bundle / "SHA256SUMS").read_text() == before
    assert [path.name for path in run_folder.iterdir() if "partial" in path.name] == []


def test_a_file_without_a_name_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"general\.size_label"):
        bundle_name({"general.basename": "a"}, "q8_0", tmp_path / "x.gguf")


def test_an_example_takes_any_value():
    value, scope = "a \\1 \"b\" \n'c' {d}", {}
    exec(filled("SYSTEM = None\nOTHER = 1\n", {"SYSTEM": value}), scope)
    assert scope["SYSTEM"] == value


def test_temperature_0_is_greedy():
    parameters = {"temperature": 0, "top_p": 0.9, "top_k": 40, "min_p": 0.0, "repeat_penalty": 1.1}
    assert sampling_of_transformers(parameters) == {"do_sample": False, "repetition_penalty": 1.1}


@pytest.mark.parametrize(("kind", "rows"), [("exact", 1), ("text", 2)])
def test_the_card_of_answers_that_must_be_exact_has_no_row_on_style(run_folder, tmp_path, kind, rows):
    metrics = {name: {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9} for name in ("exact_match", "emoji_rate")}
    scores = write(tmp_path / "q8_0.json", {**FOUND, "variant": "q8_0", "answer_kind": kind, "metrics": metrics})
    assert build(run_folder, tmp_path / "bundle", settings_of(run_folder), "--scores", scores) == 0
    card = (tmp_path / "bundle" / "README.md").read_text()
    assert ("| Exact match |" in card, card.count("50.0 % (40.0 to 60.0)")) == (True, rows)


@pytest.mark.parametrize(
    ("path", "section", "name"),
    [
        ("data/a/raw.json", {"files": ["data/b/raw.json", "data/a/raw.json"]}, "data/a/raw.json"),
        ("../../home/me/snaketune/data/a/raw.json", {"files": ["data/*/raw.json"]}, "data/a/raw.json"),
        ("/home/me/raw.json", {"files": ["/home/me/*.json"]}, "raw.json"),
        ("/home/me/data/test.jsonl", {"files": None, "test_files": ["data/test.jsonl"]}, "data/test.jsonl"),
    ],
)
def test_a_raw_file_is_named_as_the_configuration_names_it(path, section, name):
    keys = dict.fromkeys(("files", "validation_files", "test_files"))
    assert name_in_config(Path(path), keys | section) == name


def test_absolute_paths_are_cut_and_other_texts_stay():
    value = {"a": ["/x/y.json", "data/y.json", "/not a path\nbut text"], "b": 1, "c": None}
    assert without_places(value) == {"a": ["y.json", "data/y.json", "/not a path\nbut text"], "b": 1, "c": None}
