"""A run on a stand-in shows that the path works: it is never promoted, and nothing names the real base model."""

from scripts.common.files import read_json
from scripts.score.print_summary import main as summary
from scripts.score.stand_in import NOTE
from tests.support.score_fixtures import babble, gate, make_run, same
from tests.support.score_pages import write_board, write_report

REAL = "llama-3.1-8b-instruct"  # the recipe's key, which stays when a stand-in takes the model's place
VARIANTS = {"base": (babble, 60.0), "q8_0": (same, 9.0)}


def test_a_run_on_a_stand_in_is_held_though_its_gate_passed_and_no_page_names_the_real_base(tmp_path, capsys):
    folder = make_run(tmp_path, "tried", "fr", VARIANTS, {"good": gate()}, model=REAL, source="embedded")
    decided = read_json(folder / "verdict.json")
    assert decided["gates"][0]["passed"]
    assert (decided["verdict"], decided["reason"], decided["stand_in"]) == ("hold", f"{NOTE}", True)
    report = " ".join(write_report(tmp_path, "tried", list(VARIANTS), model=REAL).text.split())
    assert "built on this machine to test the workflow" in report
    assert "base stand-in (mistral)" in report
    rows = write_board(tmp_path, {"tried": list(VARIANTS)}, tried={"model": REAL})
    assert {(row["model"], row["verdict"]) for row in rows} == {("stand-in (mistral)", "hold")}
    board = " ".join((tmp_path / "leaderboard.html").read_text(encoding="utf-8").split())
    assert "The base model of tried is a stand-in" in board
    assert summary([str(tmp_path)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"tried hold: Don't ship this: {NOTE}." in printed
    assert not [text for text in (report, board, printed) if REAL in text]
