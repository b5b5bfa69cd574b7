"""What a user sees of each malformed file or record: one line that says where, what is wrong, and how to mend it."""

import gzip
import io
import json
import re
from pathlib import Path

import pyarrow
import pytest
import zstandard
from pyarrow import parquet

from tests.support.data import load
from tests.support.dataset_steps import Stage, chat, settings_of, write_lines

TABLE = load("bad_input.yaml")
GOOD = json.dumps(chat("Qui marque ?", "Jovanic, du gauche."))
NULL = io.BytesIO()
parquet.write_table(pyarrow.table({"prompt": ["a", "b"], "completion": ["c", None]}), NULL)
FILES = [
    *((name, kind, text.replace("GOOD", GOOD).encode("latin-1"), line) for name, kind, text, line in TABLE["files"]),
    ("raw.jsonl", "messages", b'{"messages": ' + b"[" * 100_000 + b"\n", "1: is nested too deeply"),
    ("raw.jsonl", "messages", b'{"a": ' + b"7" * 4301 + b"}\n", "1: holds an integer of 4301 digits"),
    ("raw.json", "messages", b'[{"a": ' + b"7" * 4301 + b"}]\n", "1: holds an integer of 4301 digits"),
    ("raw.parquet", "prompt_completion", NULL.getvalue(), "2: 'completion' is null, not text"),
    ("raw.jsonl.gz", "messages", gzip.compress(b"[{}]"), "1: is a JSON array, not JSON Lines; rename it to .json.gz"),
    ("raw.jsonl.gz", "messages", gzip.compress((GOOD + "\n").encode() * 50)[:-20], " can't be unpacked: Truncated"),
    ("raw.jsonl.zst", "messages", zstandard.compress(GOOD.encode() * 50)[:-8], " can't be unpacked: Truncated"),
]
RECORDS = TABLE["records"] + [
    ({"format": "spans"}, {"text": text, "spans": spans}, line) for text, spans, line in TABLE["spans"]
]


@pytest.fixture(autouse=True)
def in_its_folder(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(stage.folder)


@pytest.mark.parametrize(("name", "kind", "content", "line"), FILES, ids=[f"{f[0]}:{f[3]}" for f in FILES])
def test_malformed_file_is_named_with_line_fault_and_remedy(name, kind, content, line, stage: Stage):
    Path(name).write_bytes(content)
    stage.settings = settings_of(format=kind)
    assert stage.ingest(Path(name)) == 1
    said = stage.error().splitlines()[0]
    assert said.startswith(f"{name}:{line}")
    assert said.partition("; ")[2], "the remedy"
    assert not list(stage.folder.glob("ingested.parquet*")), "nothing half-written stays"


@pytest.mark.parametrize(("settings", "record", "line"), RECORDS, ids=[record[2] for record in RECORDS])
def test_malformed_record_is_named_or_kept_whole_in_the_quarantine(settings, record, line, stage: Stage):
    Path("raw.jsonl").write_text(f"{json.dumps(TABLE['good'])}\n\n{json.dumps(record)}\n", encoding="utf-8")
    stage.settings = settings_of(**settings)
    assert stage.ingest(Path("raw.jsonl")) == 1
    error = stage.error()
    assert error.startswith("raw.jsonl:3: ")
    assert line in error
    stage.settings = settings_of(**settings, on_bad_record="quarantine")
    assert stage.ingest(Path("raw.jsonl")) == 0
    (row,) = stage.lines("quarantine")
    assert error.startswith(f"{row['origin']}: {row['reason']}; ")
    assert row["record"] == record
    assert stage.facts("ingest")["quarantined"] == 1
    assert [each["origin"] for each in stage.ingested()] == ["raw.jsonl:1"]


@pytest.mark.parametrize("place", [0, 30])
def test_a_list_of_records_on_one_line_can_be_quarantined_wherever_it_stands(place, stage: Stage):
    lines = [json.loads(GOOD)] * 30
    lines.insert(place, [{"prompt": "a", "completion": "b"}])
    stage.settings = settings_of(on_bad_record="quarantine")
    assert stage.ingest(write_lines(Path("raw.jsonl"), lines)) == 0
    assert [row["origin"] for row in stage.lines("quarantine")] == [f"raw.jsonl:{place + 1}"]
    assert len(stage.ingested()) == 30


@pytest.mark.parametrize(("good", "said"), [(13, "12 of 25 records are bad"), (0, "12 of 12 records are bad")])
def test_a_failing_build_says_how_many_are_bad_and_advises_to_leave_them_out_unless_all_are(good, said, stage: Stage):
    write_lines(Path("raw.jsonl"), [*[{"text": "a"}] * 12, *[json.loads(GOOD)] * good])
    assert stage.ingest(Path("raw.jsonl")) == 1
    logged = stage.capsys.readouterr().err
    error = logged.partition(" ERROR ")[2].strip()
    assert error.startswith("raw.jsonl:1: has no 'messages'; it has text; add it, or name the right column under 'col")
    assert f"; {said}, the log has the first 10" in error
    assert error.endswith(" 'on_bad_record: quarantine'") == (good > 0)
    assert logged.count("has no 'messages'") == 11


@pytest.mark.parametrize(("name", "said"), [("none.jsonl", "No such file"), (".jsonl", "Is a directory")])
def test_missing_file_and_folder_are_named_with_a_remedy(name, said, stage: Stage):
    Path(".jsonl").mkdir()
    assert stage.ingest(Path(name)) == 1
    assert re.match(rf"{name}: can't be read: {said}.*; check 'files'$", stage.error())


@pytest.mark.parametrize(
    ("bad", "kept", "next_line"), [(b'c,"d\nd",e\n', 'c,"d\nd",e', 5), (b"c,caf\xe9\n", "c,caf\\xe9", 4)]
)
def test_bad_rows_of_a_table_can_be_quarantined_as_they_stand(bad, kept, next_line, stage: Stage):
    Path("raw.csv").write_bytes(b"prompt,completion\na,b\n" + bad + b"f,g\n")
    stage.settings = settings_of(format="prompt_completion", on_bad_record="quarantine")
    assert stage.ingest(Path("raw.csv")) == 0
    assert [row["record"] for row in stage.lines("quarantine")] == [kept]
    assert [row["expected"] for row in stage.ingested()] == ["b", "g"]
    assert stage.ingested()[1]["origin"] == f"raw.csv:{next_line}"
