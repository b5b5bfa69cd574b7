"""The functions of examples/: what they send to the server."""

import io
import json
import runpy
import urllib.request
from pathlib import Path

import pytest

from tests.support.project import ROOT


def release(folder: Path, name: str, system: str) -> None:
    """Write the record of a bundle, and let `current` lead to it as a delivery does."""
    run = {"strategies": {}, "strategy": "plain", "generation": {"max_new_tokens": 8}, "deploy": {"system": system}}
    sections = {"dataset": {"label_map": {"goal": "But", "card": "Carton"}}, "run": run}
    (folder / name).mkdir()
    (folder / name / "provenance.json").write_text(json.dumps({"config": {"sections": sections}}), encoding="utf-8")
    (folder / "next").symlink_to(name)
    (folder / "next").replace(folder / "current")


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Call football's `comment` with the bundle `current`; return the texts of the messages that it sends."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    release(tmp_path, "first", "Tu commentes.")
    sent = []

    def urlopen(request, timeout):
        sent.append([message["content"] for message in json.loads(request.data)["messages"]])
        return io.BytesIO(json.dumps({"choices": [{"message": {"content": "But !"}}]}).encode())

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    comment = runpy.run_path(str(ROOT / "examples/football.py"))["comment"]
    return lambda *event: comment(*event, bundle=str(tmp_path / "current")) and sent.pop()


def test_a_minute_is_written_as_in_the_training_data(asked):
    forms = (12, "12", "12'"), ("45+2", "45'+2", "45’+2", "45+2'", "45' + 2")
    found = [{asked(minute, "goal")[1] for minute in same} for same in forms]
    assert found == [{"Minute 12'. Événement : But."}, {"Minute 45'+2. Événement : But."}]
    assert asked(12, "But") == asked(12, "goal")
    for minute, event in (("half-time", "goal"), (12, "rain")):
        with pytest.raises(ValueError, match=rf"is '{minute if event == 'goal' else event}'"):
            asked(minute, event)


def test_a_delivered_bundle_is_asked_with_its_own_system_message(asked, tmp_path):
    assert asked(12, "goal")[0] == "Tu commentes."
    release(tmp_path, "second", "Sois bref.")
    assert asked(12, "goal")[0] == "Sois bref."


def test_a_folder_without_a_bundle_is_the_error_that_the_page_on_applications_handles(asked, tmp_path):
    (tmp_path / "current").unlink()
    with pytest.raises(RuntimeError, match=r"current is not a bundle .*: set BUNDLE"):
        asked("12", "goal")
