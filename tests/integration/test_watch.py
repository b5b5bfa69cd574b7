"""The monitor's decision moves `current`, once, with its reason in the history and a command afterwards."""

import json
import sqlite3
from pathlib import Path

import pytest

from scripts.deploy import watch
from scripts.deploy.quality_monitor import ABTestMonitor
from scripts.deploy.release import Releases
from scripts.deploy.watch import main
from tests.support.releases import current_run, history, make_bundle, release

REPEATED = "but but but but but but but but"
REPEATED_A_LITTLE = "a b c d a b c d a e f g"  # 0.3: above what a switch needs, below what a rollback needs
CALLS = 60


def texts(decision: str) -> list[str]:
    """Return texts on which the monitor decides so."""
    varied = [" ".join(f"w{i}x{j}" for j in range(3 + 17 * (i % 2))) for i in range(400)]
    repeated = {"rollback": [REPEATED] * CALLS, "keep": [REPEATED_A_LITTLE] * CALLS}
    return {**repeated, "switch": varied, "inconclusive": varied[:3]}[decision]


@pytest.fixture
def watched(tmp_path):
    """Return a function that asks a monitor with texts for a decision about a candidate; it returns the status."""

    def run(decision: str, candidate: str, after: str | None = None) -> int:
        file = tmp_path / f"{decision}.sqlite"
        if not file.exists():
            monitor = ABTestMonitor(file)
            for text in texts(decision):
                monitor.log_metric(model="new", text=text, gen_time=0.1)
        words = [str(file), str(tmp_path / "target"), "--candidate", candidate, "--once"]
        return main([*words, *(["--after", after] if after else [])])

    return run


@pytest.fixture
def target(tmp_path) -> Path:
    """A folder with the release of bundle a, which is current."""
    assert release("deliver", make_bundle(tmp_path, "a"), tmp_path / "target") == 0
    return tmp_path / "target"


def test_a_candidate_that_is_current_is_rolled_back_and_the_command_runs_once(target, tmp_path, watched, capsys):
    bundle = make_bundle(tmp_path, "b")
    assert release("deliver", bundle, target) == 0
    candidate = Releases(target).current
    assert watched("inconclusive", candidate, "false") == 0
    assert current_run(target) == "b"
    assert watched("rollback", candidate, "exit 3") == 1
    assert "the command of --after ended with exit status 3: exit 3; run it by hand" in capsys.readouterr().err
    assert watched("rollback", candidate, f"touch {tmp_path}/ran") == 0
    assert not (tmp_path / "ran").exists(), "nothing changed"
    assert current_run(target) == "a"
    lines = history(target)
    assert [line["what"] for line in lines] == ["deliver", "deliver", "rollback"]
    assert lines[2]["from"] == candidate
    assert lines[2]["why"] == f"new: repetition is above 0.35 ({CALLS} calls)"
    assert release("deliver", bundle, target) == 0
    assert "(rollback: new: repetition is above 0.35" in capsys.readouterr().err


def test_a_release_that_the_monitor_confirmed_can_still_be_rolled_back(target, tmp_path, watched):
    assert release("deliver", make_bundle(tmp_path, "b"), target) == 0
    candidate = Releases(target).current
    for _ in range(2):
        assert watched("switch", candidate, f"touch {tmp_path}/ran") == 0
    assert not (tmp_path / "ran").exists(), "nothing changed"
    assert watched("rollback", candidate, f"echo $DECISION $RELEASE > {tmp_path}/ran") == 0
    assert current_run(target) == "a"
    assert (tmp_path / "ran").read_text() == f"rollback {Releases(target).current}\n"


def test_a_newer_delivery_is_not_overruled_by_a_switch(target, tmp_path, watched, capsys):
    assert release("deliver", make_bundle(tmp_path, "b"), target, "--beside") == 0
    candidate = Releases(target).names()[-1]
    assert release("deliver", make_bundle(tmp_path, "c"), target) == 0
    assert watched("switch", candidate) == 0
    assert current_run(target) == "c"
    assert "not switched to, as `current` has changed since its delivery" in capsys.readouterr().err
    assert release("deliver", tmp_path / "b", target, "--beside") == 0
    assert watched("switch", candidate) == 0
    assert current_run(target) == "b"


def test_a_folder_of_another_machine_is_watched_there(tmp_path, capsys):
    assert main([str(tmp_path / "a.sqlite"), "ssh://server/srv/football", "--candidate", "a", "--once"]) == 1
    told = "ssh://server/srv/football: watch.py follows a folder of its own machine; run it on the server"
    assert told in capsys.readouterr().err


