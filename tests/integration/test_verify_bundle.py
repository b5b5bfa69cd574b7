"""`make verify`: whatever was changed since a bundle was made is named, and a bundle that misleads is refused."""

import functools
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
from scripts.deploy.verify_bundle import verify_bundle
from tests.support.damage import flip_byte
from tests.support.data import load
from tests.support.project import ROOT, Project, without_make
from tests.support.releases import release

BUNDLE = Path("results/runs/cards/bundle")
CONFIG = "config/config.yaml"
CASES = load("verify_bundle.yaml")


@pytest.fixture(autouse=True)
def project(finished, tmp_path, monkeypatch) -> Project:
    """A finished project to change, in whose folder the test runs."""
    project = finished.copy(tmp_path / "project")
    monkeypatch.chdir(project.folder)
    return project


@pytest.fixture
def bundle(project, tmp_path) -> Path:
    """A copy of its bundle that lies elsewhere."""
    return shutil.copytree(BUNDLE, tmp_path / "bundle")


def faults(bundle: Path = BUNDLE, *configfiles: Path) -> list[str]:
    """Verify a bundle in the project of the working directory; return what differs."""
    return verify_bundle(bundle, list(configfiles), Path.cwd()).faults


def replace(path: str | Path, old: str, new: str) -> None:
    text = Path(path).read_text(encoding="utf-8")
    assert old in text
    Path(path).write_text(text.replace(old, new, 1), encoding="utf-8")


