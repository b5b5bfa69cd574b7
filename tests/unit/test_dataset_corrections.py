"""Corrections apply after reading: later steps see them, raw files and splits stay, the ledger says who and when."""

import json
from pathlib import Path

import pytest

from tests.support.dataset_steps import Stage, chat, settings_of, write_lines
from tests.support.pictures import encoded, looking, picture

SETTINGS = {"splits": {"train": 0.5, "validation": 0.0, "test": 0.5, "seed": 3}, "stratify": False}
WORDS = ("ballon", "gardien", "poteau", "corner", "ailier", "centre", "milieu", "tribune")
AT = "2026-11-29T21:{:02}:00Z"
BAD = {
    "not JSON": ('{"dataset": ', "is not valid JSON"),
    "a list": ("[1, 2]", "is a list, not an object"),
    "no reader": ({"reader": None}, "'reader' is not a name"),
    "no id": ({"record": "raw.jsonl:3"}, "'record' is not 16 hex digits"),
    "an action": ({"action": "delete"}, "'action' is not 'drop' or 'replace'"),
    "no text": ({"text": " \n"}, "has no 'text'"),
    "half a character": ({"comment": "\ud800"}, "half of a character"),
    "no time": ({"at": "yesterday"}, "'at' is not a time"),
}


def raw_chats(count: int = 40) -> list[dict]:
    return [chat(f"Minute {n} ?", f"Le {WORDS[n % 8]} numéro {n * n} du {WORDS[n // 8]}") for n in range(count)]


def correction(record: str, text: str | None = None, minute: int = 0, **more) -> dict:
    """Return a correction that replaces the answer of a record, or without text one that drops it."""
    said = {"action": "replace" if text else "drop", "text": text, "reader": "anna", "accepted_by": "bob"}
    return {"dataset": "sample", "record": record, **said, "at": AT.format(minute), "comment": "", **more}


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture):
    """Return a function that runs the stage with corrections; it returns the stage, and records by their origin."""

    def run(corrections: list[dict], raw: list[dict] | None = None, **settings) -> tuple[Stage, dict[str, dict]]:
        stage = Stage(tmp_path, settings_of(**SETTINGS, **settings), capsys)
        write_lines(tmp_path / "corrections.jsonl", corrections)
        stage.run(write_lines(tmp_path / "raw.jsonl", raw or raw_chats()))
        return stage, {row["origin"].rpartition(":")[2]: row for row in stage.records()}

    return run


@pytest.mark.parametrize("compare", ["answer", "conversation"])
def test_a_corrected_record_stays_in_its_split_and_every_other_as_it_was(compare, run, tmp_path):
    settings = {"deduplicate": {"compare": compare}, "augment": {"templates": ["Bref : {{ user }}"]}}
    _, before = run([], **settings)
    raw = (tmp_path / "raw.jsonl").read_bytes()
    texts = {line: f"Réponse corrigée {line}, but de la tête" for line in list(before)[:20]}
    rows = [correction(before[line]["id"], text) for line, text in texts.items()]
    stage, after = run(rows, **settings)
    assert (tmp_path / "raw.jsonl").read_bytes() == raw
    assert {line: row["split"] for line, row in after.items()} == {line: row["split"] for line, row in before.items()}
    assert {row["split"] for line, row in after.items() if line in texts} == {"train", "test"}
    assert {line: row["expected"] for line, row in after.items() if line in texts} == texts
    assert all(json.loads(after[line]["messages"])[-1]["content"] == text for line, text in texts.items())
    assert all((after[line] == row) == (line not in texts) for line, row in before.items())
    augmented = [row for row in stage.lines("train") if row["meta"].get("augmented")]
    kept = {row["id"]: row["expected"] for row in after.values()}
    assert augmented
    assert all(row["expected"] == kept[row["meta"]["augmented_from"]] for row in augmented)


