"""Raw records of every format become canonical ones, as the configuration says."""

import datetime
import decimal
import json
from contextlib import nullcontext
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from scripts.common import pool
from scripts.common.errors import UserError
from scripts.common.records import Record, content_id
from scripts.dataset import canonical, compare_texts, ingest_records, raw_files, write_dataset_ledger
from scripts.dataset.canonical import batch_of, from_row, json_lines, record_id, rows_of_records, to_row
from scripts.dataset.make_record import UNKNOWN
from scripts.dataset.raw_rows import RawRow
from scripts.dataset.read_json import RawBlock, first_records, read_jsonl_rows
from tests.support.data import load
from tests.support.dataset_steps import Stage, chat, made, settings_of, write_lines

FORMATS = load("record_formats.yaml")["formats"]


@pytest.mark.parametrize(("settings", "raw", "messages"), FORMATS, ids=[str(case[0])[:70] for case in FORMATS])
def test_formats(settings: dict, raw: dict, messages: list[dict]):
    record = made(raw, **settings)
    assert record.messages == messages
    assert record.id == content_id(messages, record.spans)
    assert record.expected == messages[-1]["content"]
    assert not record.meta or settings["format"] == "fields"


def test_line_ends_and_outer_white_space_are_normalised():
    assert made(chat(" p\rq\r", "a\r\nb\rc \n")).messages == chat("p\nq", "a\nb\nc")["messages"]


def test_label_is_mapped_and_others_stay_and_meta_holds_the_rest():
    settings = {"label": "type", "label_map": {"goal": "But", "true": "Oui"}}
    labels = [made(chat("q", "a", type=kind), **settings).label for kind in ("goal", "card", True, 3)]
    assert labels == ["But", "card", "Oui", "3"]
    record = made(chat("q", "a", minute="90'+3", source={"url": "u"}), group_by="minute")
    assert (record.meta, record.group) == ({"minute": "90'+3", "source": {"url": "u"}}, "90'+3")


def test_values_that_json_lacks_become_text(tmp_path: Path, stage: Stage):
    at = datetime.datetime(2026, 11, 20, 9, 30, tzinfo=datetime.UTC)
    raw = {"prompt": "q", "completion": "a", "day": at.date(), "at": at, "price": decimal.Decimal("1.50")}
    raw |= {"nothing": float("nan"), "picture": b"\x89PNG"}
    parquet.write_table(pyarrow.Table.from_pylist([raw]), tmp_path / "raw.parquet")
    stage.settings = settings_of(format="prompt_completion")
    assert stage.ingest(tmp_path / "raw.parquet") == 0
    (row,) = stage.ingested()
    texts = {"day": "2026-11-20", "at": "2026-11-20T09:30:00+00:00", "price": "1.50", "nothing": None}
    assert json.loads(row["meta"]) == texts | {"picture": "(4 bytes)"}


CHECK = {"label": "But", "must_match": "(?i)but"}
BY_TYPE = {"label": "type", "label_map": {"goal": "But"}}


def test_check_lists_a_violation_and_keeps_the_record_or_quarantines_it(tmp_path: Path, stage: Stage):
    forbidden = {"must_not_match": "(?i)abonnez", "on_violation": "quarantine"}
    stage.settings = settings_of(**BY_TYPE, checks=[CHECK, forbidden])
    records = [chat("q", answer, type="goal") for answer in ("But !", "Corner", "Abonnez-vous")]
    assert stage.ingest(write_lines(tmp_path / "raw.jsonl", [*records, chat("q", "Corner.", type="card")])) == 0
    check = stage.facts("ingest")["checks"][0]
    assert (check["count"], check["on_violation"]) == (1, "list")
    assert check["states"] == "the answer of a 'But' must match '(?i)but'"
    assert [example["origin"] for example in check["examples"]] == [f"{tmp_path / 'raw.jsonl'}:2"]
    assert [row["label"] for row in stage.ingested()] == ["But", "But", "card"]
    (row,) = stage.lines("quarantine")
    assert (row["record"], row["reason"]) == (records[2], "the answer of a 'But' must not match '(?i)abonnez'")


def test_check_relabels_and_the_prompt_says_so():
    settings = BY_TYPE | {"format": "fields", "fields": {"user": "{{ label }} ?", "assistant": "{{ text }}"}}
    record = made({"type": "goal", "text": "Corner"}, **settings, checks=[CHECK | {"on_violation": "relabel"}])
    assert record.label == UNKNOWN
    assert record.messages[0]["content"] == "unknown ?"


