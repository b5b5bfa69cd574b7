"""Hostile raw data: a record without end, a bomb, a path or text that means something to a page or a terminal.

Through the steps of the dataset stage. Images that leave their folder: test_dataset_images.py; templates of the
configuration: test_dataset_sandbox.py; pages of scores: test_score_pages.py; Modelfiles: test_deploy_modelfile.py.
"""

import gzip
import hashlib
import json
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
from tests.support.project import ROOT

SIZE, MEMORY = 4 * 2**30, 2 * 2**30  # bytes
PIECE = b"a" * 2**26
MARKUP = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'><svg onload=alert(1)>{{ 7 * 7 }}</textarea><!--"
STEP = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}))
from scripts.dataset import ingest_records
sys.exit(ingest_records.main(sys.argv[1:]))
"""


def write_huge(path: Path, start: bytes) -> None:
    """Write a file that unpacks to one line of more than SIZE bytes and takes little room."""
    pack = {".gz": gzip.compress, ".zst": zstandard.compress}.get(path.suffix)
    with open(path, "wb") as file:
        if pack is None:
            file.write(start + PIECE)
            file.truncate(SIZE)  # the rest is a hole
        else:
            file.write(pack(start) + pack(PIECE) * (SIZE // len(PIECE)))


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("raw.jsonl", b'{"prompt": "'),
        ("raw.json.gz", b'[{"prompt": "'),
        ("raw.csv.zst", b'prompt,completion\na,"'),
        ("raw.tsv", b"prompt\tcompletion\na\t"),
    ],
)
def test_a_line_of_gigabytes_is_refused_in_little_memory(name, start, tmp_path):
    write_huge(tmp_path / name, start)
    settings = json.dumps(settings_of(format="prompt_completion"))
    named = {"records": "r.parquet", "quarantine": "q.jsonl", "counts": "c.json"}
    options = [word for option, file in named.items() for word in (f"--{option}", str(tmp_path / file))]
    command = [sys.executable, "-c", STEP, str(tmp_path / name), "--settings", settings, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    [said] = [line for line in done.stderr.splitlines() if " INFO reading " not in line]  # a slow machine's progress
    assert "a record is longer than 64 MiB" in said
    assert not (tmp_path / "r.parquet").exists()


@pytest.fixture
def stage(tmp_path, monkeypatch, capsys) -> Stage:
    monkeypatch.chdir(tmp_path)
    return Stage(tmp_path, settings_of(format="prompt_completion"), capsys)


def test_a_huge_cell_of_a_parquet_file_is_refused(stage):
    table = pyarrow.table({"prompt": ["a", "x" * 80 * 2**20], "completion": ["b", "c"]})
    for first, line in ((0, 2), (1, 1)):
        parquet.write_table(table.slice(first), "raw.parquet", compression="zstd", use_dictionary=False)
        assert stage.ingest(Path("raw.parquet")) == 1
        assert stage.error().startswith(f"raw.parquet:{line}: a record is longer than 64 MiB")


def test_a_bomb_around_a_parquet_file_does_not_fill_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("scripts.dataset.raw_files.COPIED", 2**24)
    write_huge(tmp_path / "raw.parquet.gz", b"PAR1")
    with pytest.raises(UserError, match="unpacks to more than 100 times its size"):
        decompressed(tmp_path / "raw.parquet.gz").__enter__()


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


def test_text_of_the_data_is_never_markup_on_the_ledger(stage):
    noise = [hashlib.sha512(str(i).encode()).hexdigest() * 3 for i in range(30)]
    records = [chat(f"{MARKUP} {each}", f"{MARKUP} {each[::-1]}", topic=MARKUP) for each in noise]
    write_lines(Path("raw.jsonl"), [*records, {"messages": MARKUP, "topic": MARKUP}])
    splits = {"train": 0.8, "validation": 0, "test": 0.2}
    stage.settings = settings_of(label="topic", on_bad_record="quarantine", stratify=False, splits=splits)
    stage.run(Path("raw.jsonl"))
    page = Tags()
    page.feed((stage.folder / "ledger.html").read_text(encoding="utf-8"))
    assert not {"script", "img", "textarea"} & page.tags
    assert not {name for name in page.attributes if name.startswith("on")}
    assert "alert(1)" in page.text


def message(role: str) -> dict:
    return {"messages": [{"role": role, "content": "a"}]}


@pytest.mark.parametrize(
    ("name", "record", "shown"),
    [
        ("a", message("\x1b[2J\x1b]0;owned\x07"), r"a:1: messages[0] has the role '\x1b[2J\x1b]0;owned\x07'"),
        ("a", message("x\na:1: all is well"), r"a:1: messages[0] has the role 'x\na:1: all is well'"),
        ("a", message("\u202eevil\r"), r"a:1: messages[0] has the role '\u202eevil\r'"),
        ("a", message("\x9b31m\u2028"), r"a:1: messages[0] has the role '\x9b31m\u2028'"),
        ("a\x1b[31m", {"\x1b[2Jx\ny": "a"}, r"a\x1b[31m:1: has no 'messages'; it has \x1b[2Jx\ny"),
    ],
)
def test_what_a_terminal_would_obey_is_spelled_out_in_messages(stage, name, record, shown):
    stage.settings = settings_of()
    file = write_lines(Path(f"{name}.jsonl"), [record])
    assert stage.ingest(file) == 1
    [line] = stage.error().splitlines()
    assert line.replace(".jsonl", "").startswith(shown)
    assert line.isprintable()


@pytest.mark.parametrize("depth", [1000, 100_000])
def test_json_nested_without_end_is_refused(stage, depth):
    for text in ("[" * depth, '{"a":' * depth, "[" * depth + "]" * depth):
        Path("raw.jsonl").write_text('{"prompt": "a", "completion": "b", "x": ' + text + "}\n", encoding="utf-8")
        begun = time.process_time()
        assert stage.ingest(Path("raw.jsonl")) == 1
        assert stage.error().startswith("raw.jsonl:1: is n")
        assert time.process_time() - begun < 10


def test_white_space_without_end_is_refused(stage, monkeypatch):
    monkeypatch.setattr("scripts.dataset.read_json.MAX_RECORD", 2**20)
    Path("raw.json").write_bytes(b" " * 2**22)
    assert stage.ingest(Path("raw.json")) == 1
    assert "a record is longer than" in stage.error()


def test_a_file_that_is_not_of_its_format_is_not_quoted_in_the_error(stage):
    Path("secret").write_text("root:x:0:0\n", encoding="utf-8")
    Path("raw.jsonl").symlink_to("secret")
    assert stage.ingest(Path("raw.jsonl")) == 1
    error = stage.error()
    assert error.startswith("raw.jsonl:1: is not valid JSON")
    assert "root:" not in error
