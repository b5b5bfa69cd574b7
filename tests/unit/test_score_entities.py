"""Entities found in texts: scores equal to those of a second implementation, errors by kind, tables by class."""

import csv
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from scripts.common.files import read_jsonl
from scripts.score.draw_confusion import main as draw_confusion
from scripts.score.entity_errors import KINDS, errors_of, matched
from scripts.score.entity_rows import OUTSIDE, EntityRow, entity_row, word_labels, words_of
from scripts.score.entity_tables import class_table
from scripts.score.intervals import difference, interval
from scripts.score.measure import measured
from scripts.score.metrics import METRICS
from scripts.score.scoring_input import NotApplicableError, ScoringInput
from tests.support.entity_answers import LABELS, entity_answers, random_rows, text_row
from tests.support.score_fixtures import scored

ENTITY_METRICS = [name for name in METRICS if name.startswith(("entity_", "token_"))]
ANNA = text_row("Anna wrote", [[0, 4, "PERSON"]], None)


def value(metric: str, rows: list[dict]) -> float:
    return interval(METRICS[metric].statistic, measured(metric, ScoringInput(rows)).rows).value


def f1(gold: set, found: set, label: str | None = None) -> float:
    """Return F1 by its definition, from places with their labels; of one class, or of all."""
    mine, theirs = ({each for each in side if label in (None, each[-1])} for side in (gold, found))
    return 2 * len(mine & theirs) / (len(mine) + len(theirs))


def second_opinion(rows: list[dict]) -> dict[str, float]:
    """Return the scores computed in another way: position by position, without any sums by record."""
    sides = {}
    for key in ("spans", "entities"):
        entities, words = set(), set()
        for number, row in enumerate(rows):
            text = row["messages"][-1]["content"]
            owner = [OUTSIDE] * len(text)
            for start, end, label, *_ in row[key]:
                entities.add((number, start, end, label))
                owner[start:end] = [label] * (end - start)
            words |= {(number, word, owner[text.index(word)]) for word in text.split()}
        sides[key] = entities, {word for word in words if word[-1] != OUTSIDE}
    (gold, gold_words), (found, found_words) = sides.values()
    classes = {label: f1(gold, found, label) for *_, label in gold}
    of_words = {label: f1(gold_words, found_words, label) for *_, label in gold_words}
    return {
        "entity_f1": f1(gold, found),
        "entity_precision": len(gold & found) / len(found),
        "entity_recall": len(gold & found) / len(gold),
        "entity_f1_macro": sum(classes.values()) / len(classes),
        "token_f1_micro": f1(gold_words, found_words),
        "token_f1_macro": sum(of_words.values()) / len(of_words),
        "token_f1_weighted": sum(of_words[label] for *_, label in gold_words) / len(gold_words),
    }


@pytest.mark.parametrize("seed", range(6))
def test_scores_equal_those_of_a_second_implementation_for_a_classifier_and_for_json(seed):
    rows = random_rows(seed, 20)
    written = [{key: item for key, item in row.items() if key != "entities"} for row in rows]
    expected = pytest.approx(second_opinion(rows), abs=1e-12)
    assert {metric: value(metric, rows) for metric in ENTITY_METRICS} == expected
    assert {metric: value(metric, written) for metric in ENTITY_METRICS} == expected
    assert value("parsed", written) == 1
    for metric in ("parsed", "bleu"):
        with pytest.raises(NotApplicableError, match="a classifier writes no text"):
            measured(metric, ScoringInput(rows))
    assert measured("exact_match", ScoringInput(rows)).rows


def test_entities_that_the_text_does_not_hold_are_false_positives():
    named = [{"label": "PERSON", "text": "Anna"}, {"label": "CITY", "text": "Paris"}, {"label": "CITY", "text": "Oslo"}]
    row = ANNA | {"answer": json.dumps(named)}
    assert measured("entity_f1", ScoringInput([row])).rows == [[1, 2, 0]]
    assert value("parsed", [row]) == 1
    assert value("entity_f1_macro", [row]) == 1  # CITY is no class of the expected answers
    kinds = [(error["kind"], error["predicted"]) for error in errors_of(entity_row(row))]
    assert kinds == [("not_in_text", {"label": "CITY", "text": text}) for text in ("Oslo", "Paris")]


