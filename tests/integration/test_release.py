"""Bundles are delivered whole or not at all, and `current` is a whole release at any moment."""

import fcntl
import itertools
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts.deploy.release import Releases
from tests.support.project import ROOT
from tests.support.releases import HOLD, current_run, history, make_bundle, release

PROGRAM = Path("scripts/deploy/release.py")
KILLS = 25


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "target"


@pytest.fixture
def bundles(tmp_path) -> dict[str, Path]:
    return {name: make_bundle(tmp_path / "bundles", name) for name in ("a", "b", "c", "d")}


def runs_there(target: Path) -> list[str]:
    """Return the runs of all releases, the oldest first; the folder has nothing else."""
    names = Releases(target).names()
    assert sorted(path.name for path in (target / "releases").iterdir()) == sorted(names)
    return [json.loads((target / "releases" / name / "release.json").read_text())["run"] for name in names]


def test_a_delivered_bundle_is_current_and_a_second_delivery_of_it_says_that_there_is_nothing_to_do(
    target, bundles, tmp_path, capsys
):
    assert release("deliver", bundles["a"], target, "--delivered", tmp_path / "delivered.json") == 0
    assert current_run(target) == "a"
    assert os.access(target / "current/serve.sh", os.X_OK)
    assert not os.path.samefile(target / "current/model.gguf", bundles["a"] / "model.gguf")
    facts = json.loads((tmp_path / "delivered.json").read_text())
    assert facts == {**json.loads((target / "current/release.json").read_text()), "folder": str(target)}
    assert (facts["forced"], facts["why"]) == (None, "verdict promote: every gate passed")
    assert release("deliver", bundles["a"], target) == 0
    assert "this bundle is current already" in capsys.readouterr().err
    [line] = history(target)
    assert (line["what"], line["from"], line["to"]) == ("deliver", None, facts["release"])


def test_without_the_verdict_promote_only_a_written_reason_delivers_and_it_is_recorded(target, tmp_path, capsys):
    bundle = make_bundle(tmp_path, "held", HOLD)
    assert release("deliver", bundle, target) == 1
    assert (
        "its verdict is hold, not promote: Don't ship yet: needs data; deliver it anyway with a written reason"
        in capsys.readouterr().err
    )
    assert not target.exists()
    assert release("deliver", bundle, target, "--force", "cup final", "--delivered", tmp_path / "x.json") == 0
    for path in (tmp_path / "x.json", target / "current/release.json"):
        assert json.loads(path.read_text())["forced"] == "cup final"
    assert history(target)[0]["why"] == "forced: cup final (verdict hold: needs data)"
    delivered_at = json.loads((target / "current/release.json").read_text())["at"]
    assert release("deliver", bundle, target, "--force", "a replay", "--delivered", tmp_path / "x.json") == 0
    for path in (tmp_path / "x.json", target / "current/release.json"):
        facts = json.loads(path.read_text())
        assert (facts["forced"], facts["at"]) == ("a replay", delivered_at)
        assert facts["why"] == "forced: a replay (verdict hold: needs data)"
    bundle = make_bundle(tmp_path, "good")
    assert release("deliver", bundle, target, "--force", "in vain", "--delivered", tmp_path / "x.json") == 0
    facts = json.loads((tmp_path / "x.json").read_text())
    assert (facts["forced"], facts["why"]) == (None, "verdict promote: every gate passed")
    assert release("deliver", make_bundle(tmp_path, "old", None), target, "--force", "x y") == 1
    assert "run snakemake to build it again" in capsys.readouterr().err


def test_of_a_sweep_only_the_chosen_run_is_delivered(target, tmp_path):
    bundle = make_bundle(tmp_path, "swept", HOLD | {"chosen": {"run": "other", "metric": "chrf"}})
    for force in ([], ["--force", "x y"]):
        assert release("deliver", bundle, target, *force, "--delivered", tmp_path / "delivered.json") == 0
        facts = json.loads((tmp_path / "delivered.json").read_text())
        assert (facts["release"], facts["why"]) == (None, "not delivered: the sweep chose other")
    assert not target.exists()


def test_old_releases_are_pruned_by_number_but_not_the_current_one_or_the_one_before(target, bundles):
    for name in "abc":
        assert release("deliver", bundles[name], target, "--keep", "2") == 0
    assert runs_there(target) == ["b", "c"]
    assert release("back", target, "--reason", "worse") == 0
    assert release("deliver", bundles["d"], target, "--keep", "1") == 0
    assert runs_there(target) == ["b", "d"]  # c was newer than b, but d took the place of b
    assert current_run(target) == "d"


