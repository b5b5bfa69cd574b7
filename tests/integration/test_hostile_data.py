"""Hostile raw data: a record without end, a bomb, a path or text that means something to a page or a terminal.

Through the steps of the dataset stage. Images that leave their folder: test_dataset_images.py; templates of the
configuration: test_dataset_sandbox.py; pages of scores: test_score_pages.py; Modelfiles: test_deploy_modelfile.py.
"""

import gzip
import hashlib
import json
import resource
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pyarrow
import pytest
import zstandard
from pyarrow import parquet

from scripts.common.errors import UserError
from scripts.dataset.raw_files import decompressed
from tests.support.dataset_steps import Stage, chat, settings_of, write_lines

ROOT = Path(__file__).resolve().parents[2]
TEN_GB = 10 * 10**9
PIECE = b"a" * 2**20
MEMORY = 2 * 2**30
MARKUP = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'><svg onload=alert(1)>{{ 7 * 7 }}</textarea><!--"


class Tags(HTMLParser):
    """What a browser would take for tags, attributes and text."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.text = set(), set(), ""

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.text += data


def plain(path: Path, start: bytes) -> None:
    """Write a file of 10 GB, one line, that takes no room: the rest is a hole."""
    with open(path, "wb") as file:
        file.write(start + PIECE)
        file.truncate(TEN_GB)


def gzipped(path: Path, start: bytes) -> None:
    """Write a gzip file that unpacks to 10 GB: many members of the same content."""
    member = gzip.compress(PIECE * 64, 9)
    with open(path, "wb") as file:
        file.write(gzip.compress(start))
        for _ in range(TEN_GB // len(PIECE) // 64):
            file.write(member)


def zstandarded(path: Path, start: bytes) -> None:
    """Write a Zstandard file that unpacks to 10 GB."""
    frame = zstandard.ZstdCompressor().compress(PIECE * 64)
    with open(path, "wb") as file:
        file.write(zstandard.compress(start))
        for _ in range(TEN_GB // len(PIECE) // 64):
            file.write(frame)


STARTS = {
    "jsonl": b'{"prompt": "',
    "json": b'[{"prompt": "',
    "csv": b'prompt,completion\na,"',
    "tsv": b"prompt\tcompletion\na\t",
}
WRITERS = {"": plain, ".gz": gzipped, ".zst": zstandarded}
STEP = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({memory}, {memory}))
from scripts.dataset import ingest_records
sys.exit(ingest_records.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("kind", STARTS)
def test_a_line_of_ten_gigabytes_is_refused_soon_and_in_little_memory(kind: str, suffix: str, tmp_path):
    raw = tmp_path / f"raw.{kind}{suffix}"
    WRITERS[suffix](raw, STARTS[kind])
    settings = json.dumps(settings_of(format="prompt_completion"))
    named = {"records": "r.parquet", "quarantine": "q.jsonl", "counts": "c.json"}
    options = [word for name, file in named.items() for word in (f"--{name}", str(tmp_path / file))]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", STEP.format(memory=MEMORY), str(raw), "--settings", settings, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 1, done.stderr
    said = [line for line in done.stderr.splitlines() if " INFO reading " not in line]  # a slow machine shows progress
    # The hole of the plain file is NUL characters, at which JSON ends at once.
    refused = "Invalid control character" if (kind, suffix) == ("json", "") else "a record is longer than 64 MiB"
    assert len(said) == 1
    assert refused in said[0]
    assert after.ru_utime - before.ru_utime < 300  # seconds; to read it all takes far longer
    assert not (tmp_path / "r.parquet").exists()


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Stage:
    monkeypatch.chdir(tmp_path)
    return Stage(tmp_path, settings_of(format="prompt_completion"), capsys)


def test_a_huge_cell_of_a_parquet_file_is_refused(stage: Stage):
    table = pyarrow.table({"prompt": ["a", "x" * 80 * 2**20], "completion": ["b", "c"]})
    parquet.write_table(table, "raw.parquet", compression="zstd", use_dictionary=False)
    assert stage.ingest(Path("raw.parquet")) == 1
    assert stage.error().startswith("raw.parquet:2: a record is longer than 64 MiB")
    parquet.write_table(table.slice(1), "raw.parquet", compression="zstd", use_dictionary=False)
    assert stage.ingest(Path("raw.parquet")) == 1
    assert stage.error().startswith("raw.parquet:1: a record is longer than 64 MiB")


def test_a_bomb_around_a_parquet_file_does_not_fill_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("scripts.dataset.raw_files.COPIED", 2**24)
    path = tmp_path / "raw.parquet.gz"
    gzipped(path, b"PAR1")
    with pytest.raises(UserError, match="unpacks to more than 100 times its size"), decompressed(path):
        pass


def test_text_of_the_data_is_never_markup_on_the_ledger(stage: Stage):
    noise = [hashlib.sha512(str(i).encode()).hexdigest() * 3 for i in range(30)]
    records = [chat(f"{MARKUP} {each}", f"{MARKUP} {each[::-1]}", topic=MARKUP) for each in noise]
    write_lines(Path("raw.jsonl"), [*records, {"messages": MARKUP, "topic": MARKUP}])
    stage.settings = settings_of(
        format="messages", label="topic", on_bad_record="quarantine", stratify=False,
        splits={"train": 0.8, "validation": 0, "test": 0.2},
    )  # fmt: skip
    stage.run(Path("raw.jsonl"))
    text = (stage.folder / "ledger.html").read_text(encoding="utf-8")
    page = Tags()
    page.feed(text)
    assert not {"script", "img", "textarea"} & page.tags
    assert not {name for name in page.attributes if name.startswith("on")}
    assert "alert(1)" in page.text


@pytest.mark.parametrize(
    ("role", "shown"),
    [
        ("\x1b[2J\x1b]0;owned\x07", r"\x1b[2J\x1b]0;owned\x07"),
        ("x\nraw.jsonl:1: all is well", r"x\nraw.jsonl:1: all is well"),
        ("\u202eevil\r", r"\u202eevil\r"),
        ("\x9b31m\u2028", r"\x9b31m\u2028"),
    ],
)
def test_what_a_terminal_would_obey_is_spelled_out_in_messages(stage: Stage, role: str, shown: str):
    stage.settings = settings_of()
    write_lines(Path("raw.jsonl"), [{"messages": [{"role": role, "content": "a"}]}])
    assert stage.ingest(Path("raw.jsonl")) == 1
    lines = stage.error().splitlines()
    assert lines[0].startswith(f"raw.jsonl:1: messages[0] has the role '{shown}'")
    assert len(lines) == 1
    assert all(line.isprintable() for line in lines)


def test_names_of_columns_and_files_are_spelled_out_too(stage: Stage):
    write_lines(Path("a\x1b[31m.jsonl"), [{"\x1b[2Jx\ny": "a"}])
    assert stage.ingest(Path("a\x1b[31m.jsonl")) == 1
    lines = stage.error().splitlines()
    assert lines[0].startswith(r"a\x1b[31m.jsonl:1: has no 'prompt'; it has \x1b[2Jx\ny")
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("depth", [1000, 100_000])
def test_json_nested_without_end_is_refused(stage: Stage, depth: int):
    for text in ("[" * depth, '{"a":' * depth, "[" * depth + "]" * depth):
        Path("raw.jsonl").write_text('{"prompt": "a", "completion": "b", "x": ' + text + "}\n", encoding="utf-8")
        begun = time.process_time()
        assert stage.ingest(Path("raw.jsonl")) == 1
        assert stage.error().startswith("raw.jsonl:1: is n")
        assert time.process_time() - begun < 10


def test_white_space_without_end_is_refused(stage: Stage, monkeypatch):
    monkeypatch.setattr("scripts.dataset.read_json.MAX_RECORD", 2**20)
    Path("raw.json").write_bytes(b" " * 2**22)
    assert stage.ingest(Path("raw.json")) == 1
    assert "a record is longer than" in stage.error()


def test_a_file_that_is_none_of_its_format_is_not_quoted_in_the_error(stage: Stage):
    Path("secret").write_text("root:x:0:0\n", encoding="utf-8")
    Path("raw.jsonl").symlink_to("secret")
    assert stage.ingest(Path("raw.jsonl")) == 1
    error = stage.error()
    assert error.startswith("raw.jsonl:1: is not valid JSON")
    assert "root:" not in error
