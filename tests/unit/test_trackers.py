"""What a tracker that fails, and a second process, do to a tracked run; the real ones are in tests/system."""

import fcntl
import json
import subprocess
import sys

from scripts.common import trackers
from scripts.common.files import read_json

REQUEST = {"run": "cards", "trackers": ["mlflow"], "settings": {}, "training": "fingerprint", "answers": None}


class Flaky:
    """A tracker whose second call fails."""

    calls, steps = 0, []

    def __init__(self, name: str, entry: dict, settings: dict):
        entry["id"] = name

    def points(self, rows):
        Flaky.calls += 1
        if Flaky.calls == 2:
            raise OSError("the server restarts")
        Flaky.steps += [step for step, _ in rows]

    def close(self):
        pass


def test_a_tracker_that_failed_is_tried_again_and_gets_each_point_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(trackers.TRACKERS, "mlflow", Flaky)
    run = trackers.TrackedRun(REQUEST, tmp_path / "cards.json")
    run.points += [{"step": step, "loss": 1.0} for step in range(2 * trackers.BATCH)]
    run.update()
    assert read_json(run.path)["mlflow"]["error"] == "the server restarts"
    run.update()
    assert (len(Flaky.steps), caplog.text.count("WARNING")) == (trackers.BATCH, 1)  # it pauses
    monkeypatch.setattr(trackers, "PAUSE", 0)
    run.update(last=True)
    assert Flaky.steps == [row["step"] for row in run.points]
    assert read_json(run.path)["mlflow"]["error"] is None


def test_a_run_that_another_process_writes_is_left_alone_with_a_warning(tmp_path):
    with open(tmp_path / ".cards.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code = "from scripts.common import trackers; trackers.LONGEST = 1; trackers.main()"
        request = json.dumps({**REQUEST, "folder": str(tmp_path), "log": None})
        child = subprocess.Popen([sys.executable, "-c", code], stdin=-1, stderr=-1, text=True)
        child.stdin.write(request + "\n")
        child.stdin.flush()
        assert "another process still writes the run cards" in child.stderr.read()
        child.stdin.close()
        assert child.wait() == 1
    assert not (tmp_path / "cards.json").exists()
