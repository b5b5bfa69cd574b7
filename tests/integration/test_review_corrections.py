"""Corrections on the review page: proposed, accepted or rejected, exported, and applied by the dataset stage."""

import shutil
from contextlib import closing
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from scripts.common.files import write_jsonl
from scripts.review.app import create_app
from scripts.review.corrections import accepted, correction_of
from scripts.review.judgements import connect
from tests.support.dataset_steps import Stage, chat, settings_of, write_lines

SPLITS = {"train": 0.5, "validation": 0.0, "test": 0.5}


@pytest.fixture
def stage(tmp_path: Path, capsys) -> Stage:
    """Return a dataset with augmented copies and a bad record, in a results folder with a run's answers."""
    settings = {"splits": SPLITS, "stratify": False, "on_bad_record": "quarantine"}
    augment = {"templates": ["Bref : {{ user }}"]}
    folder = tmp_path / "results/datasets/sample"
    folder.mkdir(parents=True)
    stage = Stage(folder, settings_of(**settings, augment=augment), capsys)
    raw = [chat(f"Minute {n} ?", f"Le ballon {n * n} sort") for n in range(30)]
    stage.run(write_lines(tmp_path / "raw.jsonl", [*raw, {"no": "messages"}]))
    answers = [
        {"prompt_set": "test", "id": row["id"], "messages": row["messages"][:1], "answer": "?", "expected": "!"}
        for row in stage.lines("test")
    ]
    write_jsonl(tmp_path / "results/runs/sample/answers/base.jsonl", answers)
    return stage


@pytest.fixture
def page(stage: Stage, tmp_path: Path):
    with TestClient(create_app([tmp_path / "results"], tmp_path / "review"), base_url="http://127.0.0.1") as client:
        yield client


def propose(page: TestClient, record: str, action: str = "drop", collection: str = "dataset/sample/test", **more):
    said = {"reader": "anna", "collection": collection, "id": record, "action": action, "comment": "", **more}
    return page.post("/api/corrections", json=said)


def test_accepted_corrections_are_exported_and_the_dataset_stage_applies_them(page, stage, tmp_path):
    test = stage.lines("test")
    first = propose(page, test[0]["id"], "replace", text=" Un but ! ", comment="not <b>said</b>").json()
    assert (first["status"], first["dataset"], first["was"]) == ("proposed", "sample", test[0]["expected"])
    assert (first["text"], first["reader"], first["accepted_by"]) == ("Un but !", "anna", None)
    second = propose(page, test[1]["id"], collection="run/sample").json()
    third = propose(page, test[2]["id"]).json()
    page.post("/api/export", json={})
    assert not (tmp_path / "review/corrections.jsonl").exists()  # a new file would make the dataset run again
    for found, status in ((first, "accepted"), (second, "accepted"), (third, "accepted"), (third, "rejected")):
        reply = page.post(f"/api/corrections/{found['id']}", json={"reader": "bob", "status": status})
        assert (reply.status_code, reply.json()["status"]) == (200, status)
    listed = page.get("/api/corrections").json()["corrections"]
    assert [(row["status"], row["accepted_by"]) for row in listed] == [
        ("accepted", "bob"), ("accepted", "bob"), ("rejected", None),
    ]  # fmt: skip
    shown = page.get("/api/record", params={"collection": "dataset/sample/test", "id": test[0]["id"]}).json()
    assert shown["correction"] == listed[0]
    files = page.post("/api/export", json={}).json()["files"]
    exported = tmp_path / "review/corrections.jsonl"
    assert {"path": str(exported), "rows": 2} in files
    shutil.copy(exported, stage.folder)
    page.post("/api/export", json={})
    assert exported.read_bytes() == (stage.folder / "corrections.jsonl").read_bytes()
    stage.run(tmp_path / "raw.jsonl")
    after = {row["origin"]: row["expected"] for row in stage.lines("test")}
    assert after[test[0]["origin"]] == "Un but !"
    assert test[1]["origin"] not in after
    assert [row["not_applied"] for row in stage.facts("ledger")["corrections"]["rows"]] == [None, None]


