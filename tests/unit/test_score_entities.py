"""Entities found in texts: scores equal to those of a second implementation, errors by kind, tables by class."""

import itertools
import json
from pathlib import Path

import pytest

from scripts.common.entities import entities_json
from scripts.common.errors import UserError
from scripts.common.metric_list import METRICS
from scripts.score.bootstrap import difference, estimate
from scripts.score.entity_errors import KINDS, errors_of, matched
from scripts.score.entity_pages import class_rows, classes_by_label
from scripts.score.entity_rows import OUTSIDE, EntityRow, entity_row, word_labels, words_of
from scripts.score.entity_tables import class_table, confusion
from scripts.score.measure import measured
from scripts.score.score_answers import main
from scripts.score.scoring_input import NotApplicableError, ScoringInput
from tests.support.entity_answers import LABELS, as_classified, random_rows, text_row
from tests.support.score_fixtures import SCORE, write_rows

ENTITY_METRICS = [
    "entity_f1", "entity_precision", "entity_recall", "entity_f1_macro", "token_f1_micro", "token_f1_macro",
    "token_f1_weighted",
]  # fmt: skip


def value(metric: str, rows: list[dict]) -> float:
    found = estimate(METRICS[metric].statistic, measured(metric, ScoringInput(rows)).rows, 100)
    assert found
    return found.value


def f1_of(gold: list[str], found: list[str], label: str) -> tuple[float, int]:
    """Return F1 and support of a class by its definition, from two lists of labels."""
    hits = sum(g == f == label for g, f in zip(gold, found, strict=True))
    precision = hits / found.count(label) if label in found else 0.0
    recall = hits / gold.count(label) if label in gold else 0.0
    return (2 * precision * recall / (precision + recall) if hits else 0.0), gold.count(label)


def second_opinion(rows: list[dict]) -> dict[str, float]:
    """Return the scores computed in another way: position by position, without any sums by record."""
    gold_spans = {(number, *span) for number, row in enumerate(rows) for span in row["spans"]}
    found_spans = {(number, *span[:3]) for number, row in enumerate(rows) for span in row["entities"]}
    hits = len(gold_spans & found_spans)
    labels = sorted({span[-1] for span in gold_spans})
    strict = []
    for label in labels:
        mine, theirs = ({span for span in spans if span[-1] == label} for spans in (gold_spans, found_spans))
        strict.append(2 * len(mine & theirs) / (len(mine) + len(theirs)))
    gold_words: list[str] = []
    found_words: list[str] = []
    for row in rows:
        text = row["messages"][-1]["content"]
        owners = [[OUTSIDE] * len(text) for _ in range(2)]
        for owner, spans in zip(owners, (row["spans"], row["entities"]), strict=True):
            for start, end, label in spans:
                owner[start:end] = [label] * (end - start)
        for word in text.split():
            start = text.index(word)
            gold_words.append(owners[0][start])
            found_words.append(owners[1][start])
    classes = sorted(set(gold_words) - {OUTSIDE})
    single = [f1_of(gold_words, found_words, label) for label in classes]
    right = sum(g == f != OUTSIDE for g, f in zip(gold_words, found_words, strict=True))
    named = sum(word != OUTSIDE for word in found_words) + sum(word != OUTSIDE for word in gold_words)
    return {
        "entity_f1": 2 * hits / (len(found_spans) + len(gold_spans)),
        "entity_precision": hits / len(found_spans),
        "entity_recall": hits / len(gold_spans),
        "entity_f1_macro": sum(strict) / len(strict),
        "token_f1_micro": 2 * right / named,
        "token_f1_macro": sum(score for score, _ in single) / len(single),
        "token_f1_weighted": sum(score * support for score, support in single) / sum(s for _, s in single),
    }