def test_a_dropped_record_is_in_the_quarantine_and_the_ledger_says_that_the_test_split_changed(run):
    _, before = run([])
    train, test = ([line for line, row in before.items() if row["split"] == split] for split in ("train", "test"))
    rows = [
        correction(before[test[0]]["id"], comment="not a <b>goal</b>"),
        correction(before[train[0]]["id"], "Un arrêt du gardien"),
        correction("0" * 16),
        correction(before[test[1]]["id"], dataset="other"),
    ]
    stage, after = run(rows)
    assert before.keys() - after.keys() == {test[0]}
    (aside,) = stage.lines("quarantine")
    assert aside["reason"] == f"proposed by anna, accepted by bob at {rows[0]['at']}: not a <b>goal</b>"
    ledger, page = stage.facts("ledger"), (stage.folder / "ledger.html").read_text(encoding="utf-8")
    assert ledger["reasons"][0]["reason"] == "dropped by a correction"
    found = ledger["corrections"]
    assert [(row["action"], row["splits"], row["not_applied"]) for row in found["rows"]] == [
        ("drop", ["test"], None),
        ("replace", ["train"], None),
        ("drop", [], "its record changed or was removed"),
    ]
    assert [(row["reader"], row["accepted_by"], row["at"]) for row in found["rows"]] == [
        ("anna", "bob", AT.format(0))
    ] * 3
    assert found["rows"][1]["was"] == before[train[0]]["expected"]
    first, second = ledger["look_first"]
    assert first.startswith("1 record of the test split was corrected or dropped: scores")
    assert second == "1 correction did not apply: see Corrections."
    assert "2 of 3 applied" in page
    assert "not a &lt;b&gt;goal&lt;/b&gt;" in page
    stage, _ = run(rows[1:2])
    assert (stage.facts("ledger")["corrections"]["test_records"], stage.facts("ledger")["look_first"]) == (0, [])


def test_a_record_may_be_corrected_again_and_the_last_correction_of_the_same_text_counts(run):
    _, before = run([])
    line, first = next((line, row["id"]) for line, row in before.items() if row["split"] == "test")
    _, once = run([correction(first, "Un but", 1)])
    again = [correction(first, "Un but", 1), correction(once[line]["id"], "Un beau but", 2)]
    for rows in (again, again[::-1]):
        stage, after = run(rows)
        assert (after[line]["expected"], after[line]["split"]) == ("Un beau but", "test")
        assert stage.facts("ledger")["corrections"]["test_records"] == 1
    # A time without a zone is UTC, and a further copy of a record has the id of the first and a number.
    other = [correction(f"{first}-2", "Un but", at="2026-11-29T21:01:00"), again[1]]
    assert run(other)[1][line]["expected"] == "Un beau but"
    back = [again[0], correction(once[line]["id"], before[line]["expected"], 3)]
    assert run(back)[1][line] == before[line]
    back[1]["at"] = back[0]["at"]  # at the same time neither follows the other for ever
    assert run(back)[1][line]["expected"] == "Un but"
    stage, after = run([correction(first, "Un but", 5), again[1]])
    assert after[line]["expected"] == "Un but"
    assert [row["not_applied"] for row in stage.facts("ledger")["corrections"]["rows"]] == [
        None, "it was accepted before the correction that made its record",
    ]  # fmt: skip
    stage, after = run([correction(first, "Un penalty", 5), *again])
    assert after[line]["expected"] == "Un penalty"
    assert [row["not_applied"] for row in stage.facts("ledger")["corrections"]["rows"]] == [
        None, "a later correction of the same record was applied", "its record changed or was removed",
    ]  # fmt: skip


def test_a_correction_of_a_split_that_comes_as_files_is_one_of_that_split(tmp_path, capsys):
    files = [
        write_lines(tmp_path / "raw.jsonl", raw_chats()[:20]),
        write_lines(tmp_path / "held.jsonl", raw_chats()[20:]),
    ]
    stage = Stage(tmp_path, settings_of(test_files=[str(files[1])]), capsys)
    stage.run(*files)
    rows = [correction(row["id"]) for row in stage.lines("test")[:10]]
    write_lines(tmp_path / "corrections.jsonl", rows)
    stage.run(*files)
    assert [row["splits"] for row in stage.facts("ledger")["corrections"]["rows"]] == [["test"]] * 10


