"""A run whose training diverged is rolled back, and the pages on it say why."""

import json

import pytest

from scripts.common.files import read_json
from scripts.score.decide_verdict import main as decide
from scripts.score.print_summary import main as summary
from scripts.score.write_run_report import training_notes
from tests.support.score_fixtures import babble, gate, make_run, same
from tests.support.score_pages import write_board, write_report

FACTS = {"diverged": {"step": 120, "kept_step": 100, "reason": "its loss was no longer finite"}}
SAID = "the training diverged at step 120: its loss was no longer finite; the model is that of step 100"
VARIANTS = {"base": (babble, 60.0), "q8_0": (same, 9.0)}
GATES = {"good": gate(threshold=50.0)}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The results of a run that passes its gates, and whose training diverged."""
    folder = tmp_path_factory.mktemp("work") / "results"
    run = make_run(folder, "r", "fr", VARIANTS, GATES)
    assert read_json(run / "verdict.json")["verdict"] == "promote"
    (run / "training.json").write_text(json.dumps(FACTS))
    facts = {"dataset": "d", "group_by": None, "bootstrap": 200, "seed": 0}
    settings = json.dumps({"gates": GATES, "shipped": "q8_0", **facts})
    words = [*(f"{run}/scores/{variant}.json" for variant in VARIANTS), "--run", "r", "--settings", settings]
    words += ["--base", f"{folder}/models/base/manifest.json", "--training", f"{run}/training.json"]
    assert decide([*words, "--verdict", f"{run}/verdict.json"]) == 0
    return folder


def test_its_verdict_is_rollback_whatever_its_gates_say(results):
    decided = read_json(results / "runs/r/verdict.json")
    assert [entry["passed"] for entry in decided["gates"]] == [True]
    assert (decided["verdict"], decided["reason"], decided["diverged"]) == ("rollback", SAID, SAID)


def test_report_leaderboard_and_summary_say_it(results, capsys):
    report = write_report(results, "r", list(VARIANTS), "--training", f"{results}/runs/r/training.json")
    write_board(results, {"r": list(VARIANTS)})
    assert summary([str(results)]) == 0
    pages = [report.text, (results / "leaderboard.html").read_text(encoding="utf-8"), capsys.readouterr().out]
    assert [page for page in pages if SAID not in " ".join(page.split())] == []
    assert f"{SAID[0].upper()}{SAID[1:]}. To train it anew, lower training.learning_rate, or " in report.text
    assert training_notes({"diverged": None}, None) == training_notes({}, None) == []
