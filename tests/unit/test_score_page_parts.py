"""Parts of the pages of runs: pictures of gates and quants, differences in words, telling answers, what changed."""

import pytest

from scripts.common.html import with_labels
from scripts.score.history import since_last
from scripts.score.pictures import gate_picture, ladder
from scripts.score.shown import interval_text
from scripts.score.side_by_side import Pictures, telling
from scripts.score.word_diff import word_diff
from scripts.score.write_run_report import gate_notes, interval_note
from tests.support.score_fixtures import answer_rows, babble, gate, make_run, same, write_rows
from tests.support.score_pages import write_report


def judged(value: float | None, low: float | None, high: float | None, **settings) -> dict:
    return {**gate(**settings), "value": value, "low": low, "high": high}


def test_a_gates_picture_has_round_ticks_the_thresholds_number_and_the_allowed_side():
    found = gate_picture(judged(0.18, 0.12, 0.25, metric="length_variation", threshold=0.15))
    assert [tick["text"] for tick in found["ticks"]] == ["15", "20", "25"]
    assert found["threshold"]["text"] == "above 15.0 %"
    assert found["threshold"]["at"] == found["ticks"][0]["at"] == found["allowed"]["start"]
    assert found["allowed"]["start"] + found["allowed"]["width"] == 100
    assert 0 < found["row"]["low"] < found["row"]["value"] < found["row"]["high"] < 100
    less = gate_picture(judged(-3.0, None, -1.0, comparison="below", threshold=0.0, baseline="base"))
    assert [tick["text"] for tick in less["ticks"]] == ["−3", "−2", "−1", "0"]
    assert (less["allowed"]["start"], less["allowed"]["width"]) == (0, less["threshold"]["at"])
    assert less["row"]["low"] is None
    assert gate_picture(judged(None, None, None)) is None


def test_a_gates_picture_of_a_share_ends_at_0_and_1_and_one_without_any_range_has_a_scale():
    found = gate_picture(judged(1.0, 0.97, 1.0, metric="exact_match", threshold=0.955))
    assert found["row"]["value"] == 100
    assert [tick["text"] for tick in gate_picture(judged(0.0, None, None, threshold=0.0))["ticks"]] == [
        "−0.1",
        "0.0",
        "0.1",
    ]


@pytest.mark.parametrize(
    ("low", "high", "text"), [(0.0, 0.2, "0.00 to 20.0"), (None, 0.2, "at most 20.0"), (0.0, None, "at least 0.00")]
)
def test_an_interval_may_have_one_side(low, high, text):
    assert interval_text("repetition", {"low": low, "high": high}) == text
    assert interval_text("repetition", {"low": None, "high": None}) == "no interval"


@pytest.mark.parametrize(
    ("answer", "expected", "tag", "marked"),
    [
        ("L'arbitre a sifflé.", "L’arbitre n'a pas sifflé.", "fr", "L[’|']arbitre [n'|]a [pas |]sifflé."),
        ("Ba\u0300 Sa\u0301u ba\u0300y rau.", "Bà Sáu bày mớ rau.", "vi", "Bà Sáu bày [mớ |]rau."),
        ("我喜欢猫", "我喜欢狗", "zh", "我喜欢[狗|猫]"),
        ("same", "same", None, "same"),
    ],
)
def test_differences_are_marked_in_words_of_the_language(answer, expected, tag, marked):
    found = word_diff(answer, expected, tag)
    text = "".join(
        {"same": "{}", "missing": "[{}|]", "added": "[|{}]"}[piece["kind"]].format(piece["text"]) for piece in found
    )
    assert text.replace("|][|", "|") == marked


def test_texts_without_common_words_have_no_marked_differences():
    assert word_diff("le match et le match", "But de Koné !", "fr") is None
    assert word_diff("mot " * 2001, "mot " * 2001, "fr") is None


def scores_of(variant: str, values: list | None, kind: str = "text") -> dict:
    found = {"chrf": values, "character_error_rate": values} if values else {}
    return {"variant": variant, "answer_kind": kind, "language": "fr", "per_record": found, "prompt_sets": {}}


@pytest.mark.parametrize(("kind", "places"), [("text", {"Best": 7, "Worst": 0}), ("exact", {"Best": 0, "Worst": 7})])
def test_the_best_the_worst_and_the_most_changed_answer_are_shown_once_each(kind, places):
    answers = {"base": {"test": answer_rows("fr", babble)}, "q8_0": {"test": answer_rows("fr", same)}}
    scores = {"base": scores_of("base", [0.0] * 8, kind), "q8_0": scores_of("q8_0", [float(n) for n in range(8)], kind)}
    found = telling(answers, scores, "q8_0", Pictures(None))
    rows = answers["q8_0"]["test"]
    wanted = {**places, "Most changed from base": 6}
    assert {prompt["title"]: prompt["expected"] for prompt in found} == {
        title: rows[place]["expected"] for title, place in wanted.items()
    }
    assert [answer["variants"] for answer in found[0]["answers"]] == [["base"], ["q8_0"]]
    assert found[0]["answers"][1]["diff"] == [{"kind": "same", "text": found[0]["expected"]}]


