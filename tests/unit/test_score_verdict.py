"""Gates and verdicts: intervals decide, not bare means, and only on what is shipped."""

import numpy as np
import pytest

from scripts.common.files import read_json, read_jsonl
from scripts.score.gates import gate_interval, judge_gate, judge_gates, metric_difference
from scripts.score.history import History, earlier_verdicts
from scripts.score.interval_kinds import Interval
from scripts.score.intervals import interval
from scripts.score.stand_in import NOTE
from scripts.score.verdict import judge, verdict
from tests.benchmarks.statistics.simulate import rows
from tests.support.data import load
from tests.support.score_fixtures import babble, first_half, gate, make_run, same


@pytest.fixture(scope="module")
def scores(tmp_path_factory) -> dict:
    variants = {"base": (babble, 60.0), "adapter": (first_half, 9.0), "bf16": (first_half, 9.0), "q8_0": (same, 9.02)}
    folder = make_run(tmp_path_factory.mktemp("results"), "football", "fr", variants)
    return {name: read_json(folder / f"scores/{name}.json") for name in variants}


def decided(gates: dict, scores: dict, **facts) -> dict:
    return verdict("football", gates, "q8_0", scores, 1000, 0, **facts)


class Fixed(Interval):
    """An interval with given limits."""

    def own_limits(self, level):
        return self.least, self.most


@pytest.mark.parametrize(
    ("comparison", "ends", "outcome"),
    [
        ("below", (1, 4), "passed"), ("below", (4, 6), "undecided"), ("below", (6, 9), "failed"),
        # Failed means strictly beyond the threshold.
        ("below", (5, 9), "undecided"), ("above", (1, 5), "undecided"), ("above", (1, 4.9), "failed"),
        ("above", (6, 9), "passed"), ("above", (5, 9), "undecided"),
    ],
)  # fmt: skip
def test_an_interval_passes_fails_or_stays_undecided(comparison, ends, outcome):
    found = Fixed(5.0, 10, least=float(ends[0]), most=float(ends[1]))
    assert judge_gate("a", gate(comparison=comparison, threshold=5.0), found)["outcome"] == outcome


@pytest.mark.parametrize(("outcomes", "face", "named"), load("metrics.yaml")["verdicts"])
def test_the_verdict_that_follows_from_gates(outcomes, face, named):
    gates = [{"name": f"gate{i}", "outcome": done, "on_failure": then} for i, (done, then) in enumerate(outcomes)]
    found, why = judge(gates)
    assert (found, [entry["name"] for entry in gates if entry["name"] in why]) == (face, named)


def test_a_clear_case_passes_and_says_what_was_compared_and_an_undecided_one_how_many_records_would_tell(scores):
    learned = gate("perplexity", "below", -0.1, baseline="base", relative=True)
    value = scores["adapter"]["metrics"]["chrf"]["value"]
    near = gate(variant="adapter", threshold=value - 0.5)
    found = decided({"learned": learned, "near": near}, scores)
    passed, open_ = found["gates"]
    assert (passed["outcome"], passed["passed"]) == ("passed", True)
    assert passed["low"] < passed["value"] < passed["high"] < -0.1
    assert passed["reason"].startswith("Perplexity per token of q8_0 against base is −8")
    assert passed["reason"].endswith(": below −10.0 %")
    assert (open_["outcome"], open_["passed"]) == ("undecided", None)
    assert open_["needed"] > 8
    assert open_["smallest"] > 0.5
    assert (found["verdict"], found["face"]) == ("hold", "needs data")
    assert found["advice"].startswith("Don't ship yet: chrF is ")
    assert found["advice"].endswith(
        f"8 test records can't tell; about {open_['needed']:,} would.".replace(",", "\u202f")
    )


def test_a_paired_difference_comes_from_score_files_alone(scores):
    found = metric_difference(scores["q8_0"], scores["bf16"], "perplexity", 1000, 0, relative=True)
    assert found.value == pytest.approx(9.02 / 9 - 1, rel=0.2)
    turned = {**scores["bf16"], "ids": scores["bf16"]["ids"][::-1]}
    turned["statistics"] = {"perplexity": scores["bf16"]["statistics"]["perplexity"][::-1]}
    again = metric_difference(scores["q8_0"], turned, "perplexity", 1000, 0, relative=True)
    assert again.row() == found.row()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"variant": "q4_0"}, "this run has no variant 'q4_0'"),
        ({"variant": "q8_0", "baseline": "f16"}, "this run has no variant 'f16'"),
        ({"variant": "q8_0", "baseline": "q8_0"}, "it compares q8_0 with itself"),
        ({"variant": "q8_0", "metric": "generic_phrase_rate"}, "q8_0 has no value: score.generic_phrases is not given"),
    ],
)
def test_a_gate_that_can_not_be_measured_holds_and_says_why(scores, settings, reason):
    assert gate_interval(gate(**settings), scores, 200, 0) == reason
    found = decided({"easy": gate(threshold=1), "odd": gate(**settings, on_failure="rollback")}, scores)
    assert (found["face"], found["gates"][1]["outcome"]) == ("needs data", "not measurable")
    assert reason in found["gates"][1]["reason"]
    assert reason in found["advice"]


EASY, FAILED = {"a": gate(threshold=1)}, {"a": gate("chrf", "below", 40, on_failure="rollback")}


