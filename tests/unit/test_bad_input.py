"""What a user sees of each malformed file or record: one line that says where, what is wrong, and how to mend it."""

import gzip
import json
from pathlib import Path

import pyarrow
import pytest
import zstandard
from pyarrow import parquet

from tests.support.dataset_steps import Stage, chat, settings_of

GOOD = json.dumps(chat("Qui marque ?", "Jovanic, du gauche."), ensure_ascii=False)
MESSAGES = {"format": "messages"}
PAIRS = {"format": "prompt_completion"}
FIELDS = {"format": "fields", "fields": {"user": "{{ minute }}", "assistant": "{{ text }}"}}


def turns(*pairs: tuple[str, str]) -> bytes:
    return json.dumps({"messages": [{"role": role, "content": content} for role, content in pairs]}).encode()


def table(**columns) -> bytes:
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table(columns), sink)
    return sink.getvalue().to_pybytes()


FILES = {
    "jsonl, a broken line": (
        "raw.jsonl",
        f'{GOOD}\n{{"messages": [}}\n'.encode(),
        MESSAGES,
        "raw.jsonl:2: is not valid JSON: Expecting value (column 15); check quotes, commas and brackets there",
    ),
    "jsonl, a cut line": (
        "raw.jsonl",
        f'{GOOD}\n{{"messages": [\n'.encode(),
        MESSAGES,
        "raw.jsonl:2: is not valid JSON: Expecting value (column 15); write one complete {...} per line",
    ),
    "jsonl, single quotes": (
        "raw.jsonl",
        b"{'messages': []}\n",
        MESSAGES,
        "raw.jsonl:1: is not valid JSON: Expecting property name enclosed in double quotes (column 2); "
        "quote with double quotes",
    ),
    "jsonl, a missing comma": (
        "raw.jsonl",
        b'{"prompt": "a" "completion": "b"}\n',
        PAIRS,
        "raw.jsonl:1: is not valid JSON: Expecting ',' delimiter (column 16); is a comma missing before it?",
    ),
    "jsonl, NaN": (
        "raw.jsonl",
        b'{"prompt": "a", "completion": NaN}\n',
        PAIRS,
        "raw.jsonl:1: NaN is not JSON; write null",
    ),
    "jsonl, no object": (
        "raw.jsonl",
        f'{GOOD}\n"text"\n'.encode(),
        MESSAGES,
        "raw.jsonl:2: is text, not an object; a record is written as {...}",
    ),
    "jsonl, Latin-1": (
        "raw.jsonl",
        f'{GOOD}\n{{"text": "d\xe9j\xe0"}}\n'.replace("é", "\xe9").encode("latin-1"),
        MESSAGES,
        "raw.jsonl:2: byte 0xe9 (byte 12 of the line) is not UTF-8; "
        "save the file as UTF-8 (it may be Latin-1 or Windows-1252)",
    ),
    "jsonl, UTF-16": (
        "raw.jsonl",
        GOOD.encode("utf-16"),
        MESSAGES,
        "raw.jsonl:1: is UTF-16, not UTF-8; save it as UTF-8",
    ),
    "jsonl, nested without end": (
        "raw.jsonl",
        b'{"messages": ' + b"[" * 100_000 + b"\n",
        MESSAGES,
        "raw.jsonl:1: is nested too deeply; flatten the record",
    ),
    "jsonl that is a JSON array": (
        "raw.jsonl",
        f"[\n{GOOD}\n]".encode(),
        MESSAGES,
        "raw.jsonl:1: is a JSON array, not JSON Lines; rename it to .json",
    ),
    "json that is JSON Lines": (
        "raw.json",
        f"{GOOD}\n{GOOD}\n".encode(),
        MESSAGES,
        "raw.json:1: is JSON Lines, not a JSON array; rename it to .jsonl",
    ),
    "json, one object": (
        "raw.json",
        f'{{"data": [{GOOD}]}}'.encode(),
        MESSAGES,
        "raw.json:1: holds one object, not an array of records; put the records in [...]",
    ),
    "json, empty": (
        "raw.json",
        b" \n",
        MESSAGES,
        "raw.json:2: is empty; a JSON file holds an array of records: [{...}, ...]",
    ),
    "json, cut in a record": (
        "raw.json",
        f"[\n{GOOD},\n{GOOD[:40]}".encode(),
        MESSAGES,
        "raw.json:3: the JSON ends early; complete it, or copy it again",
    ),
    "json, bracket missing": (
        "raw.json",
        f"[\n{GOOD},\n{GOOD}\n".encode(),
        MESSAGES,
        "raw.json:4: the JSON ends early: ']' is missing; complete it, or copy it again",
    ),
    "json, comma missing between records": (
        "raw.json",
        f"[\n{GOOD}\n{GOOD}\n]".encode(),
        MESSAGES,
        "raw.json:3: is not valid JSON: ',' or ']' expected before {; add the comma",
    ),
    "json, comma after the last record": (
        "raw.json",
        f"[\n{GOOD},\n]".encode(),
        MESSAGES,
        "raw.json:3: is not valid JSON: a comma before ']'; drop the comma",
    ),
    "json, comma after the last field": (
        "raw.json",
        b'[\n{"prompt": "a",\n "completion": "b",\n}\n]',
        PAIRS,
        "raw.json:4: is not valid JSON: Expecting property name enclosed in double quotes; "
        "drop the comma before the closing bracket",
    ),
    "json, Latin-1": (
        "raw.json",
        b'[\n{"prompt": "a",\n"completion": "caf\xe9"}]',
        PAIRS,
        "raw.json:3: byte 0xe9 (byte 19 of the line) is not UTF-8; "
        "save the file as UTF-8 (it may be Latin-1 or Windows-1252)",
    ),
    "json, two arrays": (
        "raw.json",
        f"[{GOOD}]\n[{GOOD}]".encode(),
        MESSAGES,
        "raw.json:2: something follows the array's ']'; keep one array in the file",
    ),
    "csv, ragged row": (
        "raw.csv",
        b"prompt,completion\na,b\nc,d,e\n",
        PAIRS,
        "raw.csv:3: has 3 cells, the header has 2; quote cells that hold ','",
    ),
    "tsv, ragged row": (
        "raw.tsv",
        b"prompt\tcompletion\na\n",
        PAIRS,
        "raw.tsv:2: has 1 cell, the header has 2; a cell is missing, or a line break is not quoted",
    ),
    "tsv, a cell too many": (
        "raw.tsv",
        b"prompt\tcompletion\na\tb\tc\n",
        PAIRS,
        "raw.tsv:2: has 3 cells, the header has 2; quote cells that hold tabs",
    ),
    "csv, no header": (
        "raw.csv",
        b"Qui marque ?,Jovanic\na,b\n",
        PAIRS,
        "raw.csv:1: names none of the columns 'completion', 'prompt'; it holds 'Qui marque ?', 'Jovanic'; "
        "add a header line, or name the columns under 'columns'",
    ),
    "csv, a column twice": (
        "raw.csv",
        b"prompt,completion,prompt\na,b,c\n",
        PAIRS,
        "raw.csv:1: two columns are named 'prompt'; rename or drop one of them",
    ),
    "csv, a column without name": (
        "raw.csv",
        b"prompt,,completion\na,b,c\n",
        PAIRS,
        "raw.csv:1: column 2 has no name; name each column in the first line",
    ),
    "csv, semicolons": (
        "raw.csv",
        b"prompt;completion\na;b\n",
        PAIRS,
        "raw.csv:1: its cells are separated by semicolons, not by commas; save it with commas",
    ),
    "csv, NUL byte": (
        "raw.csv",
        b"prompt,completion\na,b\0\n",
        PAIRS,
        "raw.csv:2: holds a NUL byte; remove it, or save the file as UTF-8 text again",
    ),
    "csv, a quote that never closes": (
        "raw.csv",
        b'prompt,completion\na,b\nc,"d\ne,f\n',
        PAIRS,
        "raw.csv:3: a quote opens here and never closes; close it, or double it",
    ),
    "csv, a quote inside a cell": (
        "raw.csv",
        b'prompt,completion\na,"b"c\n',
        PAIRS,
        "raw.csv:2: is not valid CSV: ',' expected after '\"'; write \" inside a cell as \"\"",
    ),
    "csv, Latin-1 in a cell of two lines": (
        "raw.csv",
        b'prompt,completion\na,"b\nc\xe9"\n',
        PAIRS,
        "raw.csv:2: line 3: byte 0xe9 (byte 2 of the line) is not UTF-8; "
        "save the file as UTF-8 (it may be Latin-1 or Windows-1252)",
    ),
    "csv, empty": ("raw.csv", b"", PAIRS, "raw.csv:1: is empty; the first line names the columns"),
    "parquet that is none": (
        "raw.parquet",
        b"prompt,completion\n" * 20,
        PAIRS,
        "raw.parquet: is no readable Parquet file: Parquet magic bytes not found in footer. Either the file is "
        "corrupted or this is not a parquet file; write or copy it again",
    ),
    "parquet, null": (
        "raw.parquet",
        table(prompt=["a", "b"], completion=["c", None]),
        PAIRS,
        "raw.parquet:2: 'completion' is null, not text; write it as text",
    ),
    "gz, cut": (
        "raw.jsonl.gz",
        gzip.compress((GOOD + "\n").encode() * 50)[:-20],
        MESSAGES,
        "raw.jsonl.gz: the gzip file ends early; copy or download it again",
    ),
    "gz that is none": (
        "raw.jsonl.gz",
        GOOD.encode(),
        MESSAGES,
        "raw.jsonl.gz: is no valid gzip file: Not a gzipped file (b'{\"'); "
        "copy it again, or drop .gz when it is not compressed",
    ),
    "zst, cut": (
        "raw.jsonl.zst",
        zstandard.compress((GOOD + "\n").encode() * 50)[:-8],
        MESSAGES,
        "raw.jsonl.zst: the Zstandard file ends early; copy or download it again",
    ),
    "compressed without saying so": (
        "raw.jsonl",
        gzip.compress(GOOD.encode()),
        MESSAGES,
        "raw.jsonl: is compressed, but its name does not end in .gz; add .gz",
    ),
    "an unknown kind of file": (
        "raw.xlsx",
        b"PK",
        MESSAGES,
        "raw.xlsx: its name says no known format; "
        "name it .json, .jsonl, .csv, .tsv, .parquet, each also with .gz or .zst",
    ),
}

