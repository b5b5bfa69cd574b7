"""The leaderboard tells the spread between seeds from that between records."""

import copy

import numpy as np
import pytest

from scripts.common.files import read_json
from scripts.config.load import load_config
from scripts.score.seeds import seed_tables
from scripts.workflow.settings import seed_groups
from tests.support.pages import Page
from tests.support.score_fixtures import babble, first_half, gate, make_run, same
from tests.support.score_pages import write_board


def test_runs_that_differ_only_in_their_seed_are_a_group():
    run = {"dataset": "d", "model": "m"}
    runs = {
        "a": {**run, "sweep": {"seed": [1, 2, 3]}},
        "b": {**run, "sweep": {"seed": [1, 2], "lora.r": [8, 32]}},
        "alone": {**run, "lora": {"r": 64}},
    }
    datasets = {"d": {"files": ["x.jsonl"], "format": "messages"}}
    models = {"m": {"embedded": {}}}
    config = load_config({"datasets": datasets, "models": models, "runs": runs})
    groups = seed_groups(config.runs)
    assert groups == [["a-seed1", "a-seed2", "a-seed3"], ["b-seed1-r8", "b-seed2-r8"], ["b-seed1-r32", "b-seed2-r32"]]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The results of three runs, which stand for three seeds, with a gate each, and of two without."""
    folder = tmp_path_factory.mktemp("work") / "results"
    gates = {"good": gate(threshold=10.0), "again": gate(threshold=20.0), "fresh": gate("rouge_l", "above", 0.5)}
    for seed, change in enumerate((same, first_half, babble), 1):
        make_run(folder, f"r-seed{seed}", "fr", {"base": (babble, 60.0), "q8_0": (change, 9.0 + seed)}, gates)
    for seed in (1, 2):
        make_run(folder, f"bare-seed{seed}", "fr", {"base": (babble, 60.0), "q8_0": (same, 9.0 + seed)})
    return folder


def read_runs(folder, *names):
    """Return scores by run and variant, and verdicts by run."""
    runs = {name: folder / "runs" / name for name in names}
    scores = {
        (name, variant): read_json(run / f"scores/{variant}.json")
        for name, run in runs.items()
        for variant in ("base", "q8_0")
    }
    return scores, {name: read_json(run / "verdict.json") for name, run in runs.items()}


SEEDS = ["r-seed1", "r-seed2", "r-seed3"]


def test_each_gate_metric_has_mean_deviation_and_half_width(results):
    scores, verdicts = read_runs(results, *SEEDS)
    [table] = seed_tables([SEEDS], scores, verdicts, dict.fromkeys(SEEDS))
    assert (table["runs"], table["diverged"]) == (SEEDS, [])
    chrf = [scores[name, "q8_0"]["metrics"]["chrf"] for name in SEEDS]
    values, widths = [found["value"] for found in chrf], [(found["high"] - found["low"]) / 2 for found in chrf]
    first = table["rows"][0]
    assert (first["title"], first["variant"], first["seeds"]) == ("chrF", "q8_0", 3)
    assert float(first["mean"]) == pytest.approx(np.mean(values), rel=0.01)
    assert float(first["deviation"]) == pytest.approx(np.std(values, ddof=1), rel=0.01)
    assert float(first["half_width"]) == pytest.approx(np.mean(widths), rel=0.01)
    assert [row["title"] for row in table["rows"]] == ["chrF", "ROUGE-L"]
    assert table["rows"][1]["deviation"].endswith(" pp")


def test_what_has_no_interval_or_value_and_what_diverged_is_left_out_and_named(results):
    scores, verdicts = read_runs(results, *SEEDS)
    scores, verdicts = copy.deepcopy(scores), copy.deepcopy(verdicts)
    for name in SEEDS:
        scores[name, "q8_0"]["metrics"]["chrf"]["high"] = None
    scores["r-seed1", "q8_0"]["metrics"]["rouge_l"] = None
    verdicts["r-seed3"]["diverged"] = "the training diverged"
    [table] = seed_tables([SEEDS], scores, verdicts, dict.fromkeys(SEEDS))
    assert table["diverged"] == ["r-seed3"]
    assert [(row["title"], row["seeds"], row["half_width"]) for row in table["rows"]] == [("chrF", 2, "no interval")]
    verdicts["r-seed2"]["diverged"] = "the training diverged"
    [table] = seed_tables([SEEDS], scores, verdicts, dict.fromkeys(SEEDS))
    assert (table["diverged"], table["rows"]) == (SEEDS[1:], [])


def test_the_page_has_a_table_for_each_group_and_takes_the_ranking_metric_where_there_are_no_gates(results):
    bare = ["bare-seed1", "bare-seed2"]
    write_board(results, {name: ["base", "q8_0"] for name in (*SEEDS, *bare)}, seeds=[SEEDS, bare])
    text = Page((results / "leaderboard.html").read_text(encoding="utf-8")).text
    assert "standard deviation between seeds" in text
    assert "two different uncertainties" in text
    assert all(", ".join(group) in text for group in (SEEDS, bare))
    _, _, table = text.partition(", ".join(bare))
    assert "Perplexity per character of q8_0" in " ".join(table.split())
    write_board(results, {name: ["base", "q8_0"] for name in SEEDS})
    assert "two different uncertainties" not in (results / "leaderboard.html").read_text(encoding="utf-8")
