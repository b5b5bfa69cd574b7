"""Hostile raw data: a record without end, a bomb, a path or text that means something to a page or a terminal.

Through the steps of the dataset stage. Images that leave their folder: test_dataset_images.py; templates of the
configuration: test_dataset_sandbox.py; pages of scores: test_score_pages.py; Modelfiles: test_deploy_modelfile.py.
"""

import gzip
import hashlib
import json
import os
import subprocess
import sys
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


HUGE = {"raw.jsonl": b'{"prompt": "', "raw.json.gz": b'[{"prompt": "', "raw.csv.zst": b'prompt,completion\na,"'}


@pytest.mark.parametrize("name", HUGE)
def test_a_line_of_gigabytes_is_refused_in_little_memory(name, tmp_path):
    write_huge(tmp_path / name, HUGE[name])
    words = ["--name", "huge", "--records", "r.parquet", "--quarantine", "q.jsonl", "--counts", "c.json", "--settings"]
    command = [sys.executable, "-c", STEP, name, *words, json.dumps(settings_of(format="prompt_completion"))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
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


def test_text_of_the_data_is_never_markup_on_the_ledger(stage):
    noise = [hashlib.sha512(str(i).encode()).hexdigest() * 3 for i in range(30)]
    records = [chat(f"{MARKUP} {each}", f"{MARKUP} {each[::-1]}", topic=MARKUP) for each in noise]
    write_lines(Path("raw.jsonl"), [*records, {"messages": MARKUP, "topic": MARKUP}])
    splits = {"train": 0.8, "validation": 0, "test": 0.2}
    stage.settings = settings_of(label="topic", on_bad_record="quarantine", stratify=False, splits=splits)
    stage.run(Path("raw.jsonl"))
    tags, page = [], HTMLParser()
    page.handle_starttag = lambda tag, attributes: tags.extend([tag, *(name for name, _ in attributes)])
    text = (stage.folder / "ledger.html").read_text(encoding="utf-8")
    page.feed(text)
    assert not [tag for tag in tags if tag in ("script", "img", "textarea") or tag.startswith("on")]
    assert "&lt;script&gt;alert(1)" in text


@pytest.mark.parametrize("text", ["\x1b[2J\x1b]0;owned\x07", "x\na:1: all is well", "\u202eevil\r", "\x9b31m\u2028"])
def test_what_a_terminal_would_obey_is_spelled_out_in_messages(stage, text):
    stage.settings, file = settings_of(), Path("a\x1b[31m.jsonl")
    shown = ascii(text).strip("'")
    for record, fault in (
        ({"messages": [{"role": text, "content": "a"}]}, f"messages[0] has the role '{shown}'"),
        ({text: "a"}, f"has no 'messages'; it has {shown}"),
    ):
        assert stage.ingest(write_lines(file, [record])) == 1
        [line] = stage.error().splitlines()
        assert line.startswith(rf"a\x1b[31m.jsonl:1: {fault}")
        assert line.isprintable()


def test_a_file_that_is_not_of_its_format_is_not_quoted_in_the_error(stage):
    Path("secret").write_text("root:x:0:0\n", encoding="utf-8")
    Path("raw.jsonl").symlink_to("secret")
    assert stage.ingest(Path("raw.jsonl")) == 1
    error = stage.error()
    assert error.startswith("raw.jsonl:1: is not valid JSON")
    assert "root:" not in error