RECORDS = {
    "messages, no column": (
        b'{"text": "a"}',
        MESSAGES,
        "has no 'messages'; it has text; add it, or name the right column under 'columns'",
    ),
    "messages, empty list": (
        b'{"messages": []}',
        MESSAGES,
        "messages is no list of turns, or an empty one; write [{...}, ...]",
    ),
    "messages, no content": (
        b'{"messages": [{"role": "user"}]}',
        MESSAGES,
        "messages[0] has no 'role' and 'content'; write both, or rename them under 'columns'",
    ),
    "messages, unknown role": (
        turns(("user", "a"), ("bot", "b")),
        MESSAGES,
        "messages[1] has the role 'bot'; known roles are system, user, assistant",
    ),
    "messages, no answer": (
        turns(("user", "a")),
        MESSAGES,
        "does not end with an assistant message; add the answer, or drop the record",
    ),
    "messages, two users": (
        turns(("user", "a"), ("user", "b"), ("assistant", "c")),
        MESSAGES,
        "message 2 (user) stands where the assistant's is due; "
        "roles go [system], user, assistant, user, assistant, ...",
    ),
    "messages, system in the middle": (
        turns(("user", "a"), ("system", "b"), ("assistant", "c")),
        MESSAGES,
        "message 2 (system) stands where the assistant's is due; "
        "roles go [system], user, assistant, user, assistant, ...",
    ),
    "messages, blank answer": (
        turns(("user", "a"), ("assistant", " \n")),
        MESSAGES,
        "message 2 (assistant) is empty; write it, or drop the record",
    ),
    "messages, half a character": (
        b'{"messages": [{"role": "user", "content": "\\ud83d"}, {"role": "assistant", "content": "b"}]}',
        MESSAGES,
        "holds \\ud83d, half of a character; write the whole character",
    ),
    "messages, a NUL character": (
        turns(("user", "a"), ("assistant", "b\0")),
        MESSAGES,
        "message 2 (assistant) holds a NUL character; remove it",
    ),
    "messages, an image": (
        b'{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a.png"}}]}, '
        b'{"role": "assistant", "content": "b"}]}',
        MESSAGES,
        "names the image 'a.png', but the dataset has no image folder; name the folder under 'images'",
    ),
    "messages, a sound": (
        b'{"messages": [{"role": "user", "content": [{"type": "audio", "audio": "a.wav"}]}]}',
        MESSAGES,
        "messages[0].content[0] is a part of type 'audio'; parts are of type text or image",
    ),
    "messages, tool calls": (
        b'{"messages": [{"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}]}',
        MESSAGES,
        "messages[0] calls tools; chat records hold no tools: drop or rewrite it",
    ),
    "sharegpt, unknown speaker": (
        b'{"conversations": [{"from": "tool", "value": "a"}]}',
        {"format": "sharegpt"},
        "conversations[0] has the role 'tool'; known roles are system, human, user, gpt, chatgpt, assistant, model",
    ),
    "alpaca, a number": (
        b'{"instruction": 3, "output": "b"}',
        {"format": "alpaca"},
        "'instruction' is a number, not text; write it as text",
    ),
    "prompt_completion, renamed column": (
        b'{"question": "a", "completion": "b"}',
        PAIRS | {"columns": {"prompt": "frage"}},
        "has no 'frage'; it has question, completion; add it, or name the right column under 'columns'",
    ),
    "prompt_completion, misspelt column": (
        b'{"question": "a", "answer": "b", "topic": "c"}',
        PAIRS | {"columns": {"prompt": "questoin", "completion": "answer"}},
        "has no 'questoin'; it has question, answer, topic; did you mean 'question'?",
    ),
    "fields, missing": (b'{"text": "a"}', FIELDS, "has no field 'minute'; its fields are text"),
    "fields, null": (
        b'{"text": "a", "minute": null}',
        FIELDS,
        "a field that the template prints is null; use default('', true)",
    ),
    "no label": (
        GOOD.encode(),
        MESSAGES | {"label": "type"},
        "has no 'type'; it has messages; 'label' needs it in every record",
    ),
    "misspelt label": (
        json.dumps(chat("a", "b", topic="c")).encode(),
        MESSAGES | {"label": "topics"},
        "has no 'topics'; it has messages, topic; did you mean 'topic'?",
    ),
    "misspelt group": (
        json.dumps(chat("a", "b", customer="c")).encode(),
        MESSAGES | {"group_by": "custommer"},
        "has no 'custommer'; it has messages, customer; did you mean 'customer'?",
    ),
    "empty group": (
        json.dumps(chat("a", "b", match="")).encode(),
        MESSAGES | {"group_by": "match"},
        "has an empty 'match'; 'group_by' needs it in every record",
    ),
    "too short": (
        turns(("user", "a"), ("assistant", "But !")),
        MESSAGES | {"min_characters": 10},
        "the answer has 5 characters; min_characters is 10",
    ),
    "too long": (
        turns(("user", "a"), ("assistant", "But !" * 4)),
        MESSAGES | {"max_characters": 10},
        "the answer has 20 characters; max_characters is 10",
    ),
}


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Stage:
    monkeypatch.chdir(tmp_path)
    return Stage(tmp_path, {}, capsys)