def test_only_releases_are_pruned_and_none_that_lies_beside_the_current_one(target, bundles, capsys):
    assert release("deliver", bundles["a"], target) == 0
    own = target / "releases/2026 notes"
    own.mkdir()
    for name in "bc":
        assert release("deliver", bundles[name], target, "--beside", "--keep", "1") == 0
    assert release("list", target) == 0
    out = capsys.readouterr().out
    assert all(f"  {mark:8}{name}  " in out for name, mark in zip("abc", ("current", "", ""), strict=True))
    assert own.is_dir()
    own.rmdir()
    assert release("deliver", bundles["d"], target, "--keep", "0") == 0
    assert runs_there(target) == ["a", "d"]


def test_back_goes_to_the_release_before_and_a_replaced_bundle_returns_only_by_its_name(
    target, bundles, tmp_path, capsys
):
    names = {}
    for name in "abc":
        assert release("deliver", bundles[name], target) == 0
        names[name] = Releases(target).current
    for expected in "ba":  # not to c again, which b has replaced
        assert release("back", target, "--reason", "too many repetitions") == 0
        assert current_run(target) == expected
    assert release("back", target, "--reason", "still") == 1
    assert (
        f"has no release before the current one; name one: release.py back {target} --to NAME"
        in capsys.readouterr().err
    )
    assert release("deliver", bundles["c"], target, "--delivered", tmp_path / "delivered.json") == 0
    told = "(back: too many repetitions); to make it current again: release.py back"
    assert told in capsys.readouterr().err
    facts = json.loads((tmp_path / "delivered.json").read_text())
    assert (facts["release"], facts["why"].partition(": ")[0]) == (None, "not delivered again")
    assert current_run(target) == "a"
    assert release("back", target, "--reason", "c was better", "--to", names["c"]) == 0
    assert current_run(target) == "c"
    assert release("back", target, "--reason", "x", "--to", "z") == 1
    assert f"has no release 'z'; there are: {', '.join(names.values())}" in capsys.readouterr().err
    whats = [line["what"] for line in history(target)]
    assert whats == ["deliver", "deliver", "deliver", "back", "back", "back"]
    assert release("list", target) == 0
    assert f"{names['c']}  current c  verdict promote" in capsys.readouterr().out


def test_a_bundle_that_was_rolled_back_stays_replaced_when_its_copy_was_pruned(target, bundles, capsys):
    for name in "ab":
        assert release("deliver", bundles[name], target) == 0
    assert release("back", target, "--reason", "wrong tense") == 0
    assert release("deliver", bundles["c"], target, "--keep", "1") == 0
    assert runs_there(target) == ["a", "c"]
    assert release("deliver", bundles["b"], target) == 0
    assert (current_run(target), runs_there(target)) == ("c", ["a", "c"])
    assert "--beside, then release.py back" in capsys.readouterr().err
    assert release("deliver", bundles["b"], target, "--beside") == 0
    assert release("back", target, "--reason", "after all", "--to", Releases(target).names()[-1]) == 0
    assert current_run(target) == "b"


@pytest.mark.parametrize("module", ["release", "watch", "soak"])
def test_the_programs_start_outside_the_environment_of_the_checkout(module):
    command = [sys.executable, "-S", "-m", f"scripts.deploy.{module}", "--help"]  # -S: without any package
    done = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("usage:"), done.stderr


@pytest.mark.parametrize("fault", ["changed", "missing"])
def test_a_bundle_that_differs_from_its_checksums_is_not_delivered(target, bundles, capsys, fault):
    assert release("deliver", bundles["a"], target) == 0
    model = bundles["b"] / "model.gguf"
    model.write_bytes(b"b" * 999) if fault == "changed" else model.unlink()
    assert release("deliver", bundles["b"], target) == 1
    assert {"changed": "its copy differs from SHA256SUMS", "missing": "is missing"}[fault] in capsys.readouterr().err
    assert (current_run(target), runs_there(target)) == ("a", ["a"])


