"""Raw data is read in a stream, whatever its format and compression, and each record knows its line."""

import csv
import gzip
import io
import json
from pathlib import Path

import pyarrow
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

from scripts.common.errors import UserError
from scripts.dataset import raw_files, read_hub
from scripts.dataset.ingest_records import read_rows

TEXT_KINDS = ("json", "jsonl", "csv", "tsv")
COMPRESSIONS = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}
TEXTS = [
    "Tir de Jovanic, arrêté.",
    'Il crie « but » et dit "oui", puis\tse tait.',
    "Bảy tuần sau,\ncát bỗng động đậy.",
    "⚽ 90'+3, \\ et / ; fin [ } ] {",
    "",
    "x" * 5000,
]
RECORDS = [{"id": str(number), "text": text, "note": f"{number}, {text[:9]}"} for number, text in enumerate(TEXTS * 7)]


def encoded(kind: str, records: list[dict]) -> bytes:
    if kind == "json":
        return json.dumps(records, ensure_ascii=False, indent=1).encode()
    if kind == "jsonl":
        return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
    if kind == "parquet":
        sink = pyarrow.BufferOutputStream()
        parquet.write_table(pyarrow.Table.from_pylist(records), sink, row_group_size=10)
        return sink.getvalue().to_pybytes()
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), delimiter="," if kind == "csv" else "\t")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue().encode()


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("kind", [*TEXT_KINDS, "parquet"])
def test_streaming_gives_what_was_written_wherever_a_piece_ends(kind: str, compression: str, tmp_path, monkeypatch):
    path = tmp_path / f"raw.{kind}{compression}"
    path.write_bytes(COMPRESSIONS[compression](encoded(kind, RECORDS)))
    for size in (16, 64, 2**18):
        monkeypatch.setattr(raw_files, "CHUNK", size)
        rows = list(read_rows(path))
        assert [row.record for row in rows] == RECORDS
        assert len({row.origin for row in rows}) == len(rows)


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_the_data(kind: str, tmp_path: Path):
    records = [{"id": "1", "text": "a"}, {"id": "2", "text": "b"}]
    path = tmp_path / f"raw.{kind}"
    path.write_bytes(b"\xef\xbb\xbf" + encoded(kind, records).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    assert [row.record for row in read_rows(path)] == records


@pytest.mark.parametrize(("name", "content"), [("raw.jsonl", "%s\n"), ("raw.json", "[%s]")])
def test_a_number_that_64_bits_can_not_hold_is_null(name: str, content: str, tmp_path: Path):
    path = tmp_path / name
    path.write_text(content % '{"a": 1e400, "b": [-1e400, 1.5]}', encoding="utf-8")
    assert [row.record for row in read_rows(path)] == [{"a": None, "b": [None, 1.5]}]


@pytest.mark.parametrize("compression", [".gz", ".zst"])
def test_files_of_several_members_are_read_to_the_end(compression: str, tmp_path: Path):
    path, compress = tmp_path / f"raw.jsonl{compression}", COMPRESSIONS[compression]
    path.write_bytes(compress(b'{"n": 1}\n{"n"') + compress(b": 2}\n") + compress(b'{"n": 3}'))
    assert [row.record["n"] for row in read_rows(path)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("name", "content", "lines"),
    [
        ("raw.json", b'[\n\n  {"a": 1},\n  {"a":\n 2}\n, {"a": 3}]\n', ["3", "4", "6"]),
        ("raw.json", b'[{"a": 1}, {"a": 2},\n{"a": 3}]', ["1", "1#2", "2"]),
        ("raw.jsonl", b'\n{"a": 1}\n\n{"a": 2}\n{"a": 3}', ["2", "4", "5"]),
        ("raw.csv", b'a,b\n1,"x\ny"\n\n2,z\n3,w\n', ["2", "5", "6"]),
    ],
)
def test_origin_is_the_line_on_which_a_record_starts(name: str, content: bytes, lines: list[str], tmp_path: Path):
    path = tmp_path / name
    path.write_bytes(content)
    assert [row.origin for row in read_rows(path)] == [f"{path}:{line}" for line in lines]


CHARACTERS = st.characters(codec="utf-8")
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(CHARACTERS, max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=3), inner),
    max_leaves=6,
)
RECORD = st.dictionaries(st.text(CHARACTERS, max_size=5), VALUES, max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(records=st.lists(RECORD, max_size=6), indent=st.none() | st.integers(0, 3), size=st.integers(1, 50))
def test_any_json_array_is_read_as_the_standard_library_reads_it(records, indent, size, tmp_path_factory, monkeypatch):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(records, ensure_ascii=False, indent=indent), encoding="utf-8")
    monkeypatch.setattr(raw_files, "CHUNK", size)
    assert [row.record for row in read_rows(path)] == records


HUB = {"id": "org/name", "revision": "0123456789abcdef0123456789abcdef01234567", "name": "fr", "split": "train"}


def test_hub_rows_are_streamed_at_the_pinned_revision_and_an_unknown_split_is_one_line(tmp_path: Path, monkeypatch):
    import datasets

    (tmp_path / "train.jsonl").write_bytes(encoded("jsonl", RECORDS))
    with pytest.raises(UserError, match=r"^org/name@0123/none: can't be read: ValueError: .*; check 'hub' \(id, "):
        list(read_hub.streamed(str(tmp_path), "org/name@0123/none", split="none"))
    asked = {}

    def remember(source, **arguments):
        asked.update(arguments, id=source)
        return iter([{"text": "a", "image": Image.new("RGB", (2, 2)), "bytes": b"abc"}])

    monkeypatch.setattr(datasets, "load_dataset", remember)
    monkeypatch.chdir(tmp_path)
    (row,) = read_hub.read_hub_rows(HUB)
    assert asked == {**HUB, "streaming": True}
    assert row.origin == "org/name@0123456789ab/train:1"
    assert row.record == {"text": "a", "image": "(Image)", "bytes": "(3 bytes)"}
    Path("org/name").mkdir(parents=True)
    with pytest.raises(UserError, match="the folder 'org/name' hides the hub dataset"):
        list(read_hub.read_hub_rows(HUB))