def test_a_candidate_that_can_not_be_rolled_back_is_noticed_before_it_must_be(target, watched, capsys):
    assert watched("inconclusive", "unknown") == 1
    assert "has no release 'unknown'; there are: " in capsys.readouterr().err
    candidate = Releases(target).current
    assert watched("inconclusive", candidate) == 0
    assert "there is no release before it to go back to" in capsys.readouterr().err
    assert watched("rollback", candidate) == 1
    assert "has no release before the current one; name one: release.py back" in capsys.readouterr().err


def test_a_monitor_of_an_earlier_candidate_is_refused(target, tmp_path, watched, capsys):
    candidate = Releases(target).current
    assert watched("rollback", candidate) == 1  # it has no release before
    facts = target / "current/release.json"
    facts.write_text(json.dumps(json.loads(facts.read_text()) | {"at": "2100-01-01T00:00:00+00:00"}))
    capsys.readouterr()
    assert watched("rollback", candidate) == 1
    assert f"before the delivery of {candidate}; name a new file for each candidate" in capsys.readouterr().err


def test_a_release_beside_the_current_one_is_switched_to_and_a_person_who_goes_back_is_not_overruled(
    target, tmp_path, watched
):
    bundle = make_bundle(tmp_path, "b")
    for _ in range(2):
        assert release("deliver", bundle, target, "--beside") == 0
        assert current_run(target) == "a"
    candidate = Releases(target).names()[-1]
    for _ in range(2):
        assert watched("switch", candidate) == 0
        assert current_run(target) == "b"
    assert release("back", target, "--reason", "readers complain") == 0
    assert watched("switch", candidate) == 0
    assert current_run(target) == "a"
    assert [line["what"] for line in history(target)] == ["deliver", "switch", "back"]


def test_a_release_beside_the_current_one_is_rejected_and_then_not_delivered(target, tmp_path, watched, capsys):
    bundle = make_bundle(tmp_path, "b")
    assert release("deliver", bundle, target, "--beside", "--keep", "1") == 0
    for _ in range(2):
        assert watched("rollback", Releases(target).names()[-1]) == 0
    assert current_run(target) == "a"
    assert [line["what"] for line in history(target)] == ["deliver", "rollback"]
    assert release("deliver", bundle, target) == 0
    assert "not delivered again: replaced on" in capsys.readouterr().err
    assert current_run(target) == "a"
    assert release("deliver", make_bundle(tmp_path, "c"), target, "--beside", "--keep", "1") == 0
    assert len(Releases(target).names()) == 2, "a rejected release is pruned"


def test_the_decision_to_keep_the_old_model_changes_nothing(target, tmp_path, watched, capsys):
    assert release("deliver", make_bundle(tmp_path, "b"), target, "--beside") == 0
    assert watched("keep", Releases(target).names()[-1], f"touch {tmp_path}/ran") == 0
    assert "keep: new: repetition is above 0.25" in capsys.readouterr().err
    assert current_run(target) == "a"
    assert [line["what"] for line in history(target)] == ["deliver"]
    assert not (tmp_path / "ran").exists()


def test_a_monitor_that_can_not_be_read_is_named(target, tmp_path, capsys):
    words = [str(target), "--candidate", Releases(target).current]
    assert main([str(tmp_path / "none.sqlite"), *words, "--once"]) == 1
    assert "none.sqlite does not exist: name the file that ABTestMonitor writes" in capsys.readouterr().err
    (tmp_path / "text.sqlite").write_text("no database" * 100)
    assert main([str(tmp_path / "text.sqlite"), *words]) == 1
    assert "text.sqlite: can't be read: file is not a database" in capsys.readouterr().err
    assert main([str(tmp_path / "none.sqlite"), *words, "--every", "-1"]) == 1
    assert "--every must be above 0 seconds" in capsys.readouterr().err


def test_the_guard_waits_for_the_first_call_and_outlives_a_locked_file(target, tmp_path, monkeypatch, capsys):
    assert release("deliver", make_bundle(tmp_path, "b"), target) == 0
    file, pauses = tmp_path / "late.sqlite", []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            monitor = ABTestMonitor(file)
            for text in texts("rollback"):
                monitor.log_metric(model="new", text=text, gen_time=0.1)
            decide = ABTestMonitor.decision

            def locked_once(self) -> dict:
                monkeypatch.setattr(ABTestMonitor, "decision", decide)
                raise sqlite3.OperationalError("database is locked")

            monkeypatch.setattr(ABTestMonitor, "decision", locked_once)

    monkeypatch.setattr(watch.time, "sleep", pause)
    assert main([str(file), str(target), "--candidate", Releases(target).current, "--every", "7"]) == 0
    assert pauses == [7, 7, 7]
    assert current_run(target) == "a"
    assert capsys.readouterr().err.count("late.sqlite: can't be read yet: ") == 2  # not there (once), locked