def test_a_program_that_a_host_needs_and_this_machine_lacks_is_named(bundles, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    for missing in ("ssh", "rsync"):
        assert release("deliver", bundles["a"], "ssh://server/srv/football") == 1
        told = f"{missing} is not installed here; install it, or deliver outside of the container"
        assert told in capsys.readouterr().err
        (tmp_path / missing).touch(mode=0o755)


def test_a_folder_or_file_in_the_place_of_the_link_is_left_alone(target, bundles, capsys):
    (target / "current").mkdir(parents=True)
    assert release("deliver", bundles["a"], target) == 1
    assert "is not a link to a release; move it away" in capsys.readouterr().err


def test_what_can_not_be_a_target_is_one_line_and_nothing_is_made(target, bundles, tmp_path, capsys):
    (tmp_path / "file").touch()
    for command, folder, told in (
        (("list",), target, "has no releases; name the folder that bundles are delivered to"),
        (("back", "--reason", "worse"), target, "has no releases; name the folder that bundles are delivered to"),
        (("deliver", bundles["a"]), tmp_path / "file", "File exists; name another folder"),
        (("deliver", bundles["a"]), bundles["a"] / "releases", "is inside the bundle; name a folder outside it"),
    ):
        assert release(*command, folder) == 1
        assert f"{folder}: {told}" in capsys.readouterr().err
        assert not folder.is_dir()


def started(*words: object) -> subprocess.Popen:
    """Start the program in a process of its own."""
    command = [sys.executable, PROGRAM, *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_deliveries_at_the_same_time_follow_each_other_and_going_back_does_not_wait_for_them(target, bundles):
    assert release("deliver", bundles["a"], target) == 0
    assert release("deliver", bundles["b"], target) == 0
    with open(target / ".delivery.lock") as lock:  # as a delivery that copies
        fcntl.flock(lock, fcntl.LOCK_EX)
        both = [started("deliver", bundles[name], target) for name in "cd"]
        assert release("back", target, "--reason", "at once") == 0
        time.sleep(1)
        assert [process.poll() for process in both] == [None, None]
        assert current_run(target) == "a"
    assert [process.wait() for process in both] == [0, 0]
    lines = history(target)
    assert [line["what"] for line in lines] == ["deliver", "deliver", "back", "deliver", "deliver"]
    assert all(one["to"] == two["from"] for one, two in itertools.pairwise(lines))
    assert current_run(target) == runs_there(target)[-1]


def test_a_killed_move_counts_if_current_had_moved_and_only_then(target, bundles, monkeypatch):
    for name in "ab":
        assert release("deliver", bundles[name], target) == 0
    releases, names = Releases(target), Releases(target).names()

    def killed(*_) -> None:
        raise KeyboardInterrupt

    for last, to in (("scripts.deploy.local_folder.sync", names[0]), ("pathlib.Path.symlink_to", names[1])):
        with monkeypatch.context() as patch, releases.locked():
            patch.setattr(last, killed)
            with pytest.raises(KeyboardInterrupt):
                releases.back("worse", to)
        assert (target / ".history.jsonl.next").exists()
        with releases.locked():
            assert current_run(target) == "a"
        assert [line["what"] for line in history(target)] == ["deliver", "deliver", "back"]
        assert not (target / ".history.jsonl.next").exists()


LOOP = """
import itertools, os, sys
from scripts.deploy.release import main
bundles, target = sys.argv[1:-1], sys.argv[-1]
print("ready", flush=True)
for bundle in itertools.cycle(bundles):
    main(["deliver", bundle, target, "--keep", "2"])
    for name in sorted(os.listdir(f"{target}/releases")) * 5:
        main(["back", target, "--reason", "drill", "--to", name])
"""


def test_a_kill_at_any_moment_leaves_current_whole_and_the_next_delivery_cleans_up(target, tmp_path):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    moments, ways = random.Random(seed), set()
    paths = [make_bundle(tmp_path / "bundles", f"k{number}", size=400_000) for number in range(KILLS * 3)]
    assert release("deliver", make_bundle(tmp_path, "first"), target) == 0
    for number in range(KILLS):
        words = [sys.executable, "-c", LOOP, *map(str, paths[3 * number :]), str(target)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdout.readline() == "ready\n"
            end, path = time.monotonic() + moments.uniform(0, 0.2), f"{target}/current/release.json"
            try:
                while time.monotonic() < end:
                    os.stat(path)
            finally:
                process.kill()
        current_run(target)
        ways |= {path.suffix or path.name for path in target.rglob(".*") if path.name[-5:] != ".lock"}
        lines, name = history(target), Releases(target).current
        with Releases(target).locked():
            after = history(target)
        assert after[: len(lines)] == lines
        assert after[-1]["to"] == name  # with the line that the killed process had prepared, if it moved `current`
    assert ways, "no kill came in the middle of something"
    assert release("deliver", make_bundle(tmp_path, "last"), target) == 0
    assert current_run(target) == "last"
    assert sorted(path.name for path in target.rglob(".*")) == [".current.lock", ".delivery.lock"]
