"""Models and datasets of a hub through the real client: downloaded, or, with `offline: true`, carried in."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from scripts.common.errors import UserError
from scripts.common.files import check_manifest
from scripts.common.offline import ENVIRONMENT
from scripts.common.snapshot_from_cache import snapshot_from_cache
from tests.support.hub import Hub
from tests.support.project import ROOT
from tests.support.tiny_model import without_manifest

REPOSITORY, REVISION = "someone/thing", "0123456789abcdef0123456789abcdef01234567"
NOWHERE = {**ENVIRONMENT, "HF_ENDPOINT": "http://127.0.0.1:9"}  # with `offline: true`; nothing listens there


def run(*command: object, **own: object) -> subprocess.CompletedProcess:
    """Run a Python program with more environment variables."""
    own = {name: str(value) for name, value in {"PYTHONPATH": ROOT, "HF_HUB_DISABLE_XET": "1", **own}.items()}
    command, environment = [sys.executable, *map(str, command)], {**os.environ, **own}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def fetch(folder: Path, revision: str = REVISION, **own: object) -> subprocess.CompletedProcess:
    """Run the step that fetches a model."""
    settings = {"hub": {"id": REPOSITORY, "revision": revision}, "architecture": "mistral", "license": "Apache-2.0"}
    settings = json.dumps(settings | {"trust_remote_code": False})
    words = ["--name", "m", "--folder", folder, "--settings", settings, "--log", folder.parent / "log"]
    return run(ROOT / "scripts/model/fetch_hub_model.py", *words, HF_HOME=folder.parent / "hf", **own)


def carry(hub: Hub, cache: Path, *options: str) -> None:
    """Fill a cache where there is a network, by the command of docs/how-to/air-gapped.md."""
    command = [Path(sys.executable).parent / "hf", "download", REPOSITORY, "--revision", REVISION, *options]
    done = run(*command, HF_ENDPOINT=hub.url, HF_HUB_CACHE=cache)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def source(tiny_base, tmp_path) -> Path:
    """A model folder as on the hub."""
    return without_manifest(tiny_base, tmp_path / "source")


def test_a_download_that_breaks_off_continues_and_is_without_pickles_code_or_double_weights(source, tmp_path):
    for name in ("consolidated.safetensors", "pytorch_model.bin", "modeling_own.py"):
        (source / name).write_bytes(b"x" * 100)
    save_file({"weight": torch.randn(6_000_000)}, source / "more.safetensors")
    with Hub(source, REPOSITORY, REVISION, break_after=12_000_000) as hub:
        first = fetch(tmp_path / "m", HF_ENDPOINT=hub.url)
        done = fetch(tmp_path / "m", HF_ENDPOINT=hub.url) if first.returncode else first
    assert done.returncode == 0, done.stderr
    first, second, *_ = (wanted for name, wanted in hub.asked if name == "more.safetensors")
    assert first is None
    assert int(second.removeprefix("bytes=").rstrip("-")) > 10_000_000
    facts = check_manifest(tmp_path / "m/manifest.json", hashes=True)
    assert (facts["source"], facts["id"], facts["revision"]) == ("hub", REPOSITORY, REVISION)
    assert not {"consolidated.safetensors", "pytorch_model.bin", "modeling_own.py"} & facts["files"].keys()
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "m").num_parameters() + 6_000_000 == facts["parameters"]


def test_a_model_that_is_not_there_is_one_clear_line(source, tmp_path):
    with Hub(source, REPOSITORY, REVISION) as hub:
        done = fetch(tmp_path / "m", "f" * 40, HF_ENDPOINT=hub.url)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"model '{REPOSITORY}' at ffffffffffff can't be downloaded: " in done.stderr
    assert not (tmp_path / "m/manifest.json").exists()


def test_a_model_that_was_carried_in_is_taken_at_its_commit_and_one_by_half_is_refused(source, tmp_path):
    cache = tmp_path / "cache"
    with Hub(source, REPOSITORY, REVISION) as hub:
        carry(hub, cache)
    done = fetch(tmp_path / "m", HF_HUB_CACHE=cache, **NOWHERE)
    assert done.returncode == 0, done.stderr
    facts = check_manifest(tmp_path / "m/manifest.json", hashes=True)
    assert (facts["source"], facts["id"], facts["revision"]) == ("hub", REPOSITORY, REVISION)
    assert (tmp_path / "m/model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
    [weights] = cache.rglob("snapshots/*/model.safetensors")
    weights.unlink()
    done = fetch(tmp_path / "n", HF_HUB_CACHE=cache, **NOWHERE)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "is incomplete in the hub cache" in done.stderr


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_what_was_not_carried_in_is_one_line_that_says_how(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    remedy = f"hf download {REPOSITORY} --repo-type {kind} --revision {REVISION}; copy that cache to this machine"
    with pytest.raises(UserError, match=f"{kind} '{REPOSITORY}' at 0123456789ab is missing .* {remedy}"):
        snapshot_from_cache(kind, REPOSITORY, REVISION)


def test_a_dataset_that_was_carried_in_is_read_at_its_commit(tmp_path):
    raw, cache = tmp_path / "raw", tmp_path / "cache"
    (raw / "fr").mkdir(parents=True)
    (raw / "README.md").write_text("---\nconfigs:\n- config_name: fr\n  data_files: fr/train.jsonl\n---\n")
    rows = [{"prompt": f"p{i}", "completion": f"c{i}"} for i in range(3)]
    (raw / "fr/train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with Hub(raw, REPOSITORY, REVISION, kind="dataset") as hub:
        carry(hub, cache, "--repo-type", "dataset")
    code = (
        "import json; from scripts.dataset.read_hub import read_hub_rows\n"
        f"hub = dict(id='{REPOSITORY}', revision='{REVISION}', name='fr', split='train')\n"
        "print(json.dumps([(row.origin, row.record) for row in read_hub_rows(hub)]))"
    )
    done = run("-c", code, HF_HUB_CACHE=cache, HF_HOME=tmp_path / "records", **NOWHERE)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[f"{REPOSITORY}@0123456789ab/train:{i}", row] for i, row in enumerate(rows, 1)]
