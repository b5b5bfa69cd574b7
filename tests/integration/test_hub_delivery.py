"""Bundles go to the hub by its real client, in one commit; the hub is a server of the tests that speaks the same."""

import json
from pathlib import Path

import pytest

from tests.support.hub_upload import LARGE, SIGNATURE, UploadHub
from tests.support.releases import HOLD, make_bundle, release

TOKEN, NAME = "hf_" + "planted" * 4, "someone/captions"
TARGET = f"hf://{NAME}"


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", f"{TOKEN}\r\n")  # as a mounted file has it
    with UploadHub(TOKEN) as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        yield hub


def contents(bundle: Path) -> dict[str, bytes]:
    """Return the files of a folder."""
    return {path.relative_to(bundle).as_posix(): path.read_bytes() for path in bundle.rglob("*") if path.is_file()}


def test_a_bundle_is_one_commit_of_a_private_repository_and_the_next_one_takes_its_place(hub, tmp_path, capsys):
    delivered, model = tmp_path / "delivered.json", b"weights" * LARGE
    first = make_bundle(tmp_path, "first", HOLD, model=model)
    assert release("deliver", first, TARGET) == 1
    assert hub.repositories == {}
    assert release("deliver", first, TARGET, "--force", "for the final", "--delivered", delivered) == 0
    repository = hub.repositories[NAME]
    why = "forced: for the final (verdict hold: needs data)"
    record = json.loads(repository["files"].pop("release.json"))
    assert (record["forced"], record["why"]) == ("for the final", why)
    assert repository["files"] == {".gitattributes": b"", **contents(first)}
    facts = json.loads(delivered.read_text())
    assert facts == {**record, "folder": TARGET, "release": hub.last(NAME)}

    second = make_bundle(tmp_path, "second", model=model)
    (second / "serve.sh").unlink()
    lines = (second / "SHA256SUMS").read_text().splitlines(keepends=True)
    (second / "SHA256SUMS").write_text("".join(line for line in lines if "serve.sh" not in line))
    assert release("deliver", second, TARGET) == 0
    assert json.loads(repository["files"].pop("release.json"))["run"] == "second"
    assert repository["files"] == {".gitattributes": b"", **contents(second)}
    assert (repository["private"], len(repository["commits"])) == (True, 3)
    assert repository["commits"][1][1] == why
    assert hub.stored_for == [None]  # the model was sent once, and without the token
    captured = capsys.readouterr()
    assert TOKEN not in captured.out + captured.err


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("no token", "needs a token with the right to write; set HF_TOKEN in the environment"),
        ("two lines", "needs a token with the right to write; set HF_TOKEN in the environment, to one line"),
        ("wrong token", "can't be delivered to: "),
        ("offline", "'offline: true' forbids a delivery to the hub"),
        ("public", "is a public repository; make it private in its settings"),
        ("changed", "its copy differs from SHA256SUMS"),
        ("unreachable", "can't be delivered to: "),
        ("cut off", "can't be delivered to: Server disconnected without sending a response; check the network"),
        ("expired", "can't be delivered to: Client error '410 Gone' for url 'http:"),
    ],
)
def test_what_can_not_be_delivered_is_one_line_and_changes_nothing(hub, tmp_path, monkeypatch, capsys, fault, told):
    bundle = make_bundle(tmp_path, "a")
    if fault == "no token":
        monkeypatch.delenv("HF_TOKEN")
    elif fault == "two lines":
        monkeypatch.setenv("HF_TOKEN", f"{TOKEN}\n{TOKEN}")
    elif fault == "wrong token":
        monkeypatch.setenv("HF_TOKEN", TOKEN[:-1])
    elif fault == "offline":
        monkeypatch.setenv("SNAKETUNE_OFFLINE", "1")
    elif fault == "public":
        hub.repositories[NAME] = {"private": False, "commits": ["initial"], "files": {}}
    elif fault in ("cut off", "expired"):
        hub.fault = fault
        bundle = make_bundle(tmp_path, "large", size=LARGE * 100)
        monkeypatch.setattr("time.sleep", lambda seconds: None)  # before the client's own tries
    elif fault == "changed":
        (bundle / "model.gguf").write_bytes(b"changed")
    else:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert release("deliver", bundle, TARGET) == 1
    error = capsys.readouterr().err
    assert told in error.splitlines()[-1]
    assert TOKEN[:-1] not in error
    assert SIGNATURE not in error.splitlines()[-1]
    assert all(repository["commits"] == ["initial"] for repository in hub.repositories.values())
    hub.fault = None
    if fault in ("cut off", "public"):
        assert release("deliver", bundle, TARGET, "--public") == 0


def test_the_hub_has_no_releases_to_list_or_to_go_back_to(hub, capsys):
    assert release("list", TARGET) == 1
    assert "a repository of the hub has commits, not releases; see them on its page" in capsys.readouterr().err
