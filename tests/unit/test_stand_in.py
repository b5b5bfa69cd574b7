"""A run on a stand-in shows that the path works: it is never promoted, and nothing names the real base model."""

import csv
import json
from pathlib import Path

import pytest

from scripts.common.stand_in import NOTE, base_name
from scripts.score.gates import verdict
from scripts.score.print_summary import main as summary
from scripts.score.write_leaderboard import main as leaderboard
from scripts.score.write_run_report import main as report
from tests.support.pages import Page
from tests.support.score_fixtures import babble, make_run

REAL = "llama-3.1-8b-instruct"  # the recipe's key, which stays when a stand-in takes the model's place
VARIANTS = {"base": (babble, 60.0), "q8_0": (lambda text, index: text, 9.0)}


def gate(threshold: float, on_failure: str = "hold") -> dict:
    settings = {"metric": "chrf", "variant": "shipped", "baseline": None, "relative": False, "comparison": "above"}
    return {**settings, "threshold": threshold, "on_failure": on_failure}


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """Two runs with the same answers: one on a stand-in, one on a model from the hub."""
    folder = tmp_path_factory.mktemp("work") / "results"
    make_run(folder, "tried", "fr", VARIANTS, {"good": gate(50)}, REAL, source="embedded")
    make_run(folder, "real", "fr", VARIANTS, {"good": gate(50)}, "phi-3-mini", source="hub")
    runs = [
        {"run": run, "dataset": run, "model": model, "method": "lora", "variants": list(VARIANTS)}
        for run, model in (("tried", REAL), ("real", "phi-3-mini"))
    ]
    words = [str(folder), "--csv", f"{folder}/leaderboard.csv", "--page", f"{folder}/leaderboard.html"]
    assert not leaderboard([*words, "--settings", json.dumps({"runs": runs})])
    return folder


def verdict_of(results: Path, run: str) -> dict:
    return json.loads((results / f"runs/{run}/verdict.json").read_text(encoding="utf-8"))


def page_of(results: Path, run: str, model: str) -> str:
    folder, words = results / "runs" / run, []
    for kind, end in (("scores", "json"), ("answers", "jsonl"), ("errors", "jsonl")):
        words += [f"--{kind}", *[f"{folder}/{kind}/{variant}.{end}" for variant in VARIANTS]]
    words += ["--verdict", f"{folder}/verdict.json", "--manifest", f"{results}/models/{model}/manifest.json"]
    facts = {"run": run, "dataset": run, "model": model, "method": "lora", "strategies": [], "strategy": None}
    assert not report([*words, "--page", f"{folder}/report.html", "--settings", json.dumps(facts)])
    return " ".join(Page((folder / "report.html").read_text(encoding="utf-8")).text.split())


def test_a_run_on_a_stand_in_is_held_though_its_gate_passed(results):
    tried, real = verdict_of(results, "tried"), verdict_of(results, "real")
    assert tried["gates"] == real["gates"]
    assert tried["gates"][0]["passed"]
    assert (tried["verdict"], tried["reason"], tried["stand_in"]) == ("hold", f"{NOTE}; its gate passed", True)
    assert (real["verdict"], real["reason"], real["stand_in"]) == ("promote", "its gate passed", False)


def test_a_stand_in_does_not_make_a_rollback_milder(results):
    scores = {
        name: json.loads((results / f"runs/tried/scores/{name}.json").read_text(encoding="utf-8")) for name in VARIANTS
    }
    decided = verdict("tried", {"good": gate(101, "rollback")}, "q8_0", scores, 200, 0, stand_in=True)
    assert decided["verdict"] == "rollback"
    assert decided["reason"] == f"{NOTE}; clearly failed: good"


def test_reports_call_a_stand_in_by_its_architecture():
    assert base_name(REAL, {"source": "embedded", "architecture": "llama"}) == "stand-in (llama)"
    assert base_name(REAL, {"source": "hub", "architecture": "llama"}) == REAL


def test_the_report_says_that_only_the_path_was_tried_and_does_not_name_the_real_base(results):
    page = page_of(results, "tried", REAL)
    assert "Only the path was tried" in page
    assert "base stand-in (mistral)" in page
    assert REAL not in page
    page = page_of(results, "real", "phi-3-mini")
    assert "base phi-3-mini" in page
    assert "stand-in" not in page


def test_the_leaderboard_says_so_and_names_the_runs(results):
    page = " ".join((results / "leaderboard.html").read_text(encoding="utf-8").split())
    assert "The base model of tried is a stand-in" in page
    assert "lora of stand-in (mistral) on tried" in page
    assert "lora of phi-3-mini on real" in page
    assert REAL not in page
    with open(results / "leaderboard.csv", encoding="utf-8", newline="") as file:
        models = {row["run"]: (row["model"], row["verdict"]) for row in csv.DictReader(file)}
    assert models == {"tried": ("stand-in (mistral)", "hold"), "real": ("phi-3-mini", "promote")}


def test_the_summary_says_so(results, capsys):
    assert summary([str(results)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"tried hold: {NOTE}; its gate passed" in printed
    assert "real promote: its gate passed" in printed
    assert REAL not in printed
