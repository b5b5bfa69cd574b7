"""`make verify`: whatever was changed since a bundle was made is named, and a bundle that misleads is refused."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.common.errors import UserError
from scripts.deploy.build_bundle import write_sums
from scripts.deploy.verify_bundle import Findings, verify_bundle
from tests.support.data import load
from tests.support.project import ROOT, Project, without_make

BUNDLE = Path("results/runs/cards/bundle")
CONFIG = "config/config.yaml"
CASES = load("verify_bundle.yaml")


@pytest.fixture(scope="module")
def project(finished, tmp_path_factory) -> Project:
    """A finished project to change."""
    return finished.copy(tmp_path_factory.mktemp("verify") / "project")


@pytest.fixture
def bundle(project, tmp_path) -> Path:
    """A copy of its bundle that lies elsewhere."""
    return shutil.copytree(project.folder / BUNDLE, tmp_path / "bundle")


@pytest.fixture
def verify(project, monkeypatch):
    """A function that verifies a bundle as a person in the project's folder would."""

    def verify(bundle: Path = BUNDLE, *configfiles: Path, folder: Path = project.folder) -> Findings:
        monkeypatch.chdir(folder)
        return verify_bundle(bundle, list(configfiles), folder)

    return verify


def flip(path: Path) -> None:
    """Change one byte in the middle of a file, and nothing else."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_make_verify_takes_the_bundle_and_finds_all_that_it_was_made_from(project):
    shutil.copy2(ROOT / "Makefile", project.folder)
    command = ["make", "VENV=", "verify"]
    environment = {**without_make(), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment["PYTHONPATH"] = str(project.folder)
    run = {"cwd": project.folder, "env": environment, "capture_output": True, "text": True, "check": False}
    done = subprocess.run([*command, f"BUNDLE={BUNDLE}"], **run)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("none differs, 0 could not be compared\n")
    assert subprocess.run(command, **run).returncode == 2


def test_a_bundle_alone_is_verified_without_any_package(project, bundle):
    def run(*words):
        command = [sys.executable, "-S", "scripts/deploy/verify_bundle.py", *words]
        own = {"cwd": project.folder, "env": {**os.environ, "PYTHONPATH": str(project.folder)}}
        return subprocess.run(command, **own, capture_output=True, text=True, check=False)

    done = run(bundle)
    assert done.returncode == 0, done.stdout
    for name in ("config", "base model: small/manifest.json", "tokenizer: tokenizer.json", "made from: gguf"):
        assert f"unknown  {name}: not" in done.stdout
    (bundle / "README.md").write_text("other")
    done = run(bundle)
    assert (done.returncode, done.stdout.count("DIFFERS  README.md: ")) == (1, 1)
    done = run(bundle.parent)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "SHA256SUMS: is missing" in done.stderr


def test_everything_that_was_changed_is_named(project, verify, tmp_path):
    mine = project.copy(tmp_path / "project")
    for path in CASES["changed bytes"]:
        flip(mine.folder / path)
    training = mine.folder / "results/runs/cards/training.json"
    training.write_text(training.read_text().replace('"cpu"', '"other"', 1))
    mine.write("scripts/score/added.py", "added = 1\n")
    config = (mine.folder / CONFIG).read_text(encoding="utf-8")
    mine.write(CONFIG, config.replace("1.0e-3", "2.0e-3").replace("threshold: 0.1}", "threshold: 0.2}"))
    found = verify(folder=mine.folder).faults
    assert "config: run.training.learning_rate: recorded 0.001, found 0.002" in found
    assert {re.sub(r": (recorded|not recorded|has changed).*", "", line) for line in found} == {*CASES["named"]}


def test_the_configuration_that_a_bundle_was_made_with_is_found_and_not_the_demos(project, verify, tmp_path):
    mine = project.copy(tmp_path / "project")
    demo, own = mine.folder / CONFIG, mine.folder / "config/mine.yaml"
    own.write_bytes(demo.read_bytes())
    done = mine.snakemake("--configfile", "config/mine.yaml", "--quiet", "host", "reason", "rules")
    assert done.returncode == 0, done.stdout
    demo.write_text(demo.read_text(encoding="utf-8").replace("1.0e-3", "2.0e-3"), encoding="utf-8")
    assert verify(folder=mine.folder).faults == []
    [fault] = verify(BUNDLE, demo, folder=mine.folder).faults
    assert fault.startswith("config: run.training.learning_rate")
    own.unlink()
    found = verify(folder=mine.folder)
    assert found.faults == []
    line = 'config: not compared: name the run\'s configuration, ARGS="--configfile config/mine.yaml"'
    assert line in found.absent


def test_another_run_that_would_train_the_same_model_is_named(project, verify):
    text = (project.folder / CONFIG).read_text(encoding="utf-8")
    section = text[text.index("  cards:\n    dataset: cards") : text.index("gates:")]
    another = section.replace("  cards:", "  another:", 1)
    with project.edited(CONFIG, lambda text: text.replace(section, another + section)):
        assert verify().faults == ["trained_as: recorded cards, found another"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (None, r"mine\.yaml: "),
        ("runs: [\n", r"mine\.yaml:2: "),
        ("- a\n", r"mine\.yaml: "),
        ("of another run", "has no run 'cards'"),
    ],
)
def test_a_configuration_that_is_not_the_runs_is_one_clear_line(project, verify, tmp_path, text, line):
    file = tmp_path / "mine.yaml"
    if text == "of another run":
        text = (project.folder / CONFIG).read_text(encoding="utf-8").replace("runs:\n  cards:", "runs:\n  others:")
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=line) as error:
        verify(BUNDLE, file)
    assert "\n" not in str(error.value)


def test_files_that_are_missing_too_many_or_links_are_named_and_links_not_followed(verify, bundle, tmp_path):
    (tmp_path / "secret").write_text("secret\n")
    (bundle / "Modelfile").unlink()
    (bundle / "README.md").unlink()
    (bundle / "README.md").symlink_to(tmp_path / "secret")
    (bundle / "folder").symlink_to(tmp_path)
    (bundle / "more").mkdir()
    (bundle / "more/run.sh").write_text("echo\n")
    (bundle / "a\x1b[31m").write_text("\n")
    found = verify(bundle).faults
    assert {line.partition(": ")[0] for line in found} == {
        "Modelfile", "README.md", "folder", "more/run.sh", "a\\x1b[31m"
    }  # fmt: skip
    assert sum("is a link" in line for line in found) == 2


def test_what_was_changed_with_its_checksums_is_found(verify, bundle):
    [gguf] = bundle.glob("*.gguf")
    whole = gguf.read_bytes()
    flip(gguf)
    write_sums(bundle)
    [fault] = verify(bundle).faults
    assert fault.startswith(f"ro-crate-metadata.json: {gguf.name}: ")
    gguf.write_bytes(whole[:-1000])
    write_sums(bundle)
    assert any(line.startswith(gguf.name) for line in verify(bundle).faults)
    record = bundle / "provenance.json"
    record.write_text(record.read_text().replace('"learning_rate": 0.001', '"learning_rate": 0.005', 1))
    write_sums(bundle)
    assert any(line.startswith("config: ") for line in verify(bundle).faults)


def test_checksums_of_what_is_outside_or_named_twice_are_refused(verify, bundle):
    sums = (bundle / "SHA256SUMS").read_text()
    for name in ("../../outside", "/etc/hostname", "workflow/../../x", "./README.md", "README.md", "a\\nb"):
        (bundle / "SHA256SUMS").write_text(f"{sums}{'0' * 64}  {name}\n")
        with pytest.raises(UserError):
            verify(bundle)


@pytest.mark.parametrize("case", CASES["misleading records"], ids=str)
def test_a_record_that_leads_elsewhere_or_is_none_is_one_clear_line(project, verify, case):
    bundle = project.folder / BUNDLE
    kept = shutil.copytree(bundle, bundle.with_name("kept"))
    record = json.loads((bundle / "provenance.json").read_text())
    *parents, last = case["key"].split(".")
    target = record
    for key in parents:
        target = target[key]
    target[last] = case["value"]
    (bundle / "provenance.json").write_text(json.dumps(record))
    write_sums(bundle)
    try:
        with pytest.raises(UserError):
            verify()
    finally:
        shutil.rmtree(bundle)
        kept.rename(bundle)


@pytest.mark.parametrize("text", ["[]", "{", '{"@graph": 5}', '{"@graph": [5]}', "[" * 100_000])
def test_a_crate_that_is_none_is_named(verify, bundle, text):
    (bundle / "ro-crate-metadata.json").write_text(text)
    try:
        said = verify(bundle).faults
    except UserError as error:
        said = [str(error)]
    assert any("ro-crate-metadata.json" in line for line in said)
