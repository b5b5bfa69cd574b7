"""`make verify`: whatever was changed since a bundle was made is named, and a bundle that misleads is refused."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.deploy.build_bundle import write_sums
from tests.support.project import ROOT, Project, without_make

BUNDLE = "results/runs/cards/bundle"


@pytest.fixture(scope="module")
def project(finished, tmp_path_factory) -> Project:
    """A finished project to change."""
    return finished.copy(tmp_path_factory.mktemp("verify") / "project")


@pytest.fixture
def bundle(project, tmp_path) -> Path:
    """A copy of its bundle that lies elsewhere."""
    return shutil.copytree(project.folder / BUNDLE, tmp_path / "bundle")


def verify(folder: Path, bundle: Path | str, *options: str, python: tuple = ()) -> subprocess.CompletedProcess:
    """Run the step of the project in `folder` as a person would there."""
    command = [sys.executable, *python, "scripts/deploy/verify_bundle.py", str(bundle), *options]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def faults(done: subprocess.CompletedProcess) -> list[str]:
    """Return what differs: the names."""
    lines = [line.removeprefix("DIFFERS  ") for line in done.stdout.splitlines() if line.startswith("DIFFERS")]
    assert done.returncode == (1 if lines else 0), done.stdout + done.stderr
    return [line.rpartition(": ")[0] for line in lines]


def replaced(old: str, new: str):
    """Return a function that replaces a part of a text."""
    return lambda text: text.replace(old, new)


def refused(done: subprocess.CompletedProcess) -> str:
    """Return the one line on a bundle or configuration that is refused."""
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stdout + done.stderr
    return done.stderr


def flip(path: Path) -> None:
    """Change one byte in the middle of a file, and nothing else."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_an_untouched_bundle_is_verified_with_all_that_it_was_made_from(project):
    done = verify(project.folder, BUNDLE)
    assert faults(done) == []
    assert done.stdout.endswith("none differs, 0 could not be compared\n")


def test_make_verify_takes_the_bundle(project):
    shutil.copy2(ROOT / "Makefile", project.folder)
    command = ["make", "VENV=", "verify"]
    environment = {**without_make(), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment["PYTHONPATH"] = str(project.folder)
    run = {"cwd": project.folder, "env": environment, "capture_output": True, "text": True, "check": False}
    done = subprocess.run([*command, f"BUNDLE={BUNDLE}"], **run)
    assert (done.returncode, done.stdout.count("none differs")) == (0, 1), done.stderr
    assert subprocess.run(command, **run).returncode == 2


@pytest.mark.parametrize(
    ("path", "named"),
    [
        (f"{BUNDLE}/README.md", ["README.md"]),
        (f"{BUNDLE}/workflow/Snakefile", ["workflow/Snakefile"]),
        ("data/cards.jsonl", ["data: data/cards.jsonl", "chain: data/cards.jsonl"]),
        ("data/more.jsonl", ["run.prompt_sets.more.file: data/more.jsonl", "chain: data/more.jsonl"]),
        ("results/datasets/cards/train.jsonl", ["chain: results/datasets/cards/train.jsonl"]),
        ("scripts/score/measure.py", ["code: scripts/score/measure.py"]),
        ("rules/score.smk", ["code: rules/score.smk"]),
        ("envs/score.lock", ["lock: score.lock"]),
        ("results/models/small/model.safetensors", ["base model: small/model.safetensors"]),
        ("results/models/small/tokenizer.json", ["base model: small/tokenizer.json", "tokenizer: tokenizer.json"]),
        ("results/runs/cards/verdict.json", ["made from: verdict"]),
        ("results/runs/cards/gguf/bf16.gguf", ["made from: gguf", "chain: results/runs/cards/gguf/bf16.gguf"]),
    ],
)
def test_a_changed_byte_is_named(project, path, named):
    file = project.folder / path
    before = file.read_bytes()
    flip(file)
    try:
        assert faults(verify(project.folder, BUNDLE)) == named
    finally:
        file.write_bytes(before)


def test_the_configuration_that_a_bundle_was_made_with_is_found_and_not_the_demos(project, tmp_path):
    mine = project.copy(tmp_path / "project")
    demo, own = mine.folder / "config/config.yaml", mine.folder / "config/mine.yaml"
    own.write_bytes(demo.read_bytes())
    done = mine.snakemake("--configfile", "config/mine.yaml", "--quiet", "host", "reason", "rules")
    assert done.returncode == 0, done.stdout
    demo.write_text(demo.read_text(encoding="utf-8").replace("1.0e-3", "2.0e-3"), encoding="utf-8")
    assert faults(verify(mine.folder, BUNDLE)) == []
    assert faults(verify(mine.folder, BUNDLE, "--configfile", str(demo))) == ["config: run.training.learning_rate"]
    own.unlink()
    done = verify(mine.folder, BUNDLE)
    assert faults(done) == []
    line = 'unknown  config: not compared: name the run\'s configuration, ARGS="--configfile config/mine.yaml"'
    assert line in done.stdout.splitlines()


def with_another_run_before(text: str) -> str:
    """Return a configuration with a run that would train the same model, before that of the bundle."""
    section = text[text.index("  cards:\n    dataset: cards") : text.index("gates:")]
    return text.replace(section, section.replace("  cards:", "  another:", 1) + section)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (replaced("1.0e-3", "2.0e-3"), "config: run.training.learning_rate: recorded 0.001, found 0.002"),
        (replaced("threshold: 0.1}", "threshold: 0.2}"), "config: gates.varied.threshold: recorded 0.1, found 0.2"),
        (with_another_run_before, "trained_as: recorded cards, found another"),
    ],
)
def test_a_changed_setting_is_named_with_both_values(project, change, line):
    with project.edited("config/config.yaml", change):
        done = verify(project.folder, BUNDLE)
    assert done.stdout.startswith(f"DIFFERS  {line}\n")
    assert len(faults(done)) == 1


