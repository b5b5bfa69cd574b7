"""A dry run says how many test records gates on rates and percentiles need."""

import pytest
import yaml
from scipy.special import stdtrit

from scripts.config.gates import Gate
from scripts.config.load import load_config
from scripts.predict import predict_spans
from scripts.score.counts import clopper_pearson
from scripts.score.intervals import interval
from scripts.score.metrics import METRICS
from scripts.workflow.gate_sizes import TIMED, gate_lines, most_exceptions, needs, student_t
from tests.support.project import ROOT


@pytest.mark.parametrize(
    ("metric", "comparison", "threshold", "records", "said"),
    [
        ("exact_match", "above", 0.955, None, "needs at least 81 test records"),
        ("exact_match", "above", 0.955, 72, "can't pass with 72 test records; it needs at least 81"),
        ("exact_match", "above", 0.9, 200, "passes with at most 11 of 200 test records wrong"),
        ("assistant_phrase_rate", "below", 0.05, 72, "passes with none of 72 test records answered so"),
        ("seconds_p95", "below", 5, 26, "can't pass with 26 test records; it needs at least 72"),
        ("seconds_p95", "below", 5, 108, "passes with none of 108 test records over the threshold"),
        ("exact_match", "above", 1, 50, "can't pass: no rate lies beyond its threshold"),
        ("human_test_rate", "above", 0.9, None, "needs people's votes on at least 36 test records"),
        ("human_test_rate", "above", 0.9, 200, "needs people's votes on at least 36 test records"),
        ("human_test_rate", "above", 0.9, 28, "can't pass with 28 test records; it needs at least 36"),
    ],
)
def test_a_gate_says_what_it_needs(metric, comparison, threshold, records, said):
    gate = Gate(metric=metric, comparison=comparison, threshold=threshold)
    assert needs(gate, METRICS[metric], records) == said


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        (4, "can't pass with 72 test records in 4 groups; it needs at least 5 groups"),
        (18, "can't pass with 72 test records in 18 groups; it needs at least 81"),
        (72, "passes with none of 72 test records wrong"),
    ],
)
def test_records_of_few_groups_count_less(groups, said):
    gate = Gate(metric="exact_match", comparison="above", threshold=0.95)
    assert needs(gate, METRICS["exact_match"], 72, groups) == said
    low, _ = interval("yes_no", [[1]] * 72, [str(index * groups // 72) for index in range(72)], True).limits()
    assert (groups >= 5 and low > 0.95) == said.startswith("passes")


def test_quantiles_and_the_timed_calls_are_those_that_the_steps_use():
    assert TIMED == predict_spans.TIMED
    for degrees in (4, 12, 100):
        assert student_t(degrees, 0.025) == pytest.approx(float(stdtrit(degrees, 0.975)), rel=0.01)


def test_the_exceptions_are_those_of_the_exact_interval():
    for records in (40, 200, 1000):
        most = most_exceptions(records, 0.9, 0.025)
        worse, best = (clopper_pearson(records - wrong, records, 0.95)[0] for wrong in (most + 1, most))
        assert worse < 0.9 < best


def test_the_lines_count_the_test_records_that_are_there(tmp_path, monkeypatch):
    path = ROOT / "config/config.yaml"
    config = load_config(yaml.safe_load(path.read_text(encoding="utf-8")), [str(path)], (ROOT,), {})
    monkeypatch.chdir(tmp_path)
    assert list(gate_lines(config))[-1] == "  captions_assistant: needs at least 36 test records"
    test = tmp_path / "results/datasets/captions/test.jsonl"
    test.parent.mkdir(parents=True)
    test.write_text("{}\n" * 40)
    assert list(gate_lines(config))[-1] == "  captions_assistant: passes with none of 40 test records answered so"
