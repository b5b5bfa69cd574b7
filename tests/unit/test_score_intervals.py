"""Intervals hold the truth as often as they say, also for groups, counts, skewed values, and few records."""

import math

import numpy as np
import pytest

from scripts.score.counts import mcnemar, rejection_power, tango
from scripts.score.intervals import difference, interval
from tests.benchmarks.statistics import bench_coverage as simulated
from tests.benchmarks.statistics.bench_votes import rate as votes_of
from tests.benchmarks.statistics.simulate import rows

TRIALS = 300


@pytest.mark.parametrize(
    ("found", "least", "most"),
    [
        (lambda: simulated.grouped_mean(20, 10, TRIALS), 0.92, 0.98),
        (lambda: simulated.grouped_mean(4, 50, TRIALS), 0.9, 0.99),
        (lambda: simulated.grouped_mean(20, 10, TRIALS, counted=False), 0.6, 0.78),  # what the groups are for
        (lambda: simulated.grouped_share(20, 10, 0.8, TRIALS), 0.92, 0.99),
        (lambda: simulated.pii_f1(13, TRIALS), 0.88, 1),
        (lambda: simulated.skewed_mean(24, TRIALS), 0.88, 0.97),
        (lambda: simulated.length_variation(24, TRIALS), 0.88, 0.98),
        (lambda: simulated.length_variation(50, TRIALS), 0.9, 0.98),
        (lambda: simulated.proportion(50, 0.95, TRIALS), 0.95, 1),
        (lambda: simulated.paired_proportions(50, TRIALS), 0.91, 0.99),
        (lambda: simulated.percentile(72, TRIALS), 0.92, 1),
        (lambda: votes_of(1, 1, 0, 0.9, TRIALS), 0.93, 1),
        (lambda: votes_of(2, 2, 0, 0.9, TRIALS), 0.92, 0.99),
        (lambda: votes_of(6, 6, 0.1, 0.9, TRIALS), 0.94, 1),
        (lambda: votes_of(6, 6, 0.1, 0.9, TRIALS, by=False), 0.7, 0.88),  # what the readers are for
    ],
)
def test_intervals_hold_the_truth_as_often_as_they_say(found, least, most):
    assert least <= found()["held"] <= most


def test_an_interval_of_normal_values_is_about_as_wide_as_students_t():
    values = np.random.default_rng(1).normal(10, 2, size=40)
    low, high = interval("mean", rows(values)).limits()
    half = 2.0227 * values.std(ddof=1) / math.sqrt(40)  # the 97.5 % quantile with 39 degrees of freedom
    assert (high - low) / 2 == pytest.approx(half, rel=0.1)
    assert interval("mean", rows(values), resamples=0).limits()[0] == pytest.approx(values.mean() - half, rel=1e-4)


def test_paired_differences_are_narrower_than_unpaired_ones():
    rng = np.random.default_rng(5)
    easy = rng.normal(0, 5, 30)
    base, ours = easy + 10, easy + 12 + rng.normal(0, 1, 30)
    low, high = difference("mean", rows(ours), rows(base)).limits()
    single_low, single_high = interval("mean", rows(ours)).limits()
    assert low < 2 < high
    assert high - low < (single_high - single_low) / 3


def test_a_difference_is_one_of_records_of_both_sides_and_relative_a_share_of_the_baseline():
    ours, base = [[2.0, 1.0]] * 5, [[4.0, 1.0]] * 5
    assert difference("ratio", ours, base, relative=True).value == pytest.approx(-0.5)
    assert difference("ratio", ours, base).value == pytest.approx(-2)
    assert difference("ratio", ours, [[0.0, 1.0]] * 5, relative=True) is None
    found = difference("mean", [[1.0], None, [3.0]], [[0.0], [5.0], None])
    assert (found.value, found.n) == (1.0, 1)
    assert difference("mean", [None], [[1.0]]) is None