@pytest.mark.parametrize("action", ["list", "relabel", "quarantine"])
def test_checks_and_duplicates_see_the_corrected_record(action, run):
    checks = [{"label": "but", "must_not_match": "abonnez", "on_violation": "list"}]
    raw = [{"q": f"Minute {n} ?", "a": f"Le {WORDS[n]} sort", "kind": "but"} for n in range(6)]
    raw += [{"q": "Qui ?", "a": answer, "kind": "but"} for answer in ("abonnez-vous", "Un but !")]
    fields = {"user": "{{ q }} {{ label }}", "assistant": "{{ a }}"}
    settings = {"format": "fields", "fields": fields, "label": "kind", "checks": checks}
    _, before = run([], raw, **settings)
    checks[0]["on_violation"] = action
    seen = before["7"]["id"]
    if action == "relabel":  # the prompt has the label
        seen = run([], raw, **settings)[1]["7"]["id"]
        assert seen != before["7"]["id"]
    stage, after = run([correction(seen, "Un but !"), correction(before["1"]["id"], "abonnez-vous")], raw, **settings)
    assert (after["7"]["expected"], after["7"]["label"], "8" in after) == ("Un but !", "but", False)
    (check,) = stage.facts("ledger")["checks"]
    assert (check["records"], [row["origin"].rpartition(":")[2] for row in check["examples"]]) == (8, ["1"])
    assert [row["reason"] for row in stage.lines("quarantine")] == (
        ["with its correction, the answer of a 'but' must not match 'abonnez'"] * (action == "quarantine")
    )


def test_a_record_with_spans_can_be_dropped_and_is_not_replaced(run, capsys):
    raw = [{"text": f"Anna {n} {WORDS[n % 8] * n}", "spans": "[[0, 4, 'NAME']]"} for n in range(20)]
    _, before = run([], raw, format="spans")
    rows = [correction(before["3"]["id"]), correction("0" * 16, "Un but", dataset="captions")]
    stage, after = run(rows, raw, format="spans")
    assert before.keys() - after.keys() == {"3"}
    write_lines(stage.folder / "corrections.jsonl", [correction(before["3"]["id"], "[]")])
    assert stage.ingest(stage.folder / "raw.jsonl") == 1
    assert "corrections.jsonl:1: replaces the answer of a record with spans; drop the record" in stage.error()


def test_the_image_of_a_corrected_record_stays_and_that_of_a_dropped_one_goes(run, tmp_path):
    (tmp_path / "pictures").mkdir()
    for number in range(12):
        (tmp_path / f"pictures/{number}.png").write_bytes(encoded(picture(seed=number)))
    raw = [looking(f"{number}.png", answer=f"Titre {WORDS[number % 8]} {number}") for number in range(12)]
    settings = {"images": str(tmp_path / "pictures")}
    _, before = run([], raw, **settings)
    stage, after = run([correction(before["1"]["id"], "Le sel"), correction(before["2"]["id"])], raw, **settings)
    assert (after["1"]["expected"], after["1"]["split"]) == ("Le sel", before["1"]["split"])
    files = stage.facts("images/manifest")["files"]
    assert {name for file in files.values() for name in file["origins"]} == {f"{n}.png" for n in range(12)} - {"1.png"}
    assert {path.name for path in (tmp_path / "images").glob("*.png")} == files.keys()


@pytest.mark.parametrize("what", BAD)
def test_a_bad_line_is_one_line_with_file_line_and_remedy(what, tmp_path, capsys):
    given, message = BAD[what]
    line = given if isinstance(given, str) else json.dumps(correction("0" * 16, "Un but") | given)
    path = tmp_path / "corrections.jsonl"
    path.write_text(f"{json.dumps(correction('1' * 16))}\n\n{line}\n", encoding="utf-8")
    stage = Stage(tmp_path, settings_of(), capsys)
    assert stage.ingest(write_lines(tmp_path / "raw.jsonl", raw_chats())) == 1
    error = stage.error()
    assert error.startswith(f"{path}:3: ")
    assert message in error
    assert "; " in error
    assert "\n" not in error
