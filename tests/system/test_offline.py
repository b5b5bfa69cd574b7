"""The whole workflow in a network namespace that holds nothing, not even a loopback that is up."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.gguf.fetch_converter import ARCHIVE_VARIABLE
from tests.support.needs import need
from tests.support.project import Project
from tests.support.same_results import contents

# Steps have the project's folder on their path, so Python runs this first in each: every reach is written down, also
# one whose failure a library keeps to itself.
WITNESS = """
import os, sys

def witness(event, arguments):
    if event == "socket.getaddrinfo":
        place = arguments[0]
    elif event == "socket.connect" and not isinstance(arguments[1], (str, bytes)):
        place = arguments[1][0]
    else:
        return
    with open(os.path.join(os.path.dirname(__file__), "reached.txt"), "a") as file:
        file.write(f"{place} {sys.argv}\\n")

sys.addaudithook(witness)
"""
# What records the code's folder, to which this test adds a file.
DIFFERENT = ("results/runs/cards/bundle/provenance.json",)
REVISION = "0123456789abcdef0123456789abcdef01234567"


def in_no_network(*command: str) -> list[str]:
    """Return a command that runs another one where there is no network."""
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    return [need("unshare", "apt-get install util-linux"), "--net", *as_root, *command]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """A small project that keeps off the network."""
    made = Project.made_in(tmp_path_factory.mktemp("offline"))
    config = made.folder / "config" / "config.yaml"
    config.write_text("offline: true\n" + config.read_text())
    made.write("sitecustomize.py", WITNESS)
    return made


def run(project: Project, *words: str, **variables: str) -> subprocess.CompletedProcess:
    """Run snakemake in the project without a network."""
    tools = Path(sys.executable).parent
    own = {name: value for name, value in os.environ.items() if name != ARCHIVE_VARIABLE}
    own |= {"PYTHONPATH": str(project.folder), "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", **variables}
    command = in_no_network(str(tools / "snakemake"), *words, "--quiet", "host", "reason", "rules", "--cores", "2")
    return subprocess.run(
        command, cwd=project.folder, env=own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )


def reached(project: Project) -> str:
    """Return who reached for the network, and forget it."""
    file = project.folder / "reached.txt"
    text = file.read_text() if file.exists() else ""
    file.unlink(missing_ok=True)
    return text


def test_a_model_that_was_not_carried_in_is_named_at_once(project):
    hub = f"hub: {{id: someone/thing, revision: {REVISION}}}"
    with project.edited("config/config.yaml", lambda text: text.replace("embedded: {", f"{hub} #")):
        done = run(project, "results/models/small/manifest.json", HF_HUB_CACHE=str(project.folder / "cache"))
    assert done.returncode == 1
    line = "model 'someone/thing' at 0123456789ab is missing in the hub cache"
    assert done.stdout.count(line) == 1
    assert done.stdout.splitlines()[-1].startswith(line)
    assert reached(project) == ""


def test_the_converter_that_was_not_carried_in_is_named_at_once(project):
    done = run(project, "results/tools/llama.cpp/manifest.json")
    assert done.returncode == 1
    assert done.stdout.count("\nthe archive of llama-cpp-python") == 1
    assert f"set {ARCHIVE_VARIABLE} to its path (docs/how-to/air-gapped.md)" in done.stdout
    assert reached(project) == ""


def test_the_whole_workflow_runs_without_a_network_and_reaches_for_none(project, converter_archive, finished):
    """And makes what it makes elsewhere: another folder, and no network, change no byte of it."""
    done = run(project, **{ARCHIVE_VARIABLE: str(converter_archive)})
    assert done.returncode == 0, done.stdout
    assert (project.folder / "results" / "leaderboard.html").exists()
    assert (project.folder / "results" / "runs" / "cards" / "bundle" / "SHA256SUMS").exists()
    assert reached(project) == ""
    found, expected = contents(project.folder), contents(finished.folder)
    assert found.keys() == expected.keys()
    assert [name for name, content in found.items() if content != expected[name] and name not in DIFFERENT] == []
    with project.edited("config/config.yaml", lambda text: text.replace("offline: true", "offline: false")):
        assert not project.planned()


def test_the_witness_sees_a_reach_for_the_network(project):
    code = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"
    environment = {**os.environ, "PYTHONPATH": str(project.folder)}
    done = subprocess.run(in_no_network(sys.executable, "-c", code), env=environment, capture_output=True, check=False)
    assert b"Network is unreachable" in done.stderr
    assert "192.0.2.1" in reached(project)
