"""The confusion matrix as table and picture."""

import csv
import re
from pathlib import Path
from xml.etree import ElementTree

from scripts.score.draw_confusion import main
from tests.support.entity_answers import LABELS, entity_answers, text_row
from tests.support.score_fixtures import scored


def drawn(folder: Path) -> tuple[list[list[str]], str]:
    """Draw the matrix of scores; return table and picture."""
    table, picture = folder / "matrix.csv", folder / "matrix.svg"
    assert main([f"{folder}/scores.json", "--table", str(table), "--picture", str(picture)]) == 0
    with open(table, encoding="utf-8", newline="") as file:
        return list(csv.reader(file)), picture.read_text(encoding="utf-8")


def test_table_and_picture_have_every_class_and_word_and_are_the_same_each_time(tmp_path):
    rows = entity_answers(30, wrong=0.5)
    matrix = scored(tmp_path, rows, language=None)["entities"]["confusion"]
    words = [re.findall(r"\w+|[^\w\s]", row["messages"][0]["content"]) for row in rows]
    assert sum(map(sum, matrix["counts"])) == sum(map(len, words))
    (header, *lines), picture = drawn(tmp_path)
    assert header[1:] == [line[0] for line in lines] == [*LABELS, "O"]
    row = [int(cell) for cell in lines[header.index("EMAIL") - 1][1:]]
    assert sum(row) == sum(len(re.findall(r"\w+|[^\w\s]", f"{index}@x.org")) for index in range(30))
    assert row[header.index("EMAIL") - 1] < sum(row)
    root = ElementTree.fromstring(picture)
    texts = {"".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {*LABELS, "O", "found class", "r, v: words of 30 records"} <= texts
    assert {str(count) for row in matrix["counts"] for count in row if 0 < count < 1000} <= texts
    assert drawn(tmp_path)[1] == picture


def test_class_names_are_text_and_neither_markup_nor_formula(tmp_path):
    scored(tmp_path, [text_row("Anna in Oslo", [[0, 4, "<script>"], [8, 12, "$\\frac{"]], [[0, 4, "a,b"]])])
    lines, picture = drawn(tmp_path)
    assert "<script>" not in picture
    assert "&lt;script&gt;" in picture
    assert lines[0][1:] == ["$\\frac{", "<script>", "O", "(other)"]
    assert lines[2] == ["<script>", "0", "0", "0", "1"]