def test_a_count_is_exact_and_never_less_certain_for_a_better_count():
    lows = [interval("yes_no", rows(np.arange(72) < hits), None, True).limits()[0] for hits in (70, 71, 72)]
    assert lows == pytest.approx([0.90325, 0.92502, 0.025 ** (1 / 72)], abs=1e-4)
    assert interval("yes_no", rows([0] * 10), None, True).limits() == (0, pytest.approx(1 - 0.025**0.1))
    # In groups as well: 20 groups of 10, of which no, one or two records are wrong.
    names = [str(index // 10) for index in range(200)]
    lows = [interval("yes_no", rows(np.arange(200) >= wrong), names, True).limits()[0] for wrong in (2, 1, 0)]
    assert lows == sorted(lows)


def test_differences_of_counts_are_exact():
    assert (mcnemar(0, 1), mcnemar(0, 6)) == (1, pytest.approx(2 / 64))
    assert tango(12, 2, 50, 0.95) == pytest.approx((0.0611, 0.3447), abs=1e-4)  # of the likelihood maximized
    same = difference("yes_no", rows([1, 0] * 50), rows([1, 0] * 50), None, True)
    assert same.limits()[0] < 0 < same.limits()[1]
    worse = difference("yes_no", rows([0] + [1] * 199), rows([1] * 200), None, True)
    assert worse.side(0) == 0
    # Tango's interval of 5 gained and none lost excludes 0, McNemar's exact test (p = 0.0625) does not.
    gained = difference("yes_no", rows(np.arange(100) < 5), rows([0] * 100), None, True)
    assert tango(5, 0, 100, 0.95)[0] > 0 == gained.limits()[0] == gained.side(0)


def test_equal_values_are_no_certainty():
    assert interval("mean", rows([0, 0]), None, True).limits() == (0, pytest.approx(1 - 0.025**0.5))
    assert interval("mean", rows([0.5] * 20), None, True).limits() == pytest.approx(
        (0.5 * 0.8316, 1 - 0.5 * 0.8316), abs=1e-3
    )
    assert interval("mean", rows([3.0] * 20)).limits() == (None, None)
    # One value in 24 is not zero: resamples without it have no spread, so they set no upper limit of their own.
    low, high = interval("mean", rows([0.05] + [0] * 23), None, True).limits()
    assert 0 <= low < 0.003
    assert high > 0.14


def test_one_vote_on_each_text_is_a_count_of_texts():
    yes = np.arange(72) < 70
    once = [[each, 1, 0, 0] if place % 2 else [0, 0, each, 1] for place, each in enumerate(yes.astype(int).tolist())]
    assert interval("votes", once, None, True).row() == interval("yes_no", rows(yes), None, True).row()
    assert interval("votes", [[0, 0], None, [1, 0]], None, True) is None


@pytest.mark.parametrize("readers", [1, 3, 4, 5, 12])
def test_more_votes_on_the_same_texts_are_no_more_texts_if_all_agree(readers):
    texts = interval("yes_no", rows([1] * 40), None, True)
    votes = interval("votes", [[1, 1] * readers] * 40, None, True)
    assert votes.value == 1
    assert votes.limits()[0] == pytest.approx(texts.limits()[0])
    assert votes.needed(0.95) == texts.needed(0.95)
    assert votes.smallest(0.9, True) == texts.smallest(0.9, True)
    groups = [*"abcdefgh"] * 5
    in_groups = [
        interval("votes", [[1, 1] * readers] * 40, groups, True),
        interval("yes_no", rows([1] * 40), groups, True),
    ]
    assert in_groups[0].limits() == pytest.approx(in_groups[1].limits())
    assert interval("votes", [[1, 1] * readers] * 36, None, True).limits()[0] > 0.9  # what gate_sizes.py promises
    # A vote against is never more certain than none.
    other = interval("votes", [[0, 1] + [1, 1] * (readers - 1), *[[1, 1] * readers] * 39], None, True)
    assert other.limits()[0] <= votes.limits()[0]


def test_from_five_readers_on_an_interval_is_about_other_readers_too_and_never_narrower():
    lenient = [[1, 1] * 3 + [0, 1] * 2, [1, 1] * 4 + [0, 1]] * 30
    by_record = interval("votes", [[sum(row[::2]), 5] for row in lenient], None, True).limits()
    by_both = interval("votes", lenient, None, True).limits()
    assert by_both[1] - by_both[0] > 3 * (by_record[1] - by_record[0])
    # More records don't say how other readers would vote.
    differing = interval("votes", lenient, None, True)
    assert (differing.by_readers, differing.needed(0.9), interval("votes", lenient).needed(0.9)) == (True, None, None)
    # Readers without an effect take nothing: neither variance nor degrees of freedom.
    table = np.ones((20, 10))
    table[:, 0::2] += np.add.outer(np.arange(20), np.arange(5)) % 5
    table[:10, 0::2] += 2
    low, high = interval("votes", table.tolist()).limits()
    half = 2.0930 * np.std(table[:, 0::2].sum(axis=1) / 5, ddof=1) / math.sqrt(20)  # 97.5 %, 19 degrees of freedom
    assert (high - low) / 2 == pytest.approx(half, rel=1e-4)
    assert interval("votes", (table[:, :2]).tolist(), ["a"] * 20).limits() == (None, None)


def test_a_difference_of_votes_is_one_of_the_records_that_both_sides_have_votes_on():
    ours, theirs = [[1, 1, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0], None], [[0, 1], [1, 1], [0, 1], [1, 1]]
    found = difference("votes", ours, theirs, None, True)
    assert (found.value, found.n) == (pytest.approx(4 / 4 - 1 / 3), 3)


def test_percentiles_need_as_many_records_as_their_order_statistics():
    seconds = np.linspace(1, 2, 72)
    assert interval("p95", rows(seconds)).limits()[1] == pytest.approx(2)
    low, high = interval("p95", rows(seconds[:71])).limits()
    assert (low is None, high) == (False, None)
    low, high = interval("p50", rows(range(1, 26))).limits()
    assert (low, high) == (8, 18)  # the usual table for n = 25


def test_one_record_or_one_group_has_a_value_and_no_interval_and_what_is_not_defined_none_at_all():
    found = interval("mean", [[4.0]])
    assert found.row() == {"value": 4.0, "low": None, "high": None, "n": 1, "groups": None}
    assert interval("mean", rows([4, 5, 6]), ["a"] * 3).limits() == (None, None)
    undefined = {"variation": [[4.0, 16.0]], "mean": [None], "ratio": [[0.0, 0.0]] * 3, "exp_ratio": [[1e6, 1.0]] * 3}
    for kind, values in undefined.items():
        assert interval(kind, values) is None


def test_a_record_without_a_group_is_one_of_its_own_and_groups_of_one_are_no_groups():
    values = rows(np.random.default_rng(0).normal(size=6))
    assert interval("mean", values, ["a", "a", "b", "b", None, None]).groups == 4
    assert interval("mean", values, list("abcdef")).row() == interval("mean", values).row()


def test_the_records_asked_for_give_the_power_that_was_promised():
    found = interval("yes_no", rows(np.arange(100) < 90), None, True)
    needed = found.needed(0.8)
    assert (
        rejection_power(np.array([needed]), 0.8, 0.9, 0.95)[0]
        >= 0.8
        > rejection_power(np.array([needed - 2]), 0.8, 0.9, 0.95)[0]
    )
    assert found.smallest(0.8, True) == pytest.approx(0.105, abs=0.01)
    assert interval("yes_no", rows([1] * 20), None, True).needed(0.955) == 81  # 0.025 ** (1 / 81) > 0.955
    # A mean: (2 + 0.84)^2 standard errors, for a distance of half a standard deviation.
    values = np.random.default_rng(3).normal(size=50)
    mean = interval("mean", rows((values - values.mean()) / values.std(ddof=1) + 0.5), resamples=0)
    assert mean.needed(0.0) == pytest.approx(34, abs=1)
    grouped = interval("mean", rows(np.repeat(values, 4)), [str(index // 4) for index in range(200)], resamples=0)
    assert grouped.needed(1.0) == pytest.approx(4 * interval("mean", rows(values), resamples=0).needed(1.0), rel=0.1)


def test_all_metrics_share_their_resamples_and_the_seed_decides():
    values = np.random.default_rng(2).lognormal(size=30)
    limits = [interval("mean", rows(values), resamples=500, seed=seed).limits() for seed in (0, 0, 1)]
    assert limits[0] == limits[1] != limits[2]
