"""The step that scores a variant's answers."""

import json
from pathlib import Path

import pytest

from scripts.common.metric_list import METRICS
from scripts.score.score_answers import main
from tests.support.score_fixtures import SCORE, answer_rows, babble, first_half, likelihood_rows, write_rows


def score(folder: Path, rows: list[dict], likelihood: list[dict], tag: str = "fr", **settings) -> dict:
    answers = write_rows(folder / "answers.jsonl", rows)
    known = write_rows(folder / "likelihood.jsonl", likelihood)
    arguments = [answers, known, "--run", "match", "--variant", "adapter", "--scores", folder / "scores.json"]
    given = json.dumps({"language": tag, "score": SCORE | settings})
    status = main([*map(str, arguments), "--errors", f"{folder}/errors.jsonl", "--settings", given])
    assert status == 0
    return json.loads((folder / "scores.json").read_text(encoding="utf-8"))


def errors(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "errors.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("language", ["fr", "vi"])
def test_every_metric_has_a_value_with_an_interval_or_a_reason(tmp_path, language):
    scores = score(tmp_path, answer_rows(language, first_half), likelihood_rows(language), language)
    assert list(scores["metrics"]) == list(METRICS)
    for metric, found in scores["metrics"].items():
        if found is None:
            assert scores["reasons"][metric]
        else:
            assert found["low"] <= found["value"] <= found["high"]
            assert metric not in scores["reasons"]
            assert len(scores["per_record"][metric]) == len(scores["ids"]) == scores["records"]
    entities = {metric for metric in METRICS if metric.startswith(("entity_", "token_"))}
    style = {"style_overlap", "length_ratio", "assistant_phrase_rate"}
    not_given = {"generic_phrase_rate", "cost_per_1000", "parsed", *entities, *style}
    assert {m for m, v in scores["metrics"].items() if v is None} == not_given
    assert scores["signatures"]["bleu"].startswith("nrefs:1")


def test_the_same_input_gives_the_same_bytes(tmp_path):
    rows, likelihood = answer_rows("fr", babble), likelihood_rows("fr")
    score(tmp_path / "a", rows, likelihood)
    score(tmp_path / "b", rows, likelihood)
    for name in ("scores.json", "errors.jsonl"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_only_the_metrics_asked_for_are_measured(tmp_path):
    scores = score(tmp_path, answer_rows("fr"), likelihood_rows("fr"), metrics=["chrf", "perplexity"])
    assert [metric for metric, found in scores["metrics"].items() if found] == ["perplexity", "chrf"]
    assert scores["reasons"]["bleu"] == "not asked for in score.metrics"


def test_further_prompt_sets_stand_apart_and_have_no_perplexity(tmp_path):
    extra = [{**row, "expected": None} for row in answer_rows("fr", prompt_set="extra")]
    scores = score(tmp_path, answer_rows("fr") + extra, likelihood_rows("fr"))
    assert scores["records"] == len(answer_rows("fr"))
    further = scores["prompt_sets"]["extra"]
    assert further["metrics"]["distinct_1"]["value"] > 0
    assert further["metrics"]["bleu"] is None
    assert further["metrics"]["perplexity"] is None
    assert further["reasons"]["bleu"] == "no record has an expected answer"
    assert {row["prompt_set"] for row in errors(tmp_path)} == {"test", "extra"}


def test_the_run_may_name_another_language_than_the_dataset(tmp_path):
    scores = score(tmp_path, answer_rows("fr"), likelihood_rows("fr"), "fr", language="en")
    assert scores["language"] == "en"
    assert "tok:13a" in scores["signatures"]["bleu"]


def test_the_worst_answers_come_first_with_what_is_wrong(tmp_path):
    def change(text: str, index: int) -> str:
        return {1: "", 3: "le but le but le but le but"}.get(index, text)

    rows = answer_rows("fr", change)
    rows[5]["stop"] = "length"
    score(tmp_path, rows, likelihood_rows("fr"), generic_phrases=["quelle tête"])
    found = errors(tmp_path)
    assert [row["rank"] for row in found] == list(range(1, len(rows) + 1))
    assert found[0]["faults"] == ["is empty"]
    assert found[1]["faults"] == ["repeats itself (67% of its word triples)"]
    assert found[1]["expected"] == rows[3]["expected"]
    faults = {row["id"]: row["faults"] for row in found}
    assert faults[rows[5]["id"]] == ["was cut at the length limit"]
    assert faults[rows[6]["id"]] == ["generic phrase: Quelle tête"]
    assert found[0]["scores"]["chrf"] == 0
    assert found[-1]["scores"]["chrf"] == 100


def test_no_answers_at_all_are_reasons_and_no_zeros(tmp_path):
    scores = score(tmp_path, [], [])
    assert set(scores["metrics"].values()) == {None}
    assert set(scores["reasons"].values()) == {"there is no record"}


def test_equal_answers_are_counted_beside_equal_expected_answers_and_questions(tmp_path):
    rows = answer_rows("fr", lambda text, index: ("", " Le ballon.", "Le ballon.")[index % 3])
    for row in rows[:3]:
        row["expected"] = "But !"
    rows[1]["messages"] = rows[0]["messages"]
    assert score(tmp_path, rows, [])["commonest"] == {"answers": 5, "expected": 3, "questions": 2}
    mute = [{**row, "answer": ""} for row in rows]
    assert score(tmp_path, mute, [])["commonest"]["answers"] == 0


def test_equal_answers_are_not_counted_where_they_are_right(tmp_path):
    assert score(tmp_path, answer_rows("fr", babble, expected=None), [])["commonest"] is None
    classified = answer_rows("fr", lambda text, index: "[]", spans=[[0, 6, "TIME"]], entities=[])
    assert score(tmp_path, classified, [])["commonest"] is None


@pytest.mark.parametrize("records", [1, 2, 3])
def test_few_records_are_scored(tmp_path, records):
    scores = score(tmp_path, answer_rows("fr")[:records], likelihood_rows("fr")[:records])
    assert scores["metrics"]["perplexity"]["n"] == records
    assert (scores["metrics"]["perplexity"]["low"] is None) == (records == 1)


@pytest.mark.parametrize(
    ("answers", "likelihood", "line"),
    [
        ('{"prompt_set": "test"}\n', "", "answers.jsonl:1: has no 'id'; make the file again with the predict stage"),
        ("{}\n[1]\n", "", "answers.jsonl:1: has no 'prompt_set'; make the file again with the predict stage"),
        ("no json\n", "", "answers.jsonl:1: is not valid JSON: Expecting value"),
        ("", '{"id": "a", "nll": "x", "tokens": 1, "characters": 1}\n', "likelihood.jsonl:1: 'nll' is str"),
        ("", '{"id": "a", "nll": NaN, "tokens": 1, "characters": 1}\n', "likelihood.jsonl:1: 'nll' is not a finite"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_file(tmp_path, capfd, answers, likelihood, line):
    (tmp_path / "answers.jsonl").write_text(answers)
    (tmp_path / "likelihood.jsonl").write_text(likelihood)
    paths = [f"{tmp_path}/answers.jsonl", f"{tmp_path}/likelihood.jsonl"]
    outputs = ["--scores", f"{tmp_path}/scores.json", "--errors", f"{tmp_path}/errors.jsonl"]
    settings = json.dumps({"language": None, "score": SCORE})
    assert main([*paths, "--run", "r", "--variant", "base", *outputs, "--settings", settings]) == 1
    assert line in capfd.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.jsonl", "likelihood.jsonl"]


def test_settings_that_are_not_given_are_asked_for(tmp_path, capfd):
    known = write_rows(tmp_path / "likelihood.jsonl", [])
    words = [str(known), str(known), "--run", "r", "--variant", "base", "--scores", f"{tmp_path}/s.json"]
    given = json.dumps({"language": "fr", "score": {"metrics": None, "language": None, "generic_phrases": []}})
    assert main([*words, "--errors", f"{tmp_path}/e.jsonl", "--settings", given]) == 1
    assert (
        "--settings lacks metrics_from, assistant_phrases, price_per_hour, bootstrap, seed; " in capfd.readouterr().err
    )


def test_intervals_of_shares_stay_between_0_and_1_and_those_of_other_measures_do_not(tmp_path):
    def alike(text: str, index: int) -> str:
        return f"Le numéro {(index + 1) // 2} sort du terrain" if index else f"{text} " * 9

    found = score(tmp_path, answer_rows("fr", alike), likelihood_rows("fr"))["metrics"]
    across = found["repetition_across"]
    assert across["low"] < across["value"] < across["high"] == 1
    assert found["repetition"]["low"] == 0
    assert found["length_variation"]["high"] > 1


def test_scores_of_each_label_are_those_of_its_records_alone(tmp_path):
    rows, likelihood = answer_rows("fr", first_half), likelihood_rows("fr")
    by_label = score(tmp_path, rows, likelihood)["by_label"]
    assert list(by_label) == ["But", "Carton", "Commentaire", "Remplacement"]
    comments = [row for row in rows if row["label"] == "Commentaire"]
    alone = score(tmp_path / "alone", comments, likelihood)
    found = by_label["Commentaire"]
    assert found["records"] == len(comments) == 4
    for metric in ("chrf", "bleu", "rouge_l", "perplexity", "character_error_rate", "length_mean"):
        assert found["metrics"][metric] == alone["metrics"][metric], metric
    assert not {"distinct_1", "repetition_across", "seconds_p50"} & set(found["metrics"])
    assert alone["by_label"] == {}


def test_many_labels_are_cut_to_the_most_frequent(tmp_path):
    rows = [row for part in range(5) for row in answer_rows("fr")]
    for index, row in enumerate(rows):
        row["label"] = f"label {index}" if index > 3 else "often"
    by_label = score(tmp_path, rows, [], metrics=["exact_match"])["by_label"]
    assert len(by_label) == 30
    assert by_label["often"]["records"] == 4
    assert list(by_label["often"]["metrics"]) == ["exact_match"]
