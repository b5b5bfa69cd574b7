"""A hub model through the real client: what is downloaded, what is refused, and that a broken download goes on."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from scripts.common.files import check_manifest
from tests.support.hub import Hub

ROOT = Path(__file__).parents[2]
REPOSITORY, REVISION = "someone/model", "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def source(tiny_base, tmp_path):
    folder = tmp_path / "source"
    shutil.copytree(tiny_base.parent, folder, ignore=shutil.ignore_patterns("manifest.json"))
    (folder / "consolidated.safetensors").write_bytes(b"the same weights once more")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "modeling_own.py").write_text("raise SystemExit('foreign code')")
    return folder


def fetch(hub: Hub, folder: Path, revision: str = REVISION, **changes) -> subprocess.CompletedProcess:
    settings = {
        "hub": {"id": REPOSITORY, "revision": revision},
        "architecture": "mistral",
        "license": "Apache-2.0",
        "trust_remote_code": False,
    } | changes
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder.parent / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": "hf_secretsecret",
    }
    script = ROOT / "scripts" / "model" / "fetch_hub_model.py"
    command = [sys.executable, script, "--name", "m", "--folder", folder, "--settings", json.dumps(settings)]
    return subprocess.run(
        [*command, "--log", folder.parent / "log"], capture_output=True, text=True, env=environment, timeout=120
    )


def test_a_hub_model_is_downloaded_without_pickles_code_or_double_weights(source, tmp_path):
    with Hub(source, REPOSITORY, REVISION) as hub:
        done = fetch(hub, tmp_path / "m")
    assert done.returncode == 0, done.stderr + (tmp_path / "log").read_text()
    facts = check_manifest(tmp_path / "m" / "manifest.json", hashes=True)
    assert (facts["source"], facts["id"], facts["revision"]) == ("hub", REPOSITORY, REVISION)
    assert not {"consolidated.safetensors", "pytorch_model.bin", "modeling_own.py"} & facts["files"].keys()
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "m").num_parameters() == facts["parameters"]


def test_a_download_that_breaks_off_goes_on_where_it_was(source, tmp_path):
    save_file({"weight": torch.randn(6_000_000)}, source / "more.safetensors")
    with Hub(source, REPOSITORY, REVISION, break_after=12_000_000) as hub:
        first = fetch(hub, tmp_path / "m")
        second = fetch(hub, tmp_path / "m") if first.returncode else first
    assert second.returncode == 0, second.stderr
    asked = [wanted for name, wanted in hub.asked if name == "more.safetensors"]
    assert asked[0] is None
    assert int(asked[1].removeprefix("bytes=").rstrip("-")) > 10_000_000
    assert (tmp_path / "m" / "more.safetensors").read_bytes() == (source / "more.safetensors").read_bytes()


def test_a_model_that_is_not_there_is_one_clear_line(source, tmp_path):
    with Hub(source, REPOSITORY, REVISION) as hub:
        done = fetch(hub, tmp_path / "m", revision="f" * 40)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"model '{REPOSITORY}' at ffffffffffff can't be downloaded: " in done.stderr
    assert not (tmp_path / "m" / "manifest.json").exists()


def test_the_token_is_in_no_file(source, tmp_path):
    with Hub(source, REPOSITORY, REVISION) as hub:
        fetch(hub, tmp_path / "m")
    for path in [tmp_path / "log", *(tmp_path / "m").rglob("*")]:
        assert path.is_dir() or b"hf_secretsecret" not in path.read_bytes()