def test_a_record_is_shown_while_the_file_of_judgements_fails(page, stage, tmp_path):
    (tmp_path / "review").mkdir()
    (tmp_path / "review/judgements.sqlite").write_text("text " * 1000)
    asked = {"collection": "dataset/sample/test", "id": stage.lines("test")[0]["id"]}
    assert page.get("/api/record", params=asked).json()["correction"] is None


def test_another_correction_of_the_same_record_takes_the_place_of_the_accepted_one(page, stage, tmp_path):
    record = stage.lines("test")[0]["id"]
    with closing(connect(tmp_path / "review")) as database:  # another dataset has the same record
        names = "dataset, record, action, text, reader, at, comment, status"
        values = ("other", record, "drop", "", "anna", "2026-01-01T00:00:00Z", "", "accepted")
        database.execute(f"insert into correction ({names}) values (?, ?, ?, ?, ?, ?, ?, ?)", values)
    for text in ("Un but", "Deux buts"):
        number = propose(page, record, "replace", text=text).json()["id"]
        page.post(f"/api/corrections/{number}", json={"reader": "bob", "status": "accepted"})
    assert [row["text"] for row in accepted(tmp_path / "review")] == ["", "Deux buts"]
    listed = page.get("/api/corrections").json()["corrections"]
    assert [row["status"] for row in listed] == ["accepted", "rejected", "accepted"]
    assert correction_of(tmp_path / "review", "sample", f"{record}-2") == listed[-1]  # of a further copy
    _, before = accepted(tmp_path / "review")
    with closing(connect(tmp_path / "review")) as database:  # a correction is as old as its first acceptance
        database.execute("update correction set accepted_at = '2026-01-01T00:00:00Z' where id = ?", [number])
    for status in ("rejected", "accepted", "accepted"):
        found = page.post(f"/api/corrections/{number}", json={"reader": "carl", "status": status}).json()
        assert found["accepted_by"] == (None if status == "rejected" else "bob")
    assert accepted(tmp_path / "review")[1:] == [before | {"at": "2026-01-01T00:00:00Z"}]


def test_what_can_not_be_corrected_is_refused_with_a_line(page, stage, tmp_path):
    aside = page.get("/api/records", params={"collection": "dataset/sample/quarantine"}).json()["records"][0]["id"]
    copy = next(row for row in stage.lines("train") if row["meta"].get("augmented"))
    record = stage.lines("test")[0]["id"]
    refused = [
        (propose(page, aside, collection="dataset/sample/quarantine"), 409, "correct the raw file"),
        (propose(page, copy["id"], collection="dataset/sample/train"), 409, copy["meta"]["augmented_from"]),
        (propose(page, "0" * 16), 404, "no split has the record"),
        (propose(page, record, collection="dataset/none/test"), 404, "no collection"),
        (propose(page, record, "replace", text=" "), 400, "has no 'text'"),
        (propose(page, record, "delete"), 400, "not 'drop' or 'replace'"),
        (propose(page, record, reader="model:judge"), 400, "reader's name"),
        (page.post("/api/corrections/7", json={"reader": "bob", "status": "accepted"}), 404, "no correction 7"),
        (page.post(f"/api/corrections/{10**22}", json={"reader": "bob", "status": "accepted"}), 404, "no correction 1"),
    ]
    (stage.folder / "redaction.json").write_text("{}")
    refused.append((propose(page, record), 409, "redacted dataset"))
    (stage.folder / "redaction.json").unlink()
    number = propose(page, record).json()["id"]
    reply = page.post(f"/api/corrections/{number}", json={"reader": "bob", "status": "proposed"})
    for response, status, words in (*refused, (reply, 400, "neither 'accepted' nor 'rejected'")):
        assert (response.status_code, list(response.json())) == (status, ["error"]), response.text
        assert words in response.json()["error"]
    assert len(page.get("/api/corrections").json()["corrections"]) == 1