@pytest.mark.parametrize(
    ("empty", "commonest", "gates", "word"),
    [
        (3, None, EASY, "promote"), (4, None, EASY, "hold"), (8, None, {}, "hold"), (8, None, FAILED, "rollback"),
        # Of 8 answers so many are equal, beside so many equal expected answers and questions.
        (0, (4, 1, 1), EASY, "promote"), (0, (5, 1, 1), EASY, "hold"), (0, (5, 3, 1), EASY, "promote"),
        (0, (5, 1, 3), EASY, "promote"),
    ],
)  # fmt: skip
def test_a_run_that_says_nothing_half_the_time_or_mostly_one_thing_is_not_promoted_whatever_its_gates_say(
    scores, empty, commonest, gates, word
):
    counted = commonest and dict(zip(("answers", "expected", "questions"), commonest, strict=True))
    changed = {**scores, "q8_0": {**scores["q8_0"], "empty": empty, "commonest": counted}}
    found = decided(gates, changed)
    said = f"{empty} of 8 answers of q8_0 are empty" if empty else "5 of 8 answers of q8_0 are the same text"
    assert found["verdict"] == word
    assert found["reason"].startswith(said) == (word == "hold")
    assert found["warnings"] == ([said] if empty or word == "hold" else [])


@pytest.mark.parametrize(
    ("gates", "facts", "why"),
    [
        ({"a": gate("repetition", "below", 0.9)}, {}, "no gate is on a quality metric of q8_0"),
        ({"a": gate(variant="adapter", threshold=1)}, {}, "no gate is on a quality metric of q8_0"),
        ({}, {}, "no gate is defined for this run"),
        (EASY, {"stand_in": True}, NOTE),
        (EASY, {"chosen": {"run": "football-r8", "metric": "chrf"}}, "the sweep chose football-r8 on the validation"),
    ],
)
def test_what_was_not_judged_on_what_it_ships_is_never_promoted(scores, gates, facts, why):
    found = decided(gates, scores, **facts)
    assert (found["verdict"], found["face"]) == ("hold", "not judged")
    assert why in found["reason"]


def test_a_training_that_diverged_is_rolled_back_with_the_reason_and_a_stand_in_makes_no_rollback_milder(scores):
    found = decided(FAILED, scores, diverged="the training diverged at step 12")
    assert (found["verdict"], found["reason"]) == ("rollback", "the training diverged at step 12")
    assert found["advice"] == "Don't ship this: the training diverged at step 12."
    found = decided(FAILED, scores, stand_in=True)
    assert (found["verdict"], found["reason"]) == ("rollback", f"{NOTE}; clearly failed: a")


def test_one_worse_answer_of_200_is_no_failure():
    ours, base = rows([0] + [1] * 199), rows([1] * 200)
    ids = list(map(str, range(200)))
    known = {
        name: {
            "ids": ids,
            "groups": None,
            "metrics": {"exact_match": {"value": 1}},
            "statistics": {"exact_match": each},
        }
        for name, each in (("q8_0", ours), ("base", base))
    }
    found = gate_interval(gate("exact_match", "above", 0.0, variant="q8_0", baseline="base"), known, 1000, 0)
    assert judge_gate("a", gate("exact_match", "above", 0.0, baseline="base"), found)["outcome"] == "undecided"


def test_rollback_gates_are_corrected_for_their_number_and_others_are_not():
    values = np.random.default_rng(1).normal(size=60)
    bad = interval("mean", rows(values - values.mean() - 0.26), resamples=0)
    null = interval("mean", rows(values - values.mean()), resamples=0)
    for then, count, outcome in (("rollback", 1, "failed"), ("rollback", 5, "undecided"), ("hold", 5, "failed")):
        gates = {f"g{i}": {**gate(threshold=0.0, on_failure=then), "variant": "q8_0"} for i in range(count)}
        found = judge_gates(gates, {name: null if i else bad for i, name in enumerate(gates)})
        assert found[0]["outcome"] == outcome


def test_under_five_groups_nothing_is_decided_and_the_groups_are_counted(scores):
    grouped = {name: {**found, "groups": list("aabbccdd")} for name, found in scores.items()}
    found = decided(EASY, grouped, group_by="match")
    assert (found["gates"][0]["outcome"], found["groups"]) == ("undecided", {"by": "match", "count": 4})
    assert "4 groups" in found["advice"]
    grouped = {name: {**found, "groups": list("aabbccde")} for name, found in scores.items()}
    assert decided(EASY, grouped, group_by="match")["verdict"] == "promote"


def test_with_one_record_nothing_is_promoted(scores):
    one = {**scores["q8_0"], "ids": ["a"], "statistics": {"chrf": scores["q8_0"]["statistics"]["chrf"][:1]}}
    assert decided(EASY, {"q8_0": one})["face"] == "needs data"


def test_looks_are_counted_in_a_file_that_stays_and_the_same_statistics_are_one_look(scores, tmp_path):
    path, gates = tmp_path / "a" / "verdicts.jsonl", {"a": gate(threshold=1, looks=2)}
    shorter = {name: {**found, "metrics": {"chrf": found["metrics"]["chrf"]}} for name, found in scores.items()}
    second, third = ({**scores, "q8_0": scores[name]} for name in ("bf16", "base"))
    for other, faces in ((scores, "promote"), (shorter, "promote"), (second, "promote"), (third, "not judged")):
        history = History(path, other, "football")
        found = decided(gates, other, history=history)
        history.add(found)
        assert found["face"] == faces
    assert "a was looked at more often than its 2 looks" in found["reason"]
    assert len(list(read_jsonl(path))) == 3
    assert [row["run"] for row in earlier_verdicts(tmp_path, "a", "football")] == ["football", "football"]
    assert len(earlier_verdicts(tmp_path, "b", "football")) == 3
    assert earlier_verdicts(tmp_path, "a", "stories") == []