@pytest.mark.parametrize("seed", range(12))
def test_scores_equal_those_of_a_second_implementation(seed):
    rows = random_rows(seed, 20)
    expected = second_opinion(rows)
    for metric in ENTITY_METRICS:
        assert value(metric, rows) == pytest.approx(expected[metric], abs=1e-12), metric


def test_scores_of_a_worked_example():
    text = "Anna Berg wrote to max@x.de on Monday from Lyon"
    gold = [[0, 9, "PERSON"], [19, 27, "EMAIL"], [31, 37, "DATE"], [43, 47, "CITY"]]
    found = [[0, 4, "PERSON"], [19, 27, "EMAIL"], [31, 37, "CITY"], [10, 15, "PERSON"]]
    rows = [text_row(text, gold, found)]
    assert value("entity_precision", rows) == 1 / 4
    assert value("entity_recall", rows) == 1 / 4
    assert value("entity_f1", rows) == 1 / 4
    assert value("entity_f1_macro", rows) == 1 / 4  # EMAIL 1, the three others 0
    # Words: right Anna Berg max @ x . de Monday Lyon; found Anna wrote max @ x . de Monday (as CITY): 6 of them right.
    assert value("token_f1_micro", rows) == pytest.approx(2 * 6 / (9 + 8))
    assert value("token_f1_macro", rows) == pytest.approx((1 / 2 + 1 + 0 + 0) / 4)
    assert value("token_f1_weighted", rows) == pytest.approx((2 * 1 / 2 + 5 * 1) / 9)


def test_a_classifier_and_a_model_that_writes_the_same_entities_as_json_have_the_same_scores():
    classified = random_rows(3, 15)
    written = [{key: item for key, item in row.items() if key != "entities"} for row in classified]
    for metric in ENTITY_METRICS:
        assert value(metric, classified) == value(metric, written)
    assert value("parsed", written) == 1
    with pytest.raises(NotApplicableError, match="a classifier writes no text"):
        measured("parsed", ScoringInput(classified))
    with pytest.raises(NotApplicableError, match="a classifier writes no text"):
        measured("bleu", ScoringInput(classified))
    assert measured("exact_match", ScoringInput(classified)).rows


def test_entities_that_the_text_does_not_hold_are_false_positives():
    row = text_row("Anna wrote", [[0, 4, "PERSON"]], None)
    named = [{"label": "PERSON", "text": "Anna"}, {"label": "CITY", "text": "Paris"}, {"label": "CITY", "text": "Oslo"}]
    row["answer"] = json.dumps(named)
    assert measured("entity_f1", ScoringInput([row])).rows == [[1, 2, 0]]
    assert value("parsed", [row]) == 1
    assert value("entity_f1_macro", [row]) == 1  # CITY is no class of the expected answers
    kinds = [(error["kind"], error["predicted"]) for error in errors_of(entity_row(row))]
    assert kinds == [("not_in_text", {"label": "CITY", "text": text}) for text in ("Oslo", "Paris")]


NO_JSON = ("", "none", '{"label": "PERSON"}', '[{"label": "A", "text": "b"}] ok', "[1]", f"[{'9' * 5000}]", "[" * 99999)


@pytest.mark.parametrize("answer", NO_JSON)
def test_an_answer_that_is_no_json_of_entities_finds_nothing(answer):
    row = text_row("Anna wrote", [[0, 4, "PERSON"]], None) | {"answer": answer}
    assert measured("entity_f1", ScoringInput([row])).rows == [[0, 0, 1]]
    assert value("parsed", [row]) == 0
    assert [error["kind"] for error in errors_of(entity_row(row))] == ["invalid_json", "missed"]


def test_records_without_spans_have_no_scores_of_entities():
    row = text_row("Anna wrote", [[0, 4, "PERSON"]], None)
    plain = {key: item for key, item in row.items() if key != "spans"}
    for metric in [*ENTITY_METRICS, "parsed"]:
        with pytest.raises(NotApplicableError, match="no spans"):
            measured(metric, ScoringInput([plain]))
    assert measured("entity_f1", ScoringInput([row, plain])).rows[1] is None
    with pytest.raises(NotApplicableError, match="no record has an entity"):
        measured("entity_f1_macro", ScoringInput([row | {"spans": [], "expected": "[]"}]))


