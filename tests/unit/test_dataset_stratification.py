"""Another seed is proposed for what chance does not explain, and never at the cost of a span's label."""

import numpy as np
import pytest

from scripts.common.records import SPLITS
from scripts.dataset.splits import key_of, split_numbers
from scripts.dataset.stratification import LabelsOf, stratification

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
WANTED = np.array([SHARES[name] for name in SPLITS])


def numbered(count: int) -> np.ndarray:
    """Return the keys of so many groups of one record each."""
    return np.array([key_of(str(number), b"") for number in range(count)], np.uint64)


def labels_of(label: list[int], spans: list[frozenset[str]] | None = None) -> LabelsOf:
    spans = spans or [frozenset()] * len(label)
    sets = list(dict.fromkeys(spans))
    names = sorted(frozenset().union(*sets))
    members = np.array([[name in found for found in sets] for name in names], bool).reshape(len(names), len(sets))
    return LabelsOf(np.array(label), max(label) + 1, np.array([sets.index(found) for found in spans]), members)


def facts(keys: np.ndarray, labels: LabelsOf, seed: int) -> dict:
    return stratification(keys, labels, split_numbers(keys, SHARES, seed), SHARES | {"seed": seed})


def test_for_single_records_the_usual_distance_is_the_quantile_of_chi_square():
    labels = labels_of([number % 4 for number in range(600)])
    # 15.507: 95 % of chi-square with 4 labels x (3 splits - 1) degrees of freedom, from the tables.
    assert facts(numbered(600), labels, 0)["usual_distance"] == pytest.approx(15.507, rel=0.06)


def test_chance_is_left_alone_and_what_it_does_not_explain_is_not():
    keys, labels = numbered(400), labels_of([number % 4 for number in range(400)])
    found = [facts(keys, labels, seed) for seed in range(60)]
    for fit in found:
        explained = fit["distance"] <= fit["usual_distance"] and fit["shares_off"] <= fit["best_shares_off"]
        assert (fit["worthwhile"], fit["best_distance"] <= fit["distance"]) == (not explained, True)
    assert 0 < sum(fit["worthwhile"] for fit in found) < 10


@pytest.mark.parametrize(
    ("labels", "fault"),
    [
        (labels_of([int(number < 4) for number in range(200)]), "labels_missing_in_a_split"),
        (labels_of([0] * 24), "shares_off"),
        (labels_of([0] * 120, [*[frozenset({"RARE"})] * 8, *[frozenset()] * 112]), "span_labels_missing_in_a_split"),
    ],
)
def test_a_label_that_misses_a_split_and_shares_far_from_the_wanted_are_worth_another_seed(labels, fault):
    keys = numbered(len(labels.label))
    fit = next(fit for fit in (facts(keys, labels, seed) for seed in range(400)) if fit[fault])
    assert fit["worthwhile"]
    assert fit[f"best_{fault}"] == 0


def test_the_proposed_seed_loses_no_span_label_that_a_split_has():
    keys = numbered(120)
    spans = [frozenset({"RARE"} if number < 6 else {"EMAIL"} if number % 3 else ()) for number in range(120)]
    labels = labels_of([number % 2 for number in range(120)], spans)

    def missing(seed: int) -> bool:
        return labels.spans_missing(split_numbers(keys, SHARES, seed), WANTED).any()

    blind = facts(keys, labels_of(labels.label.tolist()), 0)["best_seed"]
    assert missing(blind), "a search that does not look at spans would lose RARE"
    present = next(seed for seed in range(400) if not missing(seed))
    fit = facts(keys, labels, present)
    assert fit["best_seed"] != present
    assert not missing(fit["best_seed"])