@pytest.mark.parametrize("case", FILES)
def test_malformed_file_is_named_with_line_fault_and_remedy(case: str, stage: Stage):
    name, content, settings, line = FILES[case]
    Path(name).write_bytes(content)
    stage.settings = settings_of(**settings)
    assert stage.ingest(Path(name)) == 1
    assert stage.error().splitlines()[0] == line
    assert not list(stage.folder.glob("*.parquet.*.partial")), "nothing half-written stays"
    assert not (stage.folder / "ingested.parquet").exists()


@pytest.mark.parametrize("case", RECORDS)
def test_malformed_record_is_named_with_line_fault_and_remedy(case: str, stage: Stage):
    record, settings, line = RECORDS[case]
    Path("raw.jsonl").write_bytes(b"\n" + record + b"\n")
    stage.settings = settings_of(**settings)
    assert stage.ingest(Path("raw.jsonl")) == 1
    assert stage.error() == f"raw.jsonl:2: {line}"


@pytest.mark.parametrize("case", RECORDS)
def test_malformed_record_is_kept_whole_in_the_quarantine(case: str, stage: Stage):
    record, settings, line = RECORDS[case]
    good = json.loads(GOOD) | {"prompt": "q", "completion": "Une réponse assez longue", "frage": "f", "minute": 1}
    good |= {"text": "Un texte", "instruction": "q", "output": "Une réponse", "type": "t", "match": "m"}
    good |= {"questoin": "q", "answer": "Une réponse", "topics": "t", "custommer": "c"}
    good["conversations"] = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    good["messages"][1]["content"] = "Jovanic !!"
    Path("raw.jsonl").write_bytes(json.dumps(good).encode() + b"\n" + record + b"\n")
    stage.settings = settings_of(**settings, on_bad_record="quarantine")
    assert stage.ingest(Path("raw.jsonl")) == 0
    (row,) = stage.lines("quarantine")
    assert row["origin"] == "raw.jsonl:2"
    assert line.startswith(row["reason"] + "; ")
    assert row["record"] == json.loads(record)
    assert stage.facts("ingest")["quarantined"] == 1
    assert [each["origin"] for each in stage.ingested()] == ["raw.jsonl:1"]


