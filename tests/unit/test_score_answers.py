"""The step that scores a variant's answers."""

import json

import pytest

from scripts.common.files import read_jsonl
from scripts.score.metrics import METRICS
from scripts.score.score_answers import main
from tests.support.score_fixtures import (
    answer_rows,
    babble,
    first_half,
    likelihood_rows,
    record_rows,
    scored,
    write_rows,
)


@pytest.mark.parametrize("language", ["fr", "vi"])
def test_every_metric_has_a_value_with_an_interval_or_a_reason(tmp_path, language):
    rows, likelihood = answer_rows(language, first_half), likelihood_rows(language)
    scores = scored(tmp_path, rows, likelihood, language)
    assert list(scores["metrics"]) == list(METRICS)
    for metric, found in scores["metrics"].items():
        assert (metric in scores["reasons"]) == (found is None)
        if found:
            assert found["low"] is None or found["low"] <= found["value"]
            assert found["high"] is None or found["value"] <= found["high"]
            assert len(scores["per_record"][metric]) == len(scores["ids"]) == scores["records"]
    not_given = {"generic_phrase_rate", "cost_per_1000", "style_overlap", "length_ratio", "assistant_phrase_rate"}
    not_given |= {metric for metric in METRICS if metric.startswith(("entity_", "token_", "parsed"))}
    not_given |= {metric for metric, entry in METRICS.items() if entry.is_by_people}
    assert scores["reasons"].keys() == not_given
    assert scores["signatures"]["bleu"].startswith("nrefs:1")
    scored(tmp_path / "again", rows, likelihood, language)
    for name in ("scores.json", "errors.jsonl"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_only_the_metrics_asked_for_are_measured_and_in_the_language_of_the_run(tmp_path):
    rows, likelihood = answer_rows("fr"), likelihood_rows("fr")
    scores = scored(tmp_path, rows, likelihood, score={"metrics": ["chrf", "perplexity"], "language": "en"})
    assert [metric for metric, found in scores["metrics"].items() if found] == ["perplexity", "chrf"]
    assert scores["reasons"]["bleu"] == "not asked for in score.metrics"
    assert scores["language"] == "en"
    assert "tok:13a" in scores["signatures"]["bleu"]


def test_further_prompt_sets_stand_apart_and_have_no_perplexity(tmp_path):
    extra = [{**row, "expected": None} for row in answer_rows("fr", prompt_set="extra")]
    scores = scored(tmp_path, answer_rows("fr") + extra, likelihood_rows("fr"))
    assert scores["records"] == len(answer_rows("fr"))
    further = scores["prompt_sets"]["extra"]
    assert further["metrics"]["distinct_1"]["value"] > 0
    assert further["metrics"]["bleu"] is further["metrics"]["perplexity"] is None
    assert further["reasons"]["bleu"] == "no record has an expected answer"
    assert {row["prompt_set"] for row in read_jsonl(tmp_path / "errors.jsonl")} == {"test", "extra"}


def test_scores_have_the_group_of_each_record_in_the_order_of_the_answers(tmp_path):
    rows = answer_rows("fr")
    for groups in (list("aabbccdd"), [None] * len(rows)):
        records = record_rows(rows, group=groups)[::-1]
        scores = scored(tmp_path, rows, more=("--test", write_rows(tmp_path / "test.jsonl", records)))
        assert scores["groups"] == (groups if groups[0] else None)
    assert scored(tmp_path, rows)["groups"] is None


def test_a_column_that_no_record_has_is_one_line_that_names_those_they_have(tmp_path, capsys):
    rows = answer_rows("fr")
    test = write_rows(tmp_path / "test.jsonl", record_rows(rows, url=["m"] * len(rows), time=list(range(len(rows)))))
    with pytest.raises(AssertionError):
        scored(tmp_path, rows, score={"order_by": ["url", "minute"]}, more=("--test", test))
    assert "no test record has the column 'minute'; the records have time, url" in capsys.readouterr().err


def test_the_worst_answers_come_first_with_what_is_wrong(tmp_path):
    rows = answer_rows("fr", lambda text, index: {1: "", 3: "le but le but le but le but"}.get(index, text))
    rows[5]["stop"] = "length"
    scored(tmp_path, rows, likelihood_rows("fr"), score={"generic_phrases": ["quelle tête"]})
    found = list(read_jsonl(tmp_path / "errors.jsonl"))
    assert [row["rank"] for row in found] == list(range(1, len(rows) + 1))
    assert [row["faults"] for row in found[:2]] == [["is empty"], ["repeats itself (67% of its word triples)"]]
    assert found[1]["expected"] == rows[3]["expected"]
    faults = {row["id"]: row["faults"] for row in found}
    assert faults[rows[5]["id"]] == ["was cut at the length limit"]
    assert faults[rows[6]["id"]] == ["generic phrase: Quelle tête"]
    assert [found[place]["scores"]["chrf"] for place in (0, -1)] == [0, 100]


def test_equal_answers_are_counted_beside_equal_expected_answers_and_questions_unless_they_are_right(tmp_path):
    rows = answer_rows("fr", lambda text, index: ("", " Le ballon.", "Le ballon.")[index % 3])
    for row in rows[:3]:
        row["expected"] = "But !"
    rows[1]["messages"] = rows[0]["messages"]
    classified = answer_rows("fr", lambda text, index: "[]", spans=[[0, 6, "TIME"]], entities=[])
    for given, expected in (
        (rows, {"answers": 5, "expected": 3, "questions": 2}),
        ([{**row, "answer": ""} for row in rows], {"answers": 0, "expected": 3, "questions": 2}),
        (answer_rows("fr", babble, expected=None), None),
        (classified, None),
    ):
        assert scored(tmp_path, given)["commonest"] == expected


def test_few_records_are_scored_and_none_gives_reasons_and_no_zeros(tmp_path):
    for records in (1, 2, 3):
        found = scored(tmp_path, answer_rows("fr")[:records], likelihood_rows("fr")[:records])["metrics"]["perplexity"]
        assert (found["n"], found["low"] is None) == (records, records == 1)
    scores = scored(tmp_path, [])
    assert set(scores["metrics"].values()) == {None}
    assert set(scores["reasons"].values()) == {"there is no record"}


def test_intervals_of_shares_stay_between_0_and_1_and_those_of_other_measures_do_not(tmp_path):
    def alike(text: str, index: int) -> str:
        return "Le numéro 9 sort du terrain" if index else f"{text} " * 9

    found = scored(tmp_path, answer_rows("fr", alike), likelihood_rows("fr"))["metrics"]
    recent = found["repetition_recent"]
    assert recent["low"] < recent["value"] < recent["high"] <= 1
    assert found["repetition"]["low"] == 0
    assert found["perplexity"]["high"] > 1


def test_scores_of_each_label_are_those_of_its_records_alone(tmp_path):
    rows, likelihood = answer_rows("fr", first_half), likelihood_rows("fr")
    by_label = scored(tmp_path, rows, likelihood)["by_label"]
    assert list(by_label) == ["But", "Carton", "Commentaire", "Remplacement"]
    comments = [row for row in rows if row["label"] == "Commentaire"]
    alone = scored(tmp_path, comments, likelihood)
    found = by_label["Commentaire"]
    assert found["records"] == len(comments) == 4
    for metric in ("chrf", "bleu", "perplexity", "length_mean"):
        assert found["metrics"][metric] == alone["metrics"][metric], metric
    assert not {"distinct_1", "repetition_recent", "seconds_p50"} & set(found["metrics"])
    assert alone["by_label"] == {}


def test_many_labels_are_cut_to_the_most_frequent(tmp_path):
    rows = [row for _ in range(5) for row in answer_rows("fr")]
    rows = [{**row, "label": f"label {index}" if index > 3 else "often"} for index, row in enumerate(rows)]
    by_label = scored(tmp_path, rows, score={"metrics": ["exact_match"]})["by_label"]
    assert len(by_label) == 30
    assert by_label["often"]["records"] == 4
    assert list(by_label["often"]["metrics"]) == ["exact_match"]


@pytest.mark.parametrize(("settings", "missing"), [(None, "score"), ({"score": {}}, "language")])
def test_a_setting_that_is_missing_is_named_in_one_line(tmp_path, capsys, settings, missing):
    words = ["answers.jsonl", "likelihood.jsonl", "--run", "r", "--variant", "v", "--scores", "s", "--errors", "e"]
    assert main([*words, *(["--settings", json.dumps(settings)] if settings else [])]) == 1
    assert f"--settings lacks '{missing}'; `snakemake -n -p` prints the whole command" in capsys.readouterr().err