NO_JSON = ("", "none", '{"label": "PERSON"}', '[{"label": "A", "text": "b"}] ok', "[1]", f"[{'9' * 5000}]", "[" * 99999)


def test_an_answer_that_is_no_json_of_entities_finds_nothing():
    for answer in NO_JSON:
        row = ANNA | {"answer": answer}
        assert measured("entity_f1", ScoringInput([row])).rows == [[0, 0, 1]]
        assert value("parsed", [row]) == 0
        assert [error["kind"] for error in errors_of(entity_row(row))] == ["invalid_json", "missed"]


def test_records_without_spans_have_no_scores_of_entities():
    plain = {key: item for key, item in ANNA.items() if key != "spans"}
    for metric in [*ENTITY_METRICS, "parsed"]:
        with pytest.raises(NotApplicableError, match="no spans"):
            measured(metric, ScoringInput([plain]))
    assert measured("entity_f1", ScoringInput([ANNA, plain])).rows[1] is None
    with pytest.raises(NotApplicableError, match="no record has an entity"):
        measured("entity_f1_macro", ScoringInput([ANNA | {"spans": [], "expected": "[]"}]))


def test_the_text_of_a_rewritten_question_is_the_rows_own():
    row = ANNA | {"messages": [{"role": "user", "content": "Find names in: Anna wrote"}]}
    assert entity_row(row | {"text": "Anna wrote"}).found == [(0, 4, "PERSON")]


def test_words_are_of_letters_and_digits_marks_stand_alone_and_so_do_characters_of_scripts_without_spaces():
    texts = {
        "l'été, +33 6 (a_b@c.fr)": "l ' été , + 33 6 ( a_b @ c . fr )",
        "e\u0301te\u0301 क्षेत्र": "e\u0301te\u0301 क्षेत्र",
        "東京 is ไทย": "東 京 is ไ ท ย",
    }
    assert {text: " ".join(text[start:end] for start, end in words_of(text)) for text in texts} == texts


def test_a_word_has_the_label_of_the_span_with_most_of_it():
    words = words_of("abcdef gh")
    assert word_labels(words, [(0, 2, "X"), (2, 6, "Y")]) == ["Y", OUTSIDE]
    assert word_labels(words, [(5, 8, "X")]) == ["X", "X"]
    assert word_labels(words, [(6, 7, "X")]) == [OUTSIDE, OUTSIDE]


def test_errors_are_matched_one_to_one_by_what_they_share():
    gold = [(0, 9, "PERSON"), (12, 20, "CITY"), (30, 35, "DATE"), (40, 50, "EMAIL")]
    found = [(0, 4, "PERSON"), (5, 9, "PERSON"), (12, 20, "ORG"), (40, 50, "EMAIL"), (60, 65, "DATE")]
    errors = errors_of(EntityRow("x" * 80, gold, found, [], True))
    assert [(error["kind"], error["gold"] and error["gold"]["start"]) for error in errors] == [
        ("wrong_boundary", 0), ("false_positive", None), ("wrong_type", 12), ("missed", 30), ("false_positive", None),
    ]  # fmt: skip
    for row in map(entity_row, random_rows(0, 50)):
        pairs = matched(row.gold, row.found)
        assert sorted(right for right, _ in pairs if right) == sorted(set(row.gold) - set(row.found))
        assert sorted(ours for _, ours in pairs if ours) == sorted(set(row.found) - set(row.gold))


