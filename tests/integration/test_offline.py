"""`offline: true`: hub models and datasets that were carried in, and what is said of those that were not."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.common.carried import carried
from scripts.common.errors import UserError
from scripts.common.files import check_manifest
from scripts.common.offline import ENVIRONMENT
from scripts.gguf.fetch_converter import fetch_converter
from tests.support.gguf_files import CONVERTER
from tests.support.hub import Hub
from tests.support.project import ROOT

REPOSITORY, REVISION = "someone/thing", "0123456789abcdef0123456789abcdef01234567"
SETTINGS = {
    "hub": {"id": REPOSITORY, "revision": REVISION},
    "architecture": "mistral",
    "license": "Apache-2.0",
    "trust_remote_code": False,
}
# What is typed where there is a network: docs/how-to/air-gapped.md.
DOWNLOAD = [str(Path(sys.executable).parent / "hf"), "download", REPOSITORY, "--revision", REVISION]


def download(hub: Hub, cache: Path, *options: str) -> None:
    """Fill a cache as on the machine that has a network."""
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(cache), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run([*DOWNLOAD, *options], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def offline_step(script: str, cache: Path, *words: str, log: Path) -> subprocess.CompletedProcess:
    """Run a step as the workflow does with `offline: true`; the hub's address is one that nothing listens at."""
    own = {"PYTHONPATH": str(ROOT), "HF_HUB_CACHE": str(cache), "HF_ENDPOINT": "http://127.0.0.1:9"}
    command = [sys.executable, str(ROOT / "scripts" / script), *words, "--log", str(log)]
    return subprocess.run(
        command, env={**os.environ, **ENVIRONMENT, **own}, capture_output=True, text=True, check=False
    )


def take_model(cache: Path, folder: Path) -> subprocess.CompletedProcess:
    """Run the step that fetches a hub model."""
    words = ("--name", "m", "--folder", str(folder), "--settings", json.dumps(SETTINGS))
    return offline_step("model/fetch_hub_model.py", cache, *words, log=folder.parent / "log")


@pytest.fixture
def source(tiny_base, tmp_path) -> Path:
    """A model folder as on the hub."""
    return shutil.copytree(tiny_base.parent, tmp_path / "source", ignore=shutil.ignore_patterns("manifest.json"))


def test_a_model_that_was_carried_in_is_taken_at_its_commit(source, tmp_path):
    with Hub(source, REPOSITORY, REVISION) as hub:
        download(hub, tmp_path / "cache")
    done = take_model(tmp_path / "cache", tmp_path / "m")
    assert done.returncode == 0, done.stderr
    facts = check_manifest(tmp_path / "m" / "manifest.json", hashes=True)
    assert (facts["source"], facts["id"], facts["revision"]) == ("hub", REPOSITORY, REVISION)
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()


def test_a_model_that_was_not_carried_in_is_one_line_that_says_how(tmp_path):
    done = take_model(tmp_path / "cache", tmp_path / "m")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"model '{REPOSITORY}' at 0123456789ab is not there in the hub cache" in done.stderr
    assert f"hf download {REPOSITORY} --repo-type model --revision {REVISION}; carry that cache here" in done.stderr


def test_a_model_that_was_carried_in_by_half_is_refused(source, tmp_path):
    with Hub(source, REPOSITORY, REVISION) as hub:
        download(hub, tmp_path / "cache")
    [weights] = (tmp_path / "cache").rglob("snapshots/*/model.safetensors")
    weights.unlink()
    done = take_model(tmp_path / "cache", tmp_path / "m")
    assert done.returncode == 1
    assert "is not whole in the hub cache" in done.stderr


def test_a_dataset_that_was_carried_in_is_read_at_its_commit(tmp_path):
    raw, records = tmp_path / "raw", tmp_path / "records"
    (raw / "fr").mkdir(parents=True)
    (raw / "README.md").write_text("---\nconfigs:\n- config_name: fr\n  data_files: fr/train.jsonl\n---\n")
    rows = [{"prompt": f"p{i}", "completion": f"c{i}"} for i in range(3)]
    (raw / "fr" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with Hub(raw, REPOSITORY, REVISION, kind="dataset") as hub:
        download(hub, tmp_path / "cache", "--repo-type", "dataset")
    code = (
        "import json; from scripts.dataset.read_hub import read_hub_rows\n"
        f"hub = dict(id='{REPOSITORY}', revision='{REVISION}', name='fr', split='train')\n"
        "print(json.dumps([(row.origin, row.record) for row in read_hub_rows(hub)]))"
    )
    own = {"PYTHONPATH": str(ROOT), "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HOME": str(records)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **ENVIRONMENT, **own},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout)
    assert [record for _, record in read] == rows
    assert read[0][0] == f"{REPOSITORY}@0123456789ab/train:1"


def test_a_dataset_that_was_not_carried_in_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=f"dataset '{REPOSITORY}' .* --repo-type dataset --revision {REVISION}"):
        carried("dataset", REPOSITORY, REVISION)


def test_the_converter_is_not_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("SNAKETUNE_OFFLINE", "1")
    with pytest.raises(UserError, match=r"name it in SNAKETUNE_LLAMA_CPP_ARCHIVE \(docs/how-to/air-gapped.md\)"):
        fetch_converter(CONVERTER, tmp_path / "tools")
