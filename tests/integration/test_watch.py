"""The monitor's decision moves `current`, once, with its reason in the history and a command afterwards."""

from pathlib import Path

import pytest

from scripts.deploy.quality_monitor import ABTestMonitor
from scripts.deploy.release import Releases
from scripts.deploy.watch import main
from tests.support.releases import current_run, history, make_bundle, release

REPEATED = "but but but but but but but but"
CALLS = 60


def texts(decision: str) -> list[str]:
    """Return texts on which the monitor decides so."""
    varied = [" ".join(f"w{i}x{j}" for j in range(3 + 17 * (i % 2))) for i in range(400)]
    return {"rollback": [REPEATED] * CALLS, "switch": varied, "inconclusive": varied[:3]}[decision]


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
    for _ in range(2):
        assert watched("rollback", candidate, f"echo $DECISION $RELEASE >> {tmp_path}/ran") == 0
    assert current_run(target) == "a"
    assert (tmp_path / "ran").read_text() == f"rollback {Releases(target).current}\n"
    lines = history(target)
    assert [line["what"] for line in lines] == ["deliver", "deliver", "rollback", "after"]
    assert lines[2]["from"] == candidate
    assert lines[2]["why"] == f"new: repetition is above 0.35 ({CALLS} calls)"
    assert release("deliver", bundle, target) == 1
    assert "(rollback: new: repetition is above 0.35" in capsys.readouterr().err


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
    assert [line["what"] for line in history(target)] == ["deliver", "beside", "switch", "back"]


def test_a_release_beside_the_current_one_is_rejected_and_then_not_delivered(target, tmp_path, watched, capsys):
    bundle = make_bundle(tmp_path, "b")
    assert release("deliver", bundle, target, "--beside", "--keep", "1") == 0
    for _ in range(2):
        assert watched("rollback", Releases(target).names()[-1]) == 0
    assert current_run(target) == "a"
    assert [line["what"] for line in history(target)] == ["deliver", "beside", "rollback"]
    assert release("deliver", bundle, target) == 1
    assert watched("rollback", "unknown") == 1
    assert "has no release 'unknown'; there are: " in capsys.readouterr().err


def test_a_monitor_that_can_not_be_read_is_named(target, tmp_path, capsys):
    words = [str(target), "--candidate", "x", "--once"]
    assert main([str(tmp_path / "none.sqlite"), *words]) == 1
    assert "none.sqlite does not exist: name the file that ABTestMonitor writes" in capsys.readouterr().err