def test_without_values_of_single_answers_the_first_record_is_shown():
    answers = {"base": {"test": answer_rows("fr")}}
    [prompt] = telling(answers, {"base": scores_of("base", None)}, "base", Pictures(None))
    assert prompt["title"].startswith("First record")
    assert telling({"base": {"test": []}}, {"base": scores_of("base", None)}, "base", Pictures(None)) == []


def test_the_ladder_has_size_quality_and_speed_of_the_scored_files():
    def scores(value: float) -> dict:
        found = {"value": value, "low": value - 1, "high": value + 1, "n": 9}
        metrics = {"chrf": None, "perplexity": found, "seconds_p50": None}
        return {"answer_kind": "text", "metrics": metrics, "reasons": {"seconds_p50": "in batches"}}

    found = ladder(
        {"base": scores(9), "q4_k_m": scores(8), "bf16": scores(7)}, {"q4_k_m": 90_000_000, "bf16": 270_000_000}
    )
    assert found["quality"].title == "Perplexity per token"
    assert [(row["variant"], row["megabytes"], row["share"]) for row in found["rows"]] == [
        ("bf16", 270.0, 100.0), ("q4_k_m", 90.0, 33.3),
    ]  # fmt: skip
    assert found["rows"][1]["quality"]["spread"] == "7.00 to 9.00"
    assert found["rows"][1]["speed"]["reason"] == "in batches"
    assert ladder({"base": scores(9), "bf16": scores(7)}, {"bf16": 1}) is None


def test_a_report_says_what_changed_since_the_last_look(tmp_path):
    def row(verdict: str, **values: float) -> dict:
        facts = {"date": "2026-11-28T10:20:30+00:00", "verdict": verdict, "shipped": "q8_0", "records": 9}
        return {**facts, "asked": {"a": "above 50.0, hold"}, "values": values}

    rows = [row("rollback", chrf=1.0), row("hold", chrf=40.0, bleu=3.0), row("promote", chrf=47.5, rouge_l=0.2)]
    path = write_rows(tmp_path / "verdicts.jsonl", rows[:1])
    assert since_last(tmp_path / "none.jsonl") is since_last(path) is None
    assert since_last(write_rows(path, rows)) == "Since 2026-11-28 10:20: verdict hold → promote; chrF 40.0 → 47.5."
    assert since_last(write_rows(path, rows[:1] * 2)) == "Since 2026-11-28 10:20: no metric of the gates changed."
    easier = rows[0] | {"asked": {"a": "above 9.00, hold", "b": "below 1.00, hold"}}
    changed = "gate a: above 50.0, hold → above 9.00, hold; gate b: none → below 1.00, hold"
    assert since_last(write_rows(path, [rows[0], easier])) == f"Since 2026-11-28 10:20: {changed}."


def test_each_cell_of_a_table_with_a_head_has_its_columns_title():
    head = '<table><thead><tr><th></th><th class="x">A &#34;b&#34; <span>↓</span></th></tr></thead>'
    body = '<tbody><tr><td>1</td><td class="n">2</td></tr></tbody></table>'
    other = "<table><tr><td>3</td></tr></table>"
    labelled = body.replace('<td class="n">', '<td data-label="A &#34;b&#34; ↓" class="n">')
    assert with_labels(head + body + other) == head + labelled + other


def test_notes_beside_a_gate_say_its_power_its_few_groups_and_each_of_its_levels():
    entry = gate("chrf") | {"n": 40, "smallest": 3.1, "value": 52.0, "low": 49.0, "groups": 7, "looks": 2}
    entry |= {"level": 0.9917, "passes_at": 0.975}
    assert gate_notes(entry) == [
        "With 80 % power, these 40 records show a value that is 3.10 above the threshold.",
        "7 groups, fewer than 10: the interval is rough.",
        "As one of 2 looks it passes only at a level of 97.5 %.",
        "As one of several gates or looks it fails only at a level of 99.17 %.",
    ]
    plain = entry | {"smallest": None, "groups": None, "level": 0.95, "passes_at": 0.95, "looks": 1}
    assert gate_notes(plain) == []


def test_a_page_says_what_its_intervals_are_about():
    assert "further records of the same sources" in interval_note(None, False)
    assert interval_note({"by": "match", "count": 12}, True).endswith("there are 12 by match.")
    assert "the intervals are rough" in interval_note({"by": "match", "count": 7}, True)


def test_metrics_that_are_zero_everywhere_are_named_with_their_limit_and_no_card(tmp_path):
    make_run(tmp_path, "r", "fr", {"base": (same, 9.0), "q8_0": (same, 9.0)}, {"good": gate(threshold=20.0)})
    page = write_report(tmp_path, "r", ["base", "q8_0"])
    assert "Repetition within answers (at most 36.9 %)" in page.text