def test_a_wrong_column_is_one_line_that_does_not_advise_to_leave_out_everything(stage: Stage):
    row = json.dumps({"prompt": "q", "completion": "Une réponse assez longue"})
    Path("raw.jsonl").write_text(f"{row}\n" * 12, encoding="utf-8")
    stage.settings = settings_of(format="prompt_completion", columns={"prompt": "question"})
    assert stage.ingest(Path("raw.jsonl")) == 1
    advice = "add it, or name the right column under 'columns'"
    logged = stage.capsys.readouterr().err
    assert logged.partition(" ERROR ")[2] == (
        f"raw.jsonl: 12 of 12 records have no 'question'; they have prompt, completion; {advice}\n"
    )
    assert logged.count("has no 'question'") == 10


def test_a_failing_build_says_how_many_records_are_bad_and_what_else_can_be_done(stage: Stage):
    Path("raw.jsonl").write_text("".join(f"{GOOD}\n{GOOD}\n{{}}\n3\n" for _ in range(6)) + GOOD, encoding="utf-8")
    stage.settings = settings_of()
    assert stage.ingest(Path("raw.jsonl")) == 1
    assert stage.error() == (
        "raw.jsonl:3: has no 'messages'; it has no field; add it, or name the right column under 'columns'; "
        "12 of 25 records are bad, the log has the first 10; or leave out what is bad by 'on_bad_record: quarantine'"
    )


