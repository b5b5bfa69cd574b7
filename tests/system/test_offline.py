"""What a project says in a network namespace that holds nothing; test_every_rule_fails.py runs all steps in one."""

import os
import subprocess
import sys

import pytest

from scripts.gguf.fetch_converter import ARCHIVE_VARIABLE
from tests.support.offline import OfflineProject, in_no_network

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> OfflineProject:
    """A small project that keeps off the network."""
    return OfflineProject.made_in(tmp_path_factory.mktemp("offline"))


def test_a_model_that_was_not_carried_in_is_named_at_once(project):
    hub = f"hub: {{id: someone/thing, revision: {REVISION}}}"
    with project.edited("config/config.yaml", lambda text: text.replace("embedded: {", f"{hub} #")):
        done = project.run("results/models/small/manifest.json", HF_HUB_CACHE=str(project.folder / "cache"))
    assert done.returncode == 1
    line = "model 'someone/thing' at 0123456789ab is missing in the hub cache"
    assert done.stdout.count(line) == 1
    assert done.stdout.splitlines()[-1].startswith(line)
    assert project.reached() == ""


def test_the_converter_that_was_not_carried_in_is_named_at_once(project):
    done = project.run("results/tools/llama.cpp/manifest.json")
    assert done.returncode == 1
    assert done.stdout.count("\nthe archive of llama-cpp-python") == 1
    assert f"set {ARCHIVE_VARIABLE} to its path (docs/how-to/air-gapped.md)" in done.stdout
    assert project.reached() == ""


def test_the_witness_sees_a_reach_for_the_network(project):
    code = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"
    environment = {**os.environ, "PYTHONPATH": str(project.folder)}
    done = subprocess.run(in_no_network(sys.executable, "-c", code), env=environment, capture_output=True, check=False)
    assert b"Network is unreachable" in done.stderr
    assert "192.0.2.1" in project.reached()
