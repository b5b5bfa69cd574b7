"""Tokens of the environment are in no file that a run leaves: results, logs, reports, and Snakemake's own."""

import base64
import gzip
import os
import subprocess
import sys

import pytest

from tests.support.hub import Hub
from tests.support.project import ROOT, Project
from tests.support.secrets import PLANTED, forms, traces
from tests.support.tiny_model import without_manifest

REPOSITORY, REVISION = "someone/model", "0123456789abcdef0123456789abcdef01234567"
LEDGER = "results/datasets/cards/ledger.json"
SCRIPT = "scripts/dataset/write_dataset_ledger.py"
HEAD = "def step(arguments: argparse.Namespace) -> None:\n"


@pytest.fixture(scope="module")
def project(finished, tmp_path_factory) -> Project:
    """A copy of a finished project, to continue in."""
    return finished.copy(tmp_path_factory.mktemp("secrets") / "project")


def no_token(text: str) -> bool:
    """Say whether a text is free of all planted tokens."""
    return not any(form in text.encode() for secret in PLANTED.values() for form in forms(secret))


@pytest.mark.parametrize("hide", [bytes, base64.b64encode, gzip.compress, lambda text: text.hex().encode()])
def test_the_search_finds_a_token_whatever_it_is_wrapped_in(tmp_path, hide):
    for start in range(4):
        (tmp_path / f".{start}").write_bytes(hide(b"-" * start + PLANTED["WANDB_API_KEY"].encode() + b" end"))
    assert [line.rpartition(": ")[2] for line in traces(tmp_path)] == ["WANDB_API_KEY"] * 4


def test_a_whole_run_and_its_report_leave_no_token_anywhere(project):
    assert (project.folder / ".snakemake/metadata").is_dir()
    done = project.snakemake("--report", "report.html", environment=PLANTED)
    assert done.returncode == 0, done.stdout
    assert traces(project.folder) == []


def test_a_run_that_fails_and_prints_its_commands_leaves_none(project):
    broken = HEAD + "    raise RuntimeError('a fault of the step')\n"
    with project.edited(SCRIPT, lambda text: text.replace(HEAD, broken, 1)):
        options = ("--printshellcmds", "--verbose", "--show-failed-logs", "--retries", "1")
        done = project.snakemake(LEDGER, *options, environment=PLANTED)
    assert done.returncode == 1
    assert "a fault of the step" in done.stdout
    log = project.folder / "results/logs/dataset/write_dataset_ledger/cards.log"
    assert "Traceback" in log.read_text(encoding="utf-8")
    assert no_token(done.stdout)
    assert traces(project.folder) == []


def test_the_hub_gets_its_token_and_nobody_else_does(project, tiny_base, tmp_path):
    source = without_manifest(tiny_base, tmp_path / "source")
    model = f"models:\n  hubbed:\n    hub: {{id: {REPOSITORY}, revision: {REVISION}}}\n    license: MIT\n"
    project.write("config/config.yaml", (project.folder / "config/config.yaml").read_text().replace("models:\n", model))
    with Hub(source, REPOSITORY, REVISION) as store, Hub(source, REPOSITORY, REVISION, store=store.url) as hub:
        network = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1", "HF_DEBUG": "1"}
        done = project.snakemake("results/models/hubbed/manifest.json", "-p", environment={**PLANTED, **network})
    assert done.returncode == 0, done.stdout
    asked = {who for path, who in hub.authorizations if REPOSITORY in path}
    assert asked == {f"Bearer {PLANTED['HF_TOKEN']}"}
    assert store.asked
    assert {who for _, who in store.authorizations} == {None}
    assert no_token(done.stdout)
    assert traces(project.folder, tmp_path / "hf") == []


@pytest.mark.parametrize("login", ["somebody:{}", "{}"])
def test_the_password_of_a_package_index_is_not_in_the_log(tmp_path, login):
    secret = PLANTED["MLFLOW_TRACKING_TOKEN"]
    with Hub(tmp_path / "nothing", REPOSITORY, REVISION) as index:
        address = f"{index.url.replace('//', f'//{login.format(secret)}@')}/simple"
        own = {"PIP_INDEX_URL": address, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1", "PIP_RETRIES": "0"}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "SNAKETUNE_"))}
        script, pin = ROOT / "scripts/gguf/fetch_converter.py", ROOT / "envs/converter.txt"
        command = [sys.executable, script, pin, "--folder", tmp_path / "converter", "--log", tmp_path / "log"]
        done = subprocess.run(command, env={**kept, **own}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "127.0.0.1" in (tmp_path / "log").read_text(encoding="utf-8")
    assert any(authorization for _, authorization in index.authorizations)
    assert no_token(done.stdout + done.stderr)
    assert traces(tmp_path) == []