def test_the_text_of_a_rewritten_question_is_the_rows_own():
    row = text_row("Anna wrote", [[0, 4, "PERSON"]], None)
    row["messages"] = [{"role": "user", "content": "Find names in: Anna wrote"}]
    with pytest.raises(UserError, match="record 0000000000000000: its spans are not those of the text"):
        entity_row(row)
    with pytest.raises(UserError, match="spans are not those"):
        entity_row(row | {"expected": None, "spans": [[20, 30, "PERSON"]]})
    assert entity_row(row | {"text": "Anna wrote"}).found == [(0, 4, "PERSON")]


def test_words_are_those_of_letters_and_digits_marks_one_by_one_and_characters_of_scripts_without_spaces():
    def cut(text: str) -> list[str]:
        return [text[start:end] for start, end in words_of(text)]

    assert cut("l'été, +33 6 (a_b@c.fr)") == [
        "l",
        "'",
        "été",
        ",",
        "+",
        "33",
        "6",
        "(",
        "a_b",
        "@",
        "c",
        ".",
        "fr",
        ")",
    ]
    assert cut("e\u0301te\u0301 क्षेत्र") == ["e\u0301te\u0301", "क्षेत्र"]
    assert cut("東京 is ไทย") == ["東", "京", "is", "ไ", "ท", "ย"]


def test_a_word_has_the_label_of_the_span_with_most_of_it():
    text = "abcdef gh"
    assert word_labels(words_of(text), [(0, 2, "X"), (2, 6, "Y")]) == ["Y", OUTSIDE]
    assert word_labels(words_of(text), [(5, 8, "X")]) == ["X", "X"]
    assert word_labels(words_of(text), [(6, 7, "X")]) == [OUTSIDE, OUTSIDE]


def test_the_character_error_rate_sums_before_it_divides():
    rows = [
        text_row("x", [], None) | {"expected": expected, "answer": answer}
        for expected, answer in (("abcd", "abxd"), ("ab", "abcdef"), ("e\u0301", "é"))
    ]
    assert value("character_error_rate", rows) == pytest.approx((1 + 4 + 0) / (4 + 2 + 1))
    assert not METRICS["character_error_rate"].is_share


def test_the_cost_is_that_of_the_mean_time():
    rows = [text_row("x", [], []) | {"seconds": seconds} for seconds in (1.0, 3.0)]
    assert estimate(
        "mean", measured("cost_per_1000", ScoringInput(rows, price_per_hour=1.8)).rows
    ).value == pytest.approx(1)
    with pytest.raises(NotApplicableError, match="price_per_hour is not given"):
        measured("cost_per_1000", ScoringInput(rows))


def test_errors_are_matched_one_to_one_by_what_they_share():
    gold = [(0, 9, "PERSON"), (12, 20, "CITY"), (30, 35, "DATE"), (40, 50, "EMAIL")]
    found = [(0, 4, "PERSON"), (5, 9, "PERSON"), (12, 20, "ORG"), (40, 50, "EMAIL"), (60, 65, "DATE")]
    row = EntityRow("x" * 80, gold, found, [], True)
    kinds = [(error["kind"], error["gold"] and error["gold"]["start"]) for error in errors_of(row)]
    assert kinds == [
        ("wrong_boundary", 0),
        ("false_positive", None),
        ("wrong_type", 12),
        ("missed", 30),
        ("false_positive", None),
    ]
    assert matched(gold, found)[0] == ((0, 9, "PERSON"), (0, 4, "PERSON"))


