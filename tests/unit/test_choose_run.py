"""A sweep's run is chosen on the validation split, and no other run of the sweep is promoted."""

import json
import re
from pathlib import Path

import pytest

from scripts.common.checksums import recorded_inputs
from scripts.common.files import read_json
from scripts.score.choose_run import best
from scripts.score.choose_run import main as choose
from scripts.score.decide_verdict import main as decide
from scripts.score.score_answers import main as score
from tests.benchmarks.statistics.bench_sweep import promotions
from tests.support.pages import Page
from tests.support.score_fixtures import (
    SCORE,
    answer_rows,
    babble,
    first_half,
    gate,
    judge_run,
    likelihood_rows,
    same,
    write_rows,
)
from tests.support.score_pages import write_board

# The expected answers after a change, and the perplexity; the second run has the better answers.
RUNS = {"cards-r4": (first_half, 9.0), "cards-r8": (same, 9.0), "cards-r16": (babble, 60.0)}


@pytest.fixture
def results(tmp_path) -> Path:
    """The results of three runs of a sweep on the validation split."""
    for run, (change, perplexity) in RUNS.items():
        folder = tmp_path / "runs" / run / "validation"
        words = [write_rows(folder / "answers/bf16.jsonl", answer_rows("fr", change))]
        words += [write_rows(folder / "likelihood/bf16.jsonl", likelihood_rows("fr", perplexity))]
        words += ["--run", run, "--variant", "bf16", "--scores", folder / "scores/bf16.json"]
        words += ["--errors", folder / "errors/bf16.jsonl"]
        assert score([*map(str, words), "--settings", json.dumps({"language": "fr", "score": SCORE})]) == 0
        write_rows(tmp_path / "runs" / run / "training.json", [{"diverged": None}])
    return tmp_path


def chosen(results: Path, select: str | None = None, status: int = 0) -> dict:
    """Choose a run with the real step; return the choice."""
    path = results / "sweeps/cards/choice.json"
    facts = {run: {"variant": "bf16", "trained_by": run} for run in RUNS}
    settings = json.dumps({"runs": facts, "select": select})
    words = [str(results), "--sweep", "cards", "--choice", str(path), "--settings", settings]
    assert choose(words) == status
    return read_json(path) if status == 0 else {}


def test_the_best_run_by_the_ranking_metric_is_chosen_the_first_of_equal_ones(results):
    found = chosen(results)
    assert (found["sweep"], found["metric"], found["chosen"]) == ("cards", "perplexity_per_character", "cards-r4")
    assert [row["run"] for row in found["runs"]] == list(RUNS)
    assert all(row["low"] < row["value"] < row["high"] and row["n"] == 8 for row in found["runs"])
    read = {
        path.relative_to(results.resolve()).as_posix() for path in recorded_inputs(results / "sweeps/cards/choice.json")
    }
    assert read == {f"runs/{run}/{name}" for run in RUNS for name in ("validation/scores/bf16.json", "training.json")}


@pytest.mark.parametrize(("select", "run"), [("chrf", "cards-r8"), ("character_error_rate", "cards-r8")])
def test_the_metric_that_select_names_decides_in_its_better_direction(results, select, run):
    assert chosen(results, select)["chosen"] == run


def test_a_run_without_a_value_is_not_chosen_and_a_metric_that_no_run_has_is_one_line(results, capfd):
    path = results / "runs/cards-r4/validation/scores/bf16.json"
    scores = read_json(path)
    scores["metrics"]["perplexity_per_character"] = None
    scores["reasons"]["perplexity_per_character"] = "undefined"
    write_rows(path, [scores])
    found = chosen(results, "perplexity_per_character")
    assert (found["chosen"], found["runs"][0]["value"], found["runs"][0]["reason"]) == ("cards-r8", None, "undefined")
    chosen(results, "cost_per_1000", status=1)
    assert (
        "no run of the sweep 'cards' has a value of cost_per_1000 on the validation split (score.price_per_hour is not "
        "given); set runs.cards.select to a metric that has one"
    ) in capfd.readouterr().err
    assert best([None, 2.0, 1.0, 1.0], "chrf") == 1
    assert best([None, 2.0, 1.0, 1.0], "perplexity") == 2