def test_make_verify_takes_the_bundle_and_finds_all_that_it_was_made_from():
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    run = {"env": {**without_make(), "PATH": path, "PYTHONPATH": os.curdir}, "capture_output": True, "text": True}
    command = ["make", "--file", ROOT / "Makefile", "VENV=", "verify"]
    done = subprocess.run([*command, f"BUNDLE={BUNDLE}"], **run, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("none differs, 0 could not be compared\n")
    assert subprocess.run(command, **run, check=False).returncode == 2


def test_a_bundle_alone_is_verified_without_any_package(bundle):
    def run(folder):
        command = [sys.executable, "-S", "scripts/deploy/verify_bundle.py", folder]
        environment = {**os.environ, "PYTHONPATH": os.curdir}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    status, said, _ = run(bundle)
    assert status == 0
    for name in ("config", "base model: small/manifest.json", "tokenizer: tokenizer.json", "made from: gguf"):
        assert f"unknown  {name}: not" in said
    (bundle / "README.md").write_text("other")
    status, said, _ = run(bundle)
    assert (status, said.count("DIFFERS  README.md: ")) == (1, 1)
    status, said, error = run(bundle.parent)
    assert (status, said, error.count("\n")) == (1, "", 1)
    assert "SHA256SUMS: is missing" in error


def test_everything_that_was_changed_is_named(project):
    for path in CASES["changed bytes"]:
        flip_byte(Path(path))
    replace("results/runs/cards/training.json", '"cpu"', '"other"')
    project.write("scripts/score/added.py", "added = 1\n")
    replace(CONFIG, "1.0e-3", "2.0e-3")
    replace(CONFIG, "threshold: 0.1}", "threshold: 0.2}")
    found = faults()
    assert "config: run.training.learning_rate: recorded 0.001, found 0.002" in found
    assert {re.sub(r": (recorded|not recorded|has changed).*", "", line) for line in found} == {*CASES["named"]}


def test_the_configuration_that_a_bundle_was_made_with_is_found_and_not_the_demos(project):
    shutil.copy(CONFIG, "config/mine.yaml")
    done = project.snakemake("--configfile", "config/mine.yaml", "--quiet", "host", "reason", "rules")
    assert done.returncode == 0, done.stdout
    replace(CONFIG, "1.0e-3", "2.0e-3")
    assert faults() == []
    [fault] = faults(BUNDLE, Path(CONFIG))
    assert fault.startswith("config: run.training.learning_rate")
    Path("config/mine.yaml").unlink()
    found = verify_bundle(BUNDLE, [], project.folder)
    assert found.faults == []
    assert any('name the run\'s configuration, ARGS="--configfile config/mine.yaml"' in line for line in found.absent)


def test_another_run_that_would_train_the_same_model_is_named():
    text = Path(CONFIG).read_text(encoding="utf-8")
    another = text[text.index("  cards:\n    dataset: cards") : text.index("gates:")].replace("  cards:", "  a:", 1)
    replace(CONFIG, "runs:\n", f"runs:\n{another}")
    assert faults() == ["trained_as: recorded cards, found a"]


def test_a_configuration_that_is_not_the_runs_is_one_clear_line():
    other = Path(CONFIG).read_text(encoding="utf-8").replace("runs:\n  cards:", "runs:\n  others:")
    for text, line in (("runs: [\n", r"mine\.yaml:2: "), (other, "has no run 'cards'")):
        Path("mine.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=line) as error:
            faults(BUNDLE, Path("mine.yaml"))
        assert "\n" not in str(error.value)


def test_files_that_are_missing_too_many_or_links_are_named_and_links_not_followed(bundle, tmp_path):
    (bundle / "README.md").rename(tmp_path / "secret")
    (bundle / "README.md").symlink_to(tmp_path / "secret")
    (bundle / "folder").symlink_to(tmp_path)
    (bundle / "Modelfile").rename(bundle / "a\x1b[31m")
    (bundle / "more").mkdir()
    (bundle / "more/run.sh").write_text("echo\n")
    found = faults(bundle)
    names = {"Modelfile", "README.md", "folder", "more/run.sh", "a\\x1b[31m"}
    assert {line.partition(": ")[0] for line in found} == names
    assert sum("is a link" in line for line in found) == 2


def test_what_was_changed_with_its_checksums_is_found(bundle):
    [gguf] = bundle.glob("*.gguf")
    whole = gguf.read_bytes()
    flip_byte(gguf)
    write_sums(bundle)
    [fault] = faults(bundle)
    assert fault.startswith(f"ro-crate-metadata.json: {gguf.name}: ")
    gguf.write_bytes(whole[:-1000])
    replace(bundle / "provenance.json", '"learning_rate": 0.001', '"learning_rate": 0.005')
    write_sums(bundle)
    found = faults(bundle)
    assert any(line.startswith(gguf.name) for line in found)
    assert any(line.startswith("config: ") for line in found)


def test_a_delivery_by_force_is_named_with_its_reason_and_a_difference_without_one(bundle, tmp_path):
    target = tmp_path / "target"
    assert release("deliver", bundle, target, "--force", "for the final") == 0
    found = verify_bundle(target / "current", [], Path.cwd())
    assert found.faults == []
    assert "release.json: delivered by force, with the verdict hold: for the final" in found.absent
    replace(target / "current/release.json", '"for the final"', "null")
    assert faults(target / "current") == ["release.json: delivered by force, with the verdict hold: without a reason"]


def test_checksums_of_what_is_outside_or_named_twice_are_refused(bundle):
    sums = (bundle / "SHA256SUMS").read_text()
    for name in ("../../outside", "/etc/hostname", "workflow/../../x", "./README.md", "README.md", "a\\nb"):
        (bundle / "SHA256SUMS").write_text(f"{sums}{'0' * 64}  {name}\n")
        with pytest.raises(UserError):
            faults(bundle)


def test_a_record_that_leads_elsewhere_or_is_none_is_one_clear_line():
    whole = (BUNDLE / "provenance.json").read_text()
    for key, value in CASES["misleading records"]:
        record, (*parents, last) = json.loads(whole), key.split(".")
        functools.reduce(dict.__getitem__, parents, record)[last] = value
        (BUNDLE / "provenance.json").write_text(json.dumps(record))
        write_sums(BUNDLE)
        with pytest.raises(UserError):
            faults()


def test_a_crate_that_is_none_is_named(bundle):
    for text in ("[]", '{"@graph": 5}', '{"@graph": [5]}'):
        (bundle / "ro-crate-metadata.json").write_text(text)
        assert "ro-crate-metadata.json: does not list the bundle's files" in faults(bundle)
    for text in ("{", "[" * 100_000):
        (bundle / "ro-crate-metadata.json").write_text(text)
        with pytest.raises(UserError, match=r"ro-crate-metadata\.json: is not valid JSON"):
            faults(bundle)
