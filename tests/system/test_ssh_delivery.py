"""Bundles go to a real SSH host: whole or not at all, only to the known one, and a cut-off copy continues."""

import fcntl
import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest

from scripts.deploy.ssh_folder import SshFolder
from tests.support.project import ROOT
from tests.support.releases import HOLD, current_run, history, make_bundle, release
from tests.support.small_disk import ENOUGH
from tests.support.ssh_server import SshServer

HOSTILE = 'it\'s a "pro*d" [folder] ; touch $(pwned) `x` & é'
SIZE = 24_000_000  # of a file; some 2 MB are on their way when a connection is cut off


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = SshServer(tmp_path_factory.mktemp("sshd"))
    yield server
    server.close()


@pytest.fixture(autouse=True)
def its_ssh(server, monkeypatch):
    """Let programs find the `ssh` that reads the server's client configuration; in the end none is connected."""
    server.know("host")
    monkeypatch.setenv("PATH", f"{server.programs}:{os.environ['PATH']}")
    yield
    end = time.monotonic() + 60
    while server.relay.open and time.monotonic() < end:
        time.sleep(0.02)
    assert not server.relay.open


@pytest.fixture
def folder(tmp_path):
    """The folder of releases on the host, whose name is as bad as it may be."""
    return tmp_path / HOSTILE / "target"


@pytest.fixture
def target(server, folder) -> str:
    return f"ssh://{server.address}{folder}"


def noise(seed: int, size: int = SIZE) -> bytes:
    """Return bytes that no transfer can shorten."""
    return random.Random(seed).randbytes(size)