def test_a_label_of_endless_values_is_refused(tmp_path: Path, stage: Stage):
    stage.settings = settings_of(label="url")
    records = [chat("q", "a", url=f"u{number}") for number in range(1001)]
    assert stage.ingest(write_lines(tmp_path / "raw.jsonl", records)) == 1
    assert stage.error() == "the label has more than 1000 values; name another column as 'label'"


def test_where_no_record_is_left_the_commonest_reasons_are_named(tmp_path: Path, stage: Stage):
    raw = write_lines(tmp_path / "raw.jsonl", [{"other": 1}, chat("q", "a"), chat("q", "b")])
    stage.settings = settings_of(min_characters=5, on_bad_record="quarantine")
    assert stage.ingest(raw) == 1
    first, second, remedy = stage.error().split("; ")
    assert first == f"{raw}: no record is left of 3: 2 × answer too short ({raw}:2: the answer has 1 characters)"
    assert second == f"1 × missing column ({raw}:1: has no 'messages')"
    assert remedy.startswith("correct the records, or the settings")
    assert stage.ingest(write_lines(raw, [])) == 1
    assert stage.error() == f"{raw}: no record is left: nothing was read; give a file with records"


def test_several_processes_write_the_same_files(tmp_path: Path, stage: Stage, monkeypatch: pytest.MonkeyPatch):
    stage.settings |= {"on_bad_record": "quarantine", "label": "type"}
    stage.settings["checks"] = settings_of(checks=[{"must_match": "[02-9]$"}])["checks"]
    records = [chat(f"question {n}", f"{'été ' * n}{n}", type=f"t{n % 3}") for n in range(60)]
    records[7]["messages"].pop()
    raw = write_lines(tmp_path / "raw.jsonl", records)
    raw.write_text(raw.read_text(encoding="utf-8") + '{"messages"\n{"messages": "\\ud800"}\n', encoding="utf-8")
    monkeypatch.setattr(raw_files, "BLOCK", 700)
    monkeypatch.setattr(ingest_records, "CHUNK_TEXT", 700)
    monkeypatch.setattr(canonical, "ROWS", 7)  # of a row group: one task of a process
    stage.run(raw)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.*")}
    monkeypatch.setattr(pool, "FEW_TASKS", 1)
    monkeypatch.setattr(compare_texts, "FEW", 0)
    monkeypatch.setattr(write_dataset_ledger, "FEW_TO_COUNT", 0)
    stage.threads = 2
    stage.run(raw)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.*")} == before
    assert (stage.facts("ingest")["quarantined"], stage.facts("ingest")["checks"][0]["count"]) == (3, 6)


def test_long_rows_are_few_in_a_chunk(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ingest_records, "CHUNK_TEXT", 100)
    lengths = [40, 40, 40, 250, 10, 20, 30]
    rows = [("raw", RawRow("raw:1", {"a": [{"b": "é" * length}], "n": 1})) for length in lengths]
    assert [len(chunk) for chunk in ingest_records.chunks_of(rows)] == [3, 1, 3]
    rows[0] = ("raw", RawBlock("raw", 1, b" " * 100))
    assert [len(chunk) for chunk in ingest_records.chunks_of(rows)] == [1, 3, 3]