@pytest.mark.parametrize("seed", range(8))
def test_every_wrong_entity_is_in_exactly_one_error(seed):
    for row in map(entity_row, random_rows(seed, 10)):
        pairs = matched(row.gold, row.found)
        wrong_gold = sorted(set(row.gold) - set(row.found))
        wrong_found = sorted(set(row.found) - set(row.gold))
        assert sorted(right for right, _ in pairs if right) == wrong_gold
        assert sorted(ours for _, ours in pairs if ours) == wrong_found
        for right, ours in itertools.product(
            [right for right, ours in pairs if ours is None], [ours for right, ours in pairs if right is None]
        ):
            assert min(right[1], ours[1]) <= max(right[0], ours[0])  # what overlaps would have been matched


def test_the_confusion_matrix_counts_each_word_once():
    rows = [row for row in map(entity_row, random_rows(5, 20)) if row]
    table = confusion(rows)
    assert table["labels"] == [*LABELS, OUTSIDE]
    assert sum(map(sum, table["counts"])) == sum(len(words_of(row.text)) for row in rows)
    outside = table["counts"][-1][-1]
    assert outside == sum(row.word_pairs[OUTSIDE, OUTSIDE] for row in rows) > 0
    first = sum(row.word_pairs[LABELS[0], LABELS[1]] for row in rows)
    assert table["counts"][0][1] == first


def test_classes_that_only_answers_have_share_a_column():
    rows = [EntityRow("Anna in Oslo", [(0, 4, "PERSON")], [(0, 4, "NAME"), (8, 12, "PLACE")], [], True)]
    table = confusion(rows)
    assert table == {"labels": ["PERSON", "O"], "columns": ["PERSON", "O", "(other)"], "counts": [[0, 0, 1], [0, 1, 1]]}


def test_the_table_of_classes_has_scores_with_intervals():
    rows = [row for row in map(entity_row, random_rows(7, 30)) if row]
    table = class_table(rows, 200, 0)
    assert list(table) == list(LABELS)
    for label, scores in table.items():
        hits = sum(row.strict.get(label, [0, 0, 0])[0] for row in rows)
        assert scores["support"] == sum(span[2] == label for row in rows for span in row.gold)
        assert scores["precision"]["value"] == pytest.approx(hits / scores["found"])
        assert scores["recall"]["value"] == pytest.approx(hits / scores["support"])
        assert scores["f1"]["value"] == pytest.approx(2 * hits / (scores["found"] + scores["support"]))
        assert 0 <= scores["f1"]["low"] < scores["f1"]["value"] < scores["f1"]["high"] <= 1
    unknown = class_table([EntityRow("Anna", [(0, 4, "PERSON")], [], [], True)] * 3, 100, 0)["PERSON"]
    assert unknown["precision"] is None
    assert unknown["recall"]["value"] == 0


def test_perfect_records_do_not_prove_perfection():
    perfect = [[3, 0, 0]] * 10
    found = estimate("f1", perfect)
    assert (found.value, found.high) == (1, 1)
    assert found.low == pytest.approx(0.025 ** (1 / 10))
    assert estimate("f1_macro", [[1, 0, 0, 2, 0, 0]] * 10).low == found.low
    assert estimate("f1", [*perfect, *[[0, 0, 0]] * 90]).low == found.low  # records without entities prove nothing
    assert estimate("share", [[0, 2]] * 10 + [[0, 0]] * 90).high == pytest.approx(1 - found.low)
    same = difference("f1", perfect, perfect)
    assert same.low < 0 < same.high


def score(folder: Path, rows: list[dict], **settings) -> tuple[dict, list[dict]]:
    answers = write_rows(folder / "answers.jsonl", rows)
    (folder / "likelihood.jsonl").write_text("")
    words = [answers, folder / "likelihood.jsonl", "--run", "pii", "--variant", "merged", "--scores", folder / "s.json"]
    given = json.dumps({"language": None, "score": SCORE | settings})
    assert main([*map(str, words), "--errors", f"{folder}/errors.jsonl", "--settings", given]) == 0
    errors = [json.loads(line) for line in (folder / "errors.jsonl").read_text(encoding="utf-8").splitlines()]
    return json.loads((folder / "s.json").read_text(encoding="utf-8")), errors