LOST = {"diverged": {"step": 9, "kept_step": 5, "reason": "its loss is no longer finite"}}


def without(results, run, *metrics):
    """Take values of metrics from a run's scores."""
    path = results / f"runs/{run}/validation/scores/bf16.json"
    scores = read_json(path)
    scores["metrics"].update(dict.fromkeys(metrics))
    write_rows(path, [scores])


def test_without_select_the_first_ranking_metric_decides_that_all_runs_have_that_did_not_diverge(results):
    without(results, "cards-r16", "perplexity_per_character")
    assert chosen(results)["metric"] == "chrf"
    write_rows(results / "runs/cards-r16/training.json", [LOST])
    assert chosen(results)["metric"] == "perplexity_per_character"
    without(results, "cards-r4", "perplexity_per_character", "chrf", "rouge_l")
    assert (chosen(results)["metric"], chosen(results)["chosen"]) == ("perplexity_per_character", "cards-r8")


def test_a_training_that_diverged_is_not_chosen_unless_all_did(results):
    for run, other in (("cards-r4", "cards-r8"), ("cards-r8", "cards-r16"), ("cards-r16", "cards-r4")):
        write_rows(results / "runs" / run / "training.json", [LOST])
        found = chosen(results)
        assert found["chosen"] == other
        assert "the training diverged at step 9" in {row["run"]: row["diverged"] for row in found["runs"]}[run]


EASY, FAILED = {"a": gate(threshold=1)}, {"a": gate("chrf", "below", 1, on_failure="rollback")}


@pytest.mark.parametrize(
    ("run", "gates", "word", "reason"),
    [
        ("cards-r4", EASY, "promote", "its gate passed"),
        ("cards-r8", EASY, "hold", "the sweep chose cards-r4 on the validation split"),
        ("cards-r8", FAILED, "rollback", "clearly failed: a"),
    ],
)
def test_a_run_that_its_sweep_did_not_choose_is_never_promoted_and_no_rollback_gets_milder(
    results, run, gates, word, reason
):
    chosen(results)
    folder = judge_run(results, run, "fr", {"bf16": answer_rows("fr")}, gates)
    settings = json.dumps(
        {"gates": gates, "shipped": "bf16", "bootstrap": 200, "seed": 0, "dataset": "d", "group_by": None}
    )
    words = [folder / "scores/bf16.json", "--run", run, "--base", results / "models/base/manifest.json"]
    words += ["--choice", results / "sweeps/cards/choice.json", "--verdict", folder / "verdict.json"]
    assert decide([*map(str, words), "--settings", settings]) == 0
    decided = read_json(folder / "verdict.json")
    assert (decided["verdict"], decided["reason"]) == (word, reason)
    assert decided["chosen"] == {"run": "cards-r4", "metric": "perplexity_per_character"}


def test_the_leaderboard_shows_what_a_sweep_chose_and_from_which_values(results):
    chosen(results, "chrf")
    for run, (change, _) in RUNS.items():
        judge_run(results, run, "fr", {"bf16": answer_rows("fr", change)}, EASY)
    write_board(results, {run: ["bf16"] for run in RUNS}, sweeps=("cards",))
    text = " ".join(Page((results / "leaderboard.html").read_text(encoding="utf-8")).text.split())
    table = text[text.index("Sweeps") : text.index("How to read this")]
    assert "On the 8 records of the validation split." in table
    assert re.findall(r"cards-r\d+", table) == ["cards-r8", "cards-r4", "cards-r16"]
    assert table.count("✔ chosen") == 1
    assert "cards-r8 ✔ chosenbf16 100.0" in table
    write_board(results, {run: ["bf16"] for run in RUNS})
    assert "Sweeps" not in (results / "leaderboard.html").read_text(encoding="utf-8")


def test_of_thirty_runs_that_are_no_better_the_chosen_one_is_rarely_promoted_and_one_of_all_often():
    each, chosen_first = promotions(runs=30, trials=60, resamples=1000)
    assert each > 0.4
    assert chosen_first < 0.12
