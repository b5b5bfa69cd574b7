"""Intervals: right values, right coverage, honest about few records."""

import math

import numpy as np
import pytest

from scripts.score.bootstrap import difference, estimate


def rows(values) -> list:
    return [[float(value)] for value in values]


def test_an_interval_of_a_mean_is_as_wide_as_students_t():
    values = np.random.default_rng(1).normal(10, 2, size=40)
    found = estimate("mean", rows(values), resamples=8000)
    half = 2.0227 * values.std(ddof=1) / math.sqrt(40)  # the 97.5 % quantile with 39 degrees of freedom
    assert found.value == pytest.approx(values.mean())
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.06)
    assert found.n == 40


@pytest.mark.parametrize(
    ("kind", "draw", "truth", "least"),
    [
        ("mean", lambda rng: rows(rng.normal(5, 2, 25)), 5, 0.91),
        ("mean", lambda rng: rows(rng.normal(5, 2, 6)), 5, 0.92),  # plain percentiles hold it in 86 of 100
        ("exp_ratio", lambda rng: [[k * rng.normal(2, 0.4), k] for k in rng.integers(5, 30, 25)], math.exp(2), 0.91),
        ("p50", lambda rng: rows(rng.normal(3, 1, 25)), 3, 0.91),
    ],
)
def test_about_95_of_100_intervals_hold_the_truth(kind, draw, truth, least):
    rng = np.random.default_rng(11)
    found = [estimate(kind, draw(rng), resamples=300, seed=trial) for trial in range(300)]
    assert least <= np.mean([each.low <= truth <= each.high for each in found]) <= 0.99


def test_paired_differences_hold_the_truth_and_are_narrower_than_unpaired_ones():
    rng = np.random.default_rng(5)
    paired, single = [], []
    for trial in range(300):
        easy = rng.normal(0, 5, 30)
        base, ours = easy + 10, easy + 12 + rng.normal(0, 1, 30)
        paired.append(difference("mean", rows(ours), rows(base), resamples=300, seed=trial))
        single.append(estimate("mean", rows(ours), resamples=300, seed=trial))
    assert 0.91 <= np.mean([each.low <= 2 <= each.high for each in paired]) <= 0.99
    assert sum(each.high - each.low for each in paired) < sum(each.high - each.low for each in single) / 3


def test_a_difference_is_one_of_records_of_both_sides_and_relative_a_share_of_the_baseline():
    ours, base = [[2.0, 1.0]] * 5, [[4.0, 1.0]] * 5
    assert difference("ratio", ours, base, relative=True).value == pytest.approx(-0.5)
    assert difference("ratio", ours, base).value == pytest.approx(-2)
    assert difference("ratio", ours, [[0.0, 1.0]] * 5, relative=True) is None
    found = difference("mean", [[1.0], None, [3.0]], [[0.0], [5.0], None])
    assert (found.value, found.n) == (1.0, 1)
    assert difference("mean", [None], [[1.0]]) is None


@pytest.mark.parametrize("kind", ["mean", "yes_no", "ratio", "exp_ratio", "variation", "p50", "p95", "bleu", "chrf"])
@pytest.mark.parametrize("records", [2, 3, 5])
def test_few_records_give_an_interval(kind, records):
    columns = {"ratio": 2, "exp_ratio": 2, "variation": 2, "bleu": 10, "chrf": 18}.get(kind, 1)
    table = [[float(i % 2 + (column == 1) * i + 1) for column in range(columns)] for i in range(records)]
    if kind == "variation":
        table = [[row[0], row[0] ** 2] for row in table]
    found = estimate(kind, table, resamples=200)
    assert found.low <= found.value <= found.high


def test_one_record_has_a_value_and_no_interval_and_what_is_not_defined_no_estimate():
    found = estimate("mean", [[4.0]])
    assert (found.value, found.low, found.high, found.n) == (4.0, None, None, 1)
    undefined = {"variation": [[4.0, 16.0]], "mean": [None], "ratio": [[0.0, 0.0]] * 3, "exp_ratio": [[1e6, 1.0]] * 3}
    for kind, values in undefined.items():
        assert estimate(kind, values) is None


def test_all_yes_of_few_records_is_no_certainty():
    found = estimate("yes_no", [[1]] * 10)
    assert (found.value, found.high) == (1, 1)
    assert found.low == pytest.approx(0.025**0.1)
    none = estimate("yes_no", [[0]] * 10)
    assert (none.low, none.high) == (0, pytest.approx(1 - 0.025**0.1))
    same = difference("yes_no", [[1], [0]] * 5, [[1], [0]] * 5)
    assert same.low < 0 < same.high
