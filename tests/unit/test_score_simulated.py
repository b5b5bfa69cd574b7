"""Verdicts and marks are seldom wrong where nothing differs, however many there are."""

import pytest

from tests.benchmarks.statistics import bench_verdicts as simulated


def test_ten_rollback_gates_roll_back_no_more_often_than_one():
    assert simulated.rollbacks(10, 150) <= 0.08


def test_a_page_of_forty_marks_has_one_wrong_mark_in_twenty_pages():
    assert simulated.marked_pages(40, 100) <= 0.12


def test_looking_often_promotes_by_chance_unless_the_looks_are_declared():
    assert simulated.promotions(20, 1, 200) > 0.08
    assert simulated.promotions(20, 20, 200) <= 0.025


@pytest.mark.parametrize("kind", simulated.POWERS)
def test_the_records_that_a_gate_asks_for_decide_it_in_four_of_five_cases(kind):
    _, power = simulated.power_of_needed(kind, 200)
    assert 0.7 <= power <= 0.92