def test_the_table_of_classes_has_scores_with_intervals():
    rows = list(map(entity_row, random_rows(7, 30)))
    table = class_table(rows)
    assert list(table) == list(LABELS)
    for label, scores in table.items():
        hits = sum(row.strict.get(label, [0, 0, 0])[0] for row in rows)
        assert scores["support"] == sum(span[2] == label for row in rows for span in row.gold)
        assert scores["precision"]["value"] == pytest.approx(hits / scores["found"])
        assert scores["recall"]["value"] == pytest.approx(hits / scores["support"])
        assert scores["f1"]["value"] == pytest.approx(2 * hits / (scores["found"] + scores["support"]))
        assert 0 <= scores["f1"]["low"] < scores["f1"]["value"] < scores["f1"]["high"] <= 1
    unknown = class_table([EntityRow("Anna", [(0, 4, "PERSON")], [], [], True)] * 3)["PERSON"]
    assert (unknown["precision"], unknown["recall"]["value"]) == (None, 0)
    assert class_table([EntityRow("Rien.", [], [], [], True)] * 3) == {}


def test_perfect_records_do_not_prove_perfection():
    perfect = [[3, 0, 0]] * 10
    low, high = interval("f1", perfect).limits()
    assert high == 1
    assert 0.025 ** (1 / 10) < low < 0.025 ** (1 / 30)  # 30 entities, in no more than 10 records
    assert interval("f1_macro", [[1, 0, 0, 2, 0, 0]] * 10).limits()[0] == low
    assert interval("f1", [*perfect, *[[0, 0, 0]] * 90]).limits()[0] == low  # records without entities prove nothing
    assert interval("share", [[0, 3]] * 10 + [[0, 0]] * 90).limits()[1] == pytest.approx(1 - low)
    same = difference("f1", perfect, perfect, bounded=True).limits()
    assert same[0] < 0 < same[1]


def test_the_step_writes_classes_languages_confusion_and_errors(tmp_path):
    rows = [{**row, "label": ("en", "fr")[index % 2]} for index, row in enumerate(random_rows(1, 24))]
    scores = scored(tmp_path, rows, language=None)
    errors = list(read_jsonl(tmp_path / "errors.jsonl"))
    assert set(scores["entities"]["classes"]) == set(LABELS)
    assert list(scores["by_label"]) == ["en", "fr"]
    french, own = scores["by_label"]["fr"], rows[1::2]
    assert (french["records"], french["entities"]) == (12, sum(len(row["spans"]) for row in own))
    assert french["metrics"]["entity_f1"]["value"] == pytest.approx(second_opinion(own)["entity_f1"])
    assert french["classes"][LABELS[0]]["support"] > 0
    assert sum(scores["entities"]["errors"].values()) == len(errors) > 10
    assert [error["rank"] for error in errors] == list(range(1, len(errors) + 1))
    assert {error["kind"] for error in errors} <= set(KINDS)
    for error in errors:
        for side in filter(None, (error["gold"], error["predicted"])):
            begin = side["start"] - error["excerpt"]["start"]
            assert error["excerpt"]["text"][begin:].startswith(side["text"])


def test_answers_to_images_list_every_mismatch_with_its_error_rate(tmp_path):
    def errors(question, metrics=None) -> list[dict]:
        messages = [{"role": "user", "content": question}]
        answers = ["Title 0", "title 1.", "Something else", *(f"Titel {index}" for index in range(3, 40))]
        rows = [
            {**ANNA, "id": f"{i:016x}", "messages": messages, "spans": None, "expected": f"Title {i}", "answer": answer}
            for i, answer in enumerate(answers)
        ]
        scored(tmp_path, rows, score={"metrics": metrics})
        return list(read_jsonl(tmp_path / "errors.jsonl"))

    found = errors([{"type": "image", "image": "images/a.png"}, {"type": "text", "text": "Title?"}])
    assert (len(found), found[0]["answer"]) == (39, "Something else")
    rates = [error["scores"]["character_error_rate"] for error in found]
    assert rates == sorted(rates, reverse=True)
    near = next(error for error in found if error["answer"] == "title 1.")
    assert "differs in case, punctuation, spacing or forms of characters only" in near["faults"]
    assert len(errors("Title?")) == 25
    assert len(errors("Title?", metrics=["exact_match", "character_error_rate"])) == 39


def drawn(folder: Path) -> tuple[list[list[str]], str]:
    """Draw the matrix of scores; return table and picture."""
    table, picture = folder / "matrix.csv", folder / "matrix.svg"
    assert draw_confusion([f"{folder}/scores.json", "--table", str(table), "--picture", str(picture)]) == 0
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
