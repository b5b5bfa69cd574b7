"""Gates and verdicts: intervals decide, not bare means."""

import pytest

from scripts.common.files import read_json
from scripts.score.bootstrap import Estimate
from scripts.score.gates import gate_estimate, judge, judge_gate, metric_difference, passed, records_needed, verdict
from scripts.score.stand_in import NOTE
from tests.support.data import load
from tests.support.score_fixtures import babble, first_half, gate, make_run, same


@pytest.fixture(scope="module")
def scores(tmp_path_factory) -> dict:
    variants = {"base": (babble, 60.0), "adapter": (first_half, 9.0), "bf16": (first_half, 9.0), "q8_0": (same, 9.02)}
    folder = make_run(tmp_path_factory.mktemp("results"), "football", "fr", variants)
    return {name: read_json(folder / f"scores/{name}.json") for name in variants}


def test_an_interval_passes_fails_or_stays_uncertain():
    for comparison, outcomes in {
        "below": {(1, 4): True, (4, 6): None, (5, 6): False, (6, 9): False},
        "above": {(6, 9): True, (4, 6): None, (3, 5): False, (1, 4): False, (None, None): None},
    }.items():
        asked = gate(comparison=comparison, threshold=5)
        assert {ends: passed(asked, Estimate(ends[0] or 5, *ends, 10)) for ends in outcomes} == outcomes


@pytest.mark.parametrize(("outcomes", "word", "named"), load("metrics.yaml")["verdicts"])
def test_the_verdict_that_follows_from_gates(outcomes, word, named):
    gates = [{"name": f"gate{i}", "passed": done, "on_failure": then} for i, (done, then) in enumerate(outcomes)]
    decided, why = judge(gates)
    assert (decided, [entry["name"] for entry in gates if entry["name"] in why]) == (word, named)


def test_a_clear_case_passes_and_says_what_was_compared_and_an_uncertain_one_how_many_records_would_tell(scores):
    learned = gate("perplexity", "below", -0.1, baseline="base", relative=True, variant="q8_0")
    entry = judge_gate("learned", learned, scores, 300, 0)
    assert entry["passed"] is True
    assert entry["low"] < entry["value"] < entry["high"] < -0.1
    assert entry["reason"].startswith("Perplexity per token of q8_0 against base is −8")
    assert entry["reason"].endswith(": below −10.0 %")
    value = scores["adapter"]["metrics"]["chrf"]["value"]
    entry = judge_gate("near", gate(variant="adapter", threshold=value - 0.5), scores, 300, 0)
    assert entry["passed"] is None
    assert "test records are needed to tell" in entry["reason"]


def test_records_needed_shrinks_the_interval_to_the_threshold():
    near = gate(threshold=8.0)
    assert records_needed(near, Estimate(10.0, 6.0, 14.0, 10)) == 44  # half of 4 to reach 2: 4 times 10, and a tenth
    certain = gate("finished", threshold=0.95)
    low = 0.025 ** (1 / 29)
    assert records_needed(certain, Estimate(1.0, low, 1.0, 29)) == pytest.approx(76, abs=2)  # exact: 72, and a tenth
    # A bound cut off at 1 does not make a gate seem nearly settled: 0.2 to reach 0.05 is 16 times 10, and a tenth.
    repeats = gate("repetition_recent", threshold=0.95)
    assert records_needed(repeats, Estimate(0.9, 0.7, 1.0, 10)) == pytest.approx(176, abs=1)


def test_a_paired_difference_comes_from_score_files_alone(scores):
    found = metric_difference(scores["q8_0"], scores["bf16"], "perplexity", 300, 0, relative=True)
    assert found.value == pytest.approx(9.02 / 9 - 1, rel=0.2)
    assert 0 < found.low < found.high < 0.02
    turned = {**scores["bf16"], "ids": scores["bf16"]["ids"][::-1]}
    turned["statistics"] = {"perplexity": scores["bf16"]["statistics"]["perplexity"][::-1]}
    assert metric_difference(scores["q8_0"], turned, "perplexity", 300, 0, relative=True) == found


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"variant": "q4_0"}, "this run has no variant 'q4_0'"),
        ({"variant": "q8_0", "baseline": "f16"}, "this run has no variant 'f16'"),
        ({"variant": "q8_0", "metric": "generic_phrase_rate"}, "q8_0 has no value: score.generic_phrases is not given"),
    ],
)
def test_a_gate_that_can_not_be_judged_holds_and_says_why(scores, settings, reason):
    assert gate_estimate(gate(**settings), scores, 200, 0) == reason
    decided = verdict("football", {"odd": gate(**settings)}, "q8_0", scores, 200, 0)
    assert (decided["verdict"], decided["gates"][0]["passed"]) == ("hold", None)
    assert reason in decided["gates"][0]["reason"]


EASY, FAILED = {"a": gate(threshold=1)}, {"a": gate("chrf", "below", 99, on_failure="rollback")}


@pytest.mark.parametrize(
    ("empty", "commonest", "gates", "word"),
    [
        (4, None, EASY, "promote"), (5, None, EASY, "hold"), (8, None, {}, "hold"), (8, None, FAILED, "rollback"),
        # Of 8 answers so many are equal, beside so many equal expected answers and questions.
        (0, (4, 1, 1), EASY, "promote"), (0, (5, 1, 1), EASY, "hold"), (0, (5, 3, 1), EASY, "promote"),
        (0, (5, 1, 3), EASY, "promote"),
    ],
)  # fmt: skip
def test_a_run_that_mostly_says_nothing_or_one_thing_is_not_promoted_whatever_its_gates_say(
    scores, empty, commonest, gates, word
):
    counted = commonest and dict(zip(("answers", "expected", "questions"), commonest, strict=True))
    changed = {**scores, "q8_0": {**scores["q8_0"], "empty": empty, "commonest": counted}}
    decided = verdict("football", gates, "q8_0", changed, 200, 0)
    said = f"{empty} of 8 answers of q8_0 are empty" if empty else "5 of 8 answers of q8_0 are the same text"
    assert decided["verdict"] == word
    assert decided["reason"].startswith(said) == (word == "hold")
    assert decided["warnings"] == ([said] if empty or word == "hold" else [])


def test_with_one_record_nothing_is_promoted(scores):
    one = {**scores["q8_0"], "metrics": {"chrf": {"value": 99.0, "low": None, "high": None, "n": 1}}}
    decided = verdict("football", {"learned": gate(threshold=1.0)}, "q8_0", {"q8_0": one}, 200, 0)
    assert decided["verdict"] == "hold"
    assert "more test records are needed" in decided["gates"][0]["reason"]


def test_a_stand_in_does_not_make_a_rollback_milder(scores):
    decided = verdict("football", FAILED, "q8_0", scores, 200, 0, stand_in=True)
    assert (decided["verdict"], decided["reason"]) == ("rollback", f"{NOTE}; clearly failed: a")