@pytest.mark.parametrize("size", [1, 10, 16, 1000])
def test_blocks_of_lines_have_each_line_with_its_number(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(raw_files, "BLOCK", size)
    raw = tmp_path / "raw.jsonl"
    raw.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\n  \n {"a": 2} \n{"a": "\x0c\xc2\x85"}\n{"a": 4} x\n{"a": 5}')
    rows = list(read_jsonl_rows(raw))
    found = [(row.origin.rpartition(":")[2], row.record["a"] if row.record else row.fault.detail) for row in rows]
    control, extra = "Invalid control character at (column 8)", "Extra data (column 10)"
    assert found == [
        ("1", 1), ("4", 2), ("5", f"is not valid JSON: {control}"), ("6", f"is not valid JSON: {extra}"), ("7", 5)
    ]  # fmt: skip
    monkeypatch.setattr(raw_files, "MAX_RECORD", max(size, 20))
    for length, fails in ((max(size, 20), False), (max(size, 20) + 1, True)):
        raw.write_bytes(b"{}\n\n" + b"0" * (length - 1) + b"\n{}\n")
        with pytest.raises(UserError, match=r"raw\.jsonl:3: a record is longer") if fails else nullcontext():
            list(read_jsonl_rows(raw))
    raw.write_bytes(b'[{"a": 1}]\n{"a": 2}\n')
    assert [row.fault is None for row in read_jsonl_rows(raw)] == [False, True]
    raw.write_bytes(b'\n\n[{"a": 1},\n')
    with pytest.raises(UserError, match=r"raw\.jsonl:3: is a JSON array"):
        list(read_jsonl_rows(raw))


def test_blocks_have_few_lines_and_end_with_the_last_record_that_is_wanted(monkeypatch: pytest.MonkeyPatch):
    data = b"".join(b"%d\n%s" % (n, b"\n" * (n % 3)) for n in range(20)) + b"20"
    whole = RawBlock("raw", 5, data)
    lines = list(whole.lines())
    assert [int(line) for _, line in lines] == list(range(21))
    for most in (1, 2, 7, 40, 41, 100):
        parts = list(whole.parts(most))
        assert [line for part in parts for line in part.lines()] == lines
        assert all(len(part.data.split(b"\n")) <= most for part in parts)
        for count in (1, 3, 20, 21, 50):
            assert [line for part in first_records(parts, count) for line in part.lines()] == lines[:count]


def test_short_lines_are_few_in_a_chunk(tmp_path: Path):
    raw = tmp_path / "raw.jsonl"
    raw.write_bytes(b'{"a": 1}\n' * 5000)
    chunks = list(ingest_records.chunks_of(ingest_records.sourced_rows([raw], settings_of())))
    counts = [sum(len(list(block.rows())) for _, block in chunk) for chunk in chunks]
    assert (sum(counts), max(counts)) == (5000, 2048)


def test_records_become_the_rows_and_have_the_ids_that_json_gives():
    texts = ['dit "été"\n\u2028\\', "⚽", "\x00\x08\x0c\x1f\x7f\r\t/\u0085\ufeff"]
    parts = [{"type": "text", "text": texts[0]}, {"type": "image", "image": "images/a.png"}]
    records = []
    for number, text in enumerate([*texts, parts]):
        messages = [{"role": "system", "content": "s"}, {"role": "user", "content": text}]
        messages.append({"role": "assistant", "content": "⚽"})
        spans, meta = (None, [], [[0, 2, "é"]])[number % 3], {"a": [1.5, None, True]} if number % 2 else {}
        assert record_id(messages, spans) == content_id(messages, spans)
        records.append(Record(f"{number:016x}", messages, "⚽", spans, "l", None, meta, "a b.jsonl:1"))
    assert rows_of_records(records) == batch_of([to_row(record) for record in records])
    assert not len(rows_of_records([]))


def test_row_groups_have_few_rows_however_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(canonical, "ROWS", 8)
    batch = batch_of([to_row(Record(f"{number}", [])) for number in range(21)])
    with canonical.row_writer(tmp_path / "rows.parquet") as writer:
        for part in (batch, batch.slice(0, 0), batch.slice(20)):
            writer.write_batch(part)
        writer.write_batch(batch.slice(0, 2))
        writer.write_batch(batch.slice(0, 0))
    file = parquet.ParquetFile(tmp_path / "rows.parquet")
    assert [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)] == [8, 8, 8]
    assert file.read()["id"].to_pylist() == [*map(str, range(21)), "20", "0", "1"]


def test_a_batch_has_no_rows_of_two_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(canonical, "ROWS", 2)
    with canonical.row_writer(tmp_path / "rows.parquet") as writer:
        for number in range(5):
            writer.write(to_row(Record(f"{number}", [])))
    assert [len(batch) for batch in canonical.read_batches(tmp_path / "rows.parquet", rows=10)] == [2, 2, 1]


def test_a_line_of_a_split_is_the_json_of_its_record():
    records, texts = [], ['dit "été"\n\u2028\\', "⚽", "", "\x00\x08\x0c\x1f\x7f\r\t"]
    for number, text in enumerate(texts):
        messages = [{"role": "user", "content": text}, {"role": "assistant", "content": "⚽"}]
        values = {"spans": [], "label": text, "group": "g\t", "meta": {"a": [1.5, None, True]}} if number % 2 else {}
        records.append(Record("0" * 16, messages, text, **values, origin="a b.jsonl:1"))
    expected = [json.dumps(record.to_row(), ensure_ascii=False) for record in records]
    batch = batch_of([to_row(record) for record in records])
    for start in range(len(records)):
        for part in (slice(start, start + 1), slice(start, None)):
            lines = json_lines(batch[part]).to_pylist()
            assert lines == [f"{line}\n" for line in expected[part]]
    assert [from_row(to_row(record)) for record in records] == records