def test_the_step_writes_classes_languages_confusion_and_errors(tmp_path):
    rows = random_rows(1, 24)
    for index, row in enumerate(rows):
        row["label"] = ("en", "fr")[index % 2]
    scores, errors = score(tmp_path, rows)
    assert scores["metrics"]["perplexity"] is None
    assert scores["reasons"]["bleu"] == "a classifier writes no text"
    assert set(scores["entities"]["classes"]) == set(LABELS)
    assert list(scores["by_label"]) == ["en", "fr"]
    french = scores["by_label"]["fr"]
    own = [row for row in rows if row["label"] == "fr"]
    assert french["records"] == 12
    assert french["entities"] == sum(len(row["spans"]) for row in own)
    assert french["metrics"]["entity_f1"]["value"] == pytest.approx(second_opinion(own)["entity_f1"])
    assert "seconds_p50" not in french["metrics"]
    assert french["classes"][LABELS[0]]["support"] > 0
    assert sum(scores["entities"]["errors"].values()) == len(errors) > 10
    assert [error["rank"] for error in errors] == list(range(1, len(errors) + 1))
    assert {error["kind"] for error in errors} <= set(KINDS)
    for error in errors:
        for side in filter(None, (error["gold"], error["predicted"])):
            begin = side["start"] - error["excerpt"]["start"]
            assert error["excerpt"]["text"][begin:].startswith(side["text"])


def test_answers_to_images_list_every_mismatch_with_its_error_rate(tmp_path):
    image = {"type": "image", "image": "images/a.png"}
    rows = [
        text_row("x", [], None)
        | {
            "id": f"{index:016x}",
            "messages": [{"role": "user", "content": [image, {"type": "text", "text": "Title?"}]}],
            "spans": None,
            "expected": f"Title {index}",
            "answer": {0: "Title 0", 1: "title 1.", 2: "Something else"}.get(index, f"Titel {index}"),
        }
        for index in range(40)
    ]
    _, errors = score(tmp_path, rows)
    assert len(errors) == 39
    assert errors[0]["answer"] == "Something else"
    rates = [error["scores"]["character_error_rate"] for error in errors]
    assert rates == sorted(rates, reverse=True)
    near = next(error for error in errors if error["answer"] == "title 1.")
    assert "differs in case, punctuation or spacing only" in near["faults"]
    plain = [{**row, "messages": [{"role": "user", "content": "Title?"}]} for row in rows]
    assert len(score(tmp_path, plain)[1]) == 25
    assert len(score(tmp_path, plain, metrics=["exact_match", "character_error_rate"])[1]) == 39


def test_a_classifiers_answer_is_the_json_of_its_entities():
    row = as_classified(text_row("Anna in Oslo", [[0, 4, "PERSON"]], None), [[8, 12, "CITY", 0.9]])
    assert row["answer"] == entities_json("Anna in Oslo", [[8, 12, "CITY"]])
    assert entity_row(row).found == [(8, 12, "CITY")]


def test_records_and_labels_without_any_entity_have_no_classes_and_a_page(tmp_path):
    rows = [{**text_row("Anna calls.", [[0, 4, "PERSON"]], [[0, 4, "PERSON"]]), "label": "en"} for _ in range(4)]
    rows += [{**text_row("Rien à dire.", [], []), "label": "fr"} for _ in range(4)]
    scores, _ = score(tmp_path, rows)
    assert list(scores["entities"]["classes"]) == ["PERSON"]
    assert scores["by_label"]["fr"]["classes"] == {}
    assert class_table([EntityRow("Rien.", [], [], [], True)] * 3, 100, 0) == {}
    assert class_rows({}) == []
    assert classes_by_label(scores)