def test_facts_of_the_training_and_new_code_are_named(project):
    with (
        project.edited("results/runs/cards/training.json", lambda text: text.replace('"cpu"', '"other"', 1)),
        project.edited("scripts/score/added.py", lambda _: "added = 1\n"),
    ):
        assert set(faults(verify(project.folder, BUNDLE))) == {"training.json", "code: scripts/score/added.py"}


def test_another_configuration_than_the_runs_own_is_refused_or_not_compared(project, tmp_path):
    text = (project.folder / "config/config.yaml").read_text(encoding="utf-8")
    other = tmp_path / "other.yaml"
    other.write_text(text.replace("runs:\n  cards:", "runs:\n  others:"), encoding="utf-8")
    assert "has no run 'cards'" in refused(verify(project.folder, BUNDLE, "--configfile", str(other)))
    assert faults(verify(project.folder, BUNDLE, "--configfile", "config/config.yaml")) == []


@pytest.mark.parametrize(("text", "place"), [(None, ""), ("runs: [\n", "2:"), ("- a\n", "")])
def test_a_configuration_that_cannot_be_read_is_one_clear_line(project, tmp_path, text, place):
    file = tmp_path / "mine.yaml"
    if text is not None:
        file.write_text(text)
    line = refused(verify(project.folder, BUNDLE, "--configfile", str(file)))
    assert line.startswith(f"verify_bundle.py: {file}:{place}")


def test_a_bundle_alone_is_verified_without_any_package(project, bundle):
    done = verify(project.folder, bundle, python=("-S",))
    assert faults(done) == []
    for name in ("config", "base model: small/manifest.json", "tokenizer: tokenizer.json", "made from: gguf"):
        assert f"unknown  {name}: not" in done.stdout


def test_files_that_are_missing_or_too_many_are_named(project, bundle):
    (bundle / "Modelfile").unlink()
    (bundle / "more").mkdir()
    (bundle / "more" / "run.sh").write_text("echo\n")
    (bundle / "a\x1b[31m").write_text("\n")
    done = verify(project.folder, bundle)
    assert faults(done) == ["Modelfile", "a\\x1b[31m", "more/run.sh"]
    assert "\x1b" not in done.stdout