def started(*words: object) -> subprocess.Popen:
    """Start the program in a process of its own."""
    command = [sys.executable, ROOT / "scripts/deploy/release.py", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def sent(text: str) -> list[tuple[int, int]]:
    """Return how many bytes each transfer sent, and how many it found from an earlier try."""
    return [(int(one), int(two)) for one, two in re.findall(r"(\d+) bytes sent, (\d+) continued", text)]


def test_releases_on_a_host_are_delivered_listed_pruned_and_gone_back_from_as_in_a_folder(
    target, folder, tmp_path, capsys
):
    held = make_bundle(tmp_path, "held", HOLD)
    assert release("deliver", held, target) == 1
    assert not folder.exists()
    assert release("deliver", held, target, "--force", "for the final", "--delivered", tmp_path / "facts.json") == 0
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert facts == {**json.loads((folder / "current/release.json").read_text()), "folder": target}
    assert history(folder)[0]["why"] == "forced: for the final (verdict hold: needs data)"
    assert current_run(folder) == "held"
    assert os.access(folder / "current/serve.sh", os.X_OK)

    model = noise(1, 2_000_000)
    for name in ("a", "b"):
        capsys.readouterr()
        assert release("deliver", make_bundle(tmp_path, name, model=model), target, "--keep", "2") == 0
        assert current_run(folder) == name
    [(count, _)] = sent(capsys.readouterr().err)
    assert count < 100_000  # the big file is that of a, and was linked
    names = sorted(path.name for path in (folder / "releases").iterdir())
    files = [folder / "releases" / name / "model.gguf" for name in names]
    assert (len(files), os.path.samefile(*files)) == (2, True)
    assert not os.path.samefile(*(file.with_name("serve.sh") for file in files))
    assert sorted(path.name for path in folder.rglob(".*")) == [".current.lock", ".delivery.lock"]

    assert release("deliver", tmp_path / "b", target) == 0
    assert "this bundle is current already" in capsys.readouterr().err
    assert release("list", target) == 0
    assert f"{names[1]}  current b  verdict promote" in capsys.readouterr().out
    assert release("back", target, "--reason", "too long") == 0
    assert current_run(folder) == "a"
    assert [line["what"] for line in history(folder)] == ["deliver", "deliver", "deliver", "back"]
    assert release("deliver", tmp_path / "b", target) == 0  # not again by mistake
    assert current_run(folder) == "a"
    assert release("back", target, "--reason", "x") == 1
    assert "has no release before the current one; name one: release.py back" in capsys.readouterr().err
    assert release("back", target, "--to", "z", "--reason", "x") == 1
    assert f"has no release 'z'; there are: {', '.join(names)}" in capsys.readouterr().err
    assert not list(tmp_path.rglob("pwned"))


def test_the_workflow_delivers_a_bundle_to_a_host(finished, target, folder, tmp_path):
    project = finished.copy(tmp_path / "project")
    deploy = json.dumps({"quant": "bf16", "target": {"folder": target, "force": "the stand-in's demo"}})
    with project.edited("config/config.yaml", lambda text: text.replace("{quant: bf16}", deploy)):
        done = project.snakemake("deliver", "--quiet", "host", "reason", "rules")
    assert done.returncode == 0, done.stdout
    sums = (project.folder / "results/runs/cards/bundle/SHA256SUMS").read_bytes()
    assert (folder / "current/SHA256SUMS").read_bytes() == sums
    assert json.loads((folder / "current/release.json").read_text())["forced"] == "the stand-in's demo"


def test_a_copy_that_was_cut_off_in_the_middle_continues_there(server, target, folder, tmp_path, capsys):
    bundle = make_bundle(tmp_path, "a", model=noise(2))
    assert release("deliver", make_bundle(tmp_path, "first"), target) == 0
    server.relay.cut_after = SIZE * 3 // 4
    capsys.readouterr()
    assert release("deliver", bundle, target) == 1
    [line] = [line for line in capsys.readouterr().err.splitlines() if " ERROR " in line]
    assert "the connection was lost or not made: " in line
    assert line.endswith("; run the same command again to continue")
    assert (current_run(folder), len(history(folder))) == ("first", 1)
    assert release("deliver", bundle, target) == 0
    [(count, matched)] = sent(capsys.readouterr().err)
    assert count < SIZE // 2
    assert count + matched > SIZE
    assert matched > SIZE // 2
    assert current_run(folder) == "a"
    assert sorted(path.name for path in folder.rglob(".*")) == [".current.lock", ".delivery.lock"]


def test_a_connection_that_ends_after_the_switch_leaves_it_and_its_line_to_the_next_delivery(
    target, folder, tmp_path, monkeypatch
):
    bundles = [make_bundle(tmp_path, name) for name in "ab"]
    assert release("deliver", bundles[0], target) == 0
    point = SshFolder.point

    def point_and_end(place: SshFolder, *words: str) -> None:
        point(place, *words)
        place.shell.kill()
        place.shell.wait()

    with monkeypatch.context() as patch:
        patch.setattr(SshFolder, "point", point_and_end)
        assert release("deliver", bundles[1], target) == 1
    assert (current_run(folder), len(history(folder))) == ("b", 1)
    assert release("deliver", bundles[1], target) == 0
    assert [line["to"] for line in history(folder)] == sorted(path.name for path in (folder / "releases").iterdir())
    assert sorted(path.name for path in folder.rglob(".*")) == [".current.lock", ".delivery.lock"]


def test_what_differs_there_is_sent_again_and_what_differs_here_is_refused(target, folder, tmp_path, capsys):
    model = noise(3, 2_000_000)
    assert release("deliver", make_bundle(tmp_path, "a", model=model), target) == 0
    there = folder / "current/model.gguf"
    there.write_bytes(bytes(2_000_000))  # a fault of the disk, which the next release would share
    capsys.readouterr()
    assert release("deliver", make_bundle(tmp_path, "b", model=model), target) == 0
    assert [count > 2_000_000 for count, _ in sent(capsys.readouterr().err)] == [False, True]
    assert current_run(folder) == "b"
    bundle = make_bundle(tmp_path, "c")
    (bundle / "model.gguf").write_bytes(b"changed")
    assert release("deliver", bundle, target) == 1
    assert "its copy differs from SHA256SUMS" in capsys.readouterr().err
    assert current_run(folder) == "b"


@pytest.mark.parametrize(
    ("known", "told"),
    [
        ("other", "its host key is not the known one: the server was set up again, or another one answers; ask its"),
        (None, "its host key is not known here; connect once with ssh, and compare the fingerprint"),
    ],
)
def test_a_host_with_another_key_than_the_known_one_gets_nothing(server, target, folder, tmp_path, capsys, known, told):
    server.know(known)
    for words in (("deliver", make_bundle(tmp_path, "a"), target), ("list", target)):
        assert release(*words) == 1
        [line] = capsys.readouterr().err.splitlines()
        assert f"{target}: {told}" in line
    assert not folder.exists()


def test_a_login_that_asks_for_a_password_is_one_line(server, target, tmp_path, capsys):
    accepted = (server.folder / "authorized").read_text()
    (server.folder / "authorized").write_text("")
    try:
        assert release("deliver", make_bundle(tmp_path, "a"), target) == 1
    finally:
        (server.folder / "authorized").write_text(accepted)
    [line] = capsys.readouterr().err.splitlines()
    assert "refuses the login without a password; load a key that it accepts into the agent" in line


def test_a_full_disk_there_is_one_line_and_leaves_the_current_release(server, disk, tmp_path, capsys):
    folder = disk.folder / "target"
    target = f"ssh://{server.address}{folder}"
    assert release("deliver", make_bundle(tmp_path, "a"), target) == 0
    disk.leave(4_000_000)
    capsys.readouterr()
    bundle = make_bundle(tmp_path, "b", model=noise(4, 8_000_000))
    assert release("deliver", bundle, target) == 1
    [line] = [line for line in capsys.readouterr().err.splitlines() if " ERROR " in line]
    assert f"{target}: the disk there is full; free some space on it, and run the same command again" in line
    assert (current_run(folder), len(list((folder / "releases").iterdir()))) == ("a", 1)
    disk.leave(ENOUGH)
    assert release("deliver", bundle, target) == 0
    assert current_run(folder) == "b"


def test_two_deliveries_follow_each_other_and_a_killed_one_blocks_nobody(target, folder, tmp_path):
    for name in "ab":
        assert release("deliver", make_bundle(tmp_path, name), target) == 0
    bundles = [make_bundle(tmp_path, name) for name in "cde"]
    with open(folder / ".delivery.lock") as lock:  # as a delivery on that machine
        fcntl.flock(lock, fcntl.LOCK_EX)
        both = [started("deliver", bundle, target) for bundle in bundles[:2]]
        assert release("back", target, "--reason", "at once") == 0
        time.sleep(1.5)
        assert [process.poll() for process in both] == [None, None]
    assert [process.wait() for process in both] == [0, 0], [process.stderr.read() for process in both]
    assert [line["what"] for line in history(folder)] == ["deliver", "deliver", "back", "deliver", "deliver"]

    with open(folder / ".current.lock") as lock:  # the next one takes the other lock, and waits for this
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = started("deliver", bundles[2], target)
        assert any("waiting" in line for line in process.stderr)
        process.send_signal(signal.SIGKILL)
        process.wait()
    begin = time.monotonic()
    assert release("deliver", bundles[2], target) == 0
    assert time.monotonic() - begin < 600, "it would wait an hour"
    assert current_run(folder) == "e"