def test_missing_file_and_folder_are_named(stage: Stage):
    stage.settings = settings_of()
    assert stage.ingest(Path("none.jsonl")) == 1
    assert stage.error() == "none.jsonl: is missing; check 'files' in the configuration"
    Path("folder.jsonl").mkdir()
    assert stage.ingest(Path("folder.jsonl")) == 1
    assert stage.error() == "folder.jsonl: is a folder; name the files in it, such as folder.jsonl/*.jsonl"


@pytest.mark.parametrize("kind", ["ragged", "encoding"])
def test_bad_rows_of_a_table_can_be_quarantined_as_they_stand(kind: str, stage: Stage):
    bad = {"ragged": b'c,"d\nd",e\n', "encoding": b"c,caf\xe9\n"}[kind]
    Path("raw.csv").write_bytes(b"prompt,completion\na,b\n" + bad + b"f,g\n")
    stage.settings = settings_of(**PAIRS, on_bad_record="quarantine")
    assert stage.ingest(Path("raw.csv")) == 0
    (row,) = stage.lines("quarantine")
    assert row["record"] == {"ragged": 'c,"d\nd",e', "encoding": "c,caf\\xe9"}[kind]
    assert [each["expected"] for each in stage.ingested()] == ["b", "g"]
    assert stage.ingested()[1]["origin"] == f"raw.csv:{5 if kind == 'ragged' else 4}"


def test_incomplete_settings_are_named(stage: Stage):
    stage.settings = {"format": "messages", "hub": None}
    assert stage.ingest(Path("raw.jsonl")) == 1
    assert stage.error().startswith("--settings lacks fields, columns, system, label, label_map, span_label_map, ")
    assert stage.split() == 1
    assert stage.error().startswith("--settings lacks deduplicate, splits, stratify, augment, whole_files; `snakemake")
