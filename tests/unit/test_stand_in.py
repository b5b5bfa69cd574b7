"""A run on a stand-in shows that the path works: it is never promoted, and nothing names the real base model."""

from pathlib import Path

import pytest

from scripts.common.files import read_json
from scripts.score.gates import verdict
from scripts.score.print_summary import main as summary
from scripts.score.stand_in import NOTE
from tests.support.score_fixtures import babble, gate, make_run, same
from tests.support.score_pages import write_board, write_report

REAL = "llama-3.1-8b-instruct"  # the recipe's key, which stays when a stand-in takes the model's place
VARIANTS = {"base": (babble, 60.0), "q8_0": (same, 9.0)}
MODELS = {"tried": REAL, "real": "phi-3-mini"}


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """Two runs with the same answers: one on a stand-in, one on a model from the hub."""
    folder = tmp_path_factory.mktemp("work") / "results"
    for (run, model), source in zip(MODELS.items(), ("embedded", "hub"), strict=True):
        make_run(folder, run, "fr", VARIANTS, {"good": gate()}, model=model, source=source)
    return folder


def test_a_run_on_a_stand_in_is_held_though_its_gate_passed(results):
    tried, real = (read_json(results / f"runs/{run}/verdict.json") for run in MODELS)
    assert tried["gates"] == real["gates"]
    assert (tried["verdict"], tried["reason"], tried["stand_in"]) == ("hold", f"{NOTE}; its gate passed", True)
    assert (real["verdict"], real["reason"], real["stand_in"]) == ("promote", "its gate passed", False)


def test_a_stand_in_does_not_make_a_rollback_milder(results):
    scores = {name: read_json(results / f"runs/tried/scores/{name}.json") for name in VARIANTS}
    bad = {"good": gate(threshold=101, on_failure="rollback")}
    decided = verdict("tried", bad, "q8_0", scores, 200, 0, stand_in=True)
    assert (decided["verdict"], decided["reason"]) == ("rollback", f"{NOTE}; clearly failed: good")


def test_report_leaderboard_and_summary_say_that_only_the_path_was_tried_and_do_not_name_the_real_base(results, capsys):
    tried, real = (
        " ".join(write_report(results, run, list(VARIANTS), model=model).text.split()) for run, model in MODELS.items()
    )
    assert "built on this machine to test the workflow" in tried
    assert "base stand-in (mistral)" in tried
    assert "base phi-3-mini" in real
    assert "stand-in" not in real
    facts = {run: {"dataset": run, "model": model} for run, model in MODELS.items()}
    rows = write_board(results, {run: list(VARIANTS) for run in MODELS}, **facts)
    models = {row["run"]: (row["model"], row["verdict"]) for row in rows}
    assert models == {"tried": ("stand-in (mistral)", "hold"), "real": ("phi-3-mini", "promote")}
    board = " ".join((results / "leaderboard.html").read_text(encoding="utf-8").split())
    assert "The base model of tried is a stand-in" in board
    assert "lora of phi-3-mini on real" in board
    assert summary([str(results)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"tried hold: {NOTE}; its gate passed" in printed
    assert "real promote: its gate passed" in printed
    assert not [text for text in (tried, board, printed) if REAL in text]