def test_a_model_that_was_changed_with_its_checksum_is_found_by_the_crate_and_by_what_was_recorded(project, bundle):
    [gguf] = bundle.glob("*.gguf")
    flip(gguf)
    write_sums(bundle)
    assert faults(verify(project.folder, bundle)) == [f"ro-crate-metadata.json: {gguf.name}"]


def test_a_model_file_that_is_cut_off_is_found_even_if_all_hashes_were_made_anew(project, bundle):
    [gguf] = bundle.glob("*.gguf")
    gguf.write_bytes(gguf.read_bytes()[:-1000])
    write_sums(bundle)
    assert any(fault.startswith(gguf.name) for fault in faults(verify(project.folder, bundle)))


def test_a_setting_that_was_changed_in_the_record_is_found(project, bundle):
    record = bundle / "provenance.json"
    record.write_text(record.read_text().replace('"learning_rate": 0.001', '"learning_rate": 0.005', 1))
    write_sums(bundle)
    assert "config" in faults(verify(project.folder, bundle))


@pytest.mark.parametrize(
    "name", ["../../outside", "/etc/hostname", "workflow/../../x", "./README.md", "README.md", "a\\nb"]
)
def test_checksums_of_what_is_outside_or_named_twice_are_refused(project, bundle, name):
    with open(bundle / "SHA256SUMS", "a", encoding="utf-8") as file:
        file.write(f"{'0' * 64}  {name}\n")
    refused(verify(project.folder, bundle))


def test_links_are_named_and_not_followed(project, bundle, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret\n")
    (bundle / "Modelfile").unlink()
    (bundle / "Modelfile").symlink_to(secret)
    (bundle / "folder").symlink_to(tmp_path)
    done = verify(project.folder, bundle)
    assert done.stdout.count("is a link") == 2
    assert set(faults(done)) == {"Modelfile", "folder"}


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("base_model", "name"), "../../.."),
        (("data", "files"), [{"name": "/etc/hostname", "sha256": "0" * 64}]),
        (("data", "files"), [{"name": "../../x", "sha256": "0" * 64}]),
        (("files",), {"dataset.images": {"name": "/etc", "sha256": "0" * 64}}),
        (("files",), {"dataset.images": {"name": "../..", "sha256": "0" * 64}}),
        (("files",), {"dataset.images": "data"}),
        (("trained_as",), "../x"),
        (("tokenizer", "files"), {"../../../x": "0" * 64}),
        (("made_from",), {"scores/../../x": "0" * 64}),
        (("code",), []),
        (("config",), None),
    ],
)
def test_a_record_that_leads_elsewhere_or_is_none_is_one_clear_line(project, bundle, keys, value):
    path = bundle / "provenance.json"
    record = json.loads(path.read_text())
    *parents, last = keys
    target = record
    for key in parents:
        target = target[key]
    target[last] = value
    path.write_text(json.dumps(record))
    write_sums(bundle)
    target_folder = project.folder / "results/runs/cards/bundle"
    kept = target_folder.rename(target_folder.with_name("kept"))
    try:
        shutil.copytree(bundle, target_folder)
        done = verify(project.folder, BUNDLE)
    finally:
        shutil.rmtree(target_folder)
        kept.rename(target_folder)
    refused(done)


@pytest.mark.parametrize("text", ["[]", "{", '{"@graph": 5}', '{"@graph": [5]}', "[" * 100_000])
def test_a_crate_that_is_none_is_named(project, bundle, text):
    (bundle / "ro-crate-metadata.json").write_text(text)
    done = verify(project.folder, bundle)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "ro-crate-metadata.json" in done.stdout + done.stderr


def test_a_folder_that_is_not_a_bundle_is_one_clear_line(project, tmp_path):
    assert "SHA256SUMS: is missing" in refused(verify(project.folder, tmp_path))
