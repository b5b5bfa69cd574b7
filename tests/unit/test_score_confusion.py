"""The confusion matrix as table and picture."""

import csv
import json
import re
from pathlib import Path
from xml.etree import ElementTree

from scripts.score.draw_confusion import main
from scripts.score.score_answers import main as score
from tests.support.entity_answers import LABELS, entity_answers, text_row
from tests.support.score_fixtures import SCORE, answer_rows, write_rows


def scored(folder: Path, rows: list[dict]) -> Path:
    """Score answers; return the scores."""
    answers = write_rows(folder / "answers.jsonl", rows)
    known = write_rows(folder / "likelihood.jsonl", [])
    words = [answers, known, "--run", "pii", "--variant", "merged", "--scores", folder / "scores.json"]
    given = json.dumps({"language": None, "score": SCORE})
    assert score([*map(str, words), "--errors", f"{folder}/errors.jsonl", "--settings", given]) == 0
    return folder / "scores.json"


def drawn(folder: Path, scores: Path) -> tuple[Path, Path]:
    """Draw the matrix; return table and picture."""
    table, picture = folder / "matrix.csv", folder / "matrix.svg"
    assert main([str(scores), "--table", str(table), "--picture", str(picture)]) == 0
    return table, picture


def test_the_table_has_a_line_per_class_and_counts_every_word(tmp_path):
    rows = entity_answers(30, wrong=0.5)
    table, _ = drawn(tmp_path, scored(tmp_path, rows))
    with open(table, encoding="utf-8", newline="") as file:
        header, *lines = csv.reader(file)
    assert header[1:] == [line[0] for line in lines] == [*LABELS, "O"]
    counts = [[int(cell) for cell in line[1:]] for line in lines]
    row = counts[header.index("EMAIL") - 1]
    emails = sum(len(re.findall(r"\w+|[^\w\s]", f"{index}@x.org")) for index in range(30))
    assert sum(row) == emails
    assert row[header.index("EMAIL") - 1] < emails


def test_the_picture_names_classes_and_counts_and_is_the_same_each_time(tmp_path):
    scores = scored(tmp_path, entity_answers(30, wrong=0.5))
    _, picture = drawn(tmp_path, scores)
    first = picture.read_bytes()
    root = ElementTree.fromstring(first)
    texts = {"".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {*LABELS, "O", "found class", "pii, merged: words of 30 records"} <= texts
    matrix = json.loads(scores.read_text(encoding="utf-8"))["entities"]["confusion"]
    assert {str(count) for row in matrix["counts"] for count in row if 0 < count < 1000} <= texts
    drawn(tmp_path, scores)
    assert picture.read_bytes() == first


def test_class_names_are_text_and_neither_markup_nor_formula(tmp_path):
    rows = [text_row("Anna in Oslo", [[0, 4, "<script>"], [8, 12, "$\\frac{"]], [[0, 4, "a,b"]])]
    table, picture = drawn(tmp_path, scored(tmp_path, rows))
    assert "<script>" not in picture.read_text(encoding="utf-8")
    assert "&lt;script&gt;" in picture.read_text(encoding="utf-8")
    with open(table, encoding="utf-8", newline="") as file:
        lines = list(csv.reader(file))
    assert lines[0][1:] == ["$\\frac{", "<script>", "O", "(other)"]
    assert lines[2] == ["<script>", "0", "0", "0", "1"]


def test_records_without_spans_have_none(tmp_path, capfd):
    scores = scored(tmp_path, answer_rows("fr"))
    assert main([str(scores), "--table", f"{tmp_path}/a.csv", "--picture", f"{tmp_path}/a.svg"]) == 1
    assert "has no entities: its records have no spans" in capfd.readouterr().err
