"""The summary's one prompt: the same choice each time, what base, adapter and shipped variant say, on 80 columns."""

import json
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from scripts.common.errors import UserError
from scripts.score.one_prompt import LONGEST, one_prompt, typical_record
from scripts.score.print_summary import main as summary
from scripts.score.write_leaderboard import main as leaderboard
from tests.support.entity_answers import entity_answers, text_row
from tests.support.score_fixtures import answer_rows, babble, first_half, judge_run


def answers(change, **fields) -> list[dict]:
    return answer_rows("fr", change, **fields)


def same(text: str, index: int) -> str:
    return text


def printed(folder: Path, variants: list[str], shipped: str) -> str:
    console = Console(width=80, file=open("/dev/null", "w"), record=True)  # noqa: SIM115
    title, table = one_prompt(folder, variants, shipped)
    console.print(title)
    console.print(table)
    return console.export_text()


def scores(**values) -> dict:
    return {"ids": list(values), "per_record": {"chrf": list(values.values())}}


def test_the_record_is_the_one_at_the_median_of_the_difference():
    base = scores(a=10, b=10, c=10, d=None, e=10)
    shipped = scores(a=90, b=11, c=30, d=50, e=20)
    assert typical_record("chrf", shipped, base) == ("e", True)  # +1, +10, +20, +80: the lower one of two
    assert typical_record("chrf", shipped, None) == ("c", True)
    assert typical_record("chrf", scores(a=5, b=5, c=5), None) == ("b", True)


def test_without_a_value_it_is_the_first_record():
    assert typical_record("chrf", scores(a=None, b=None), None) == ("a", False)
    assert typical_record("rouge_l", scores(a=1, b=2), None) == ("a", False)
    assert typical_record("chrf", scores(), None) == (None, False)


def test_base_adapter_and_shipped_quant_answer_one_prompt(tmp_path):
    variants = {"base": babble, "adapter": same, "merged": same, "q4_k_m": first_half}
    folder = judge_run(tmp_path, "r", "fr", {name: answers(change) for name, change in variants.items()})
    text = printed(folder, list(variants), "q4_k_m")
    assert text == printed(folder, list(variants), "q4_k_m")
    lines = text.splitlines()
    assert lines[0].startswith("the test prompt of median difference in chrF, q4_k_m against base")
    assert [line.split()[0] for line in lines[1:] if not line.startswith(" ")] == [
        "prompt", "base", "adapter", "q4_k_m",
    ]  # fmt: skip
    asked = lines[1].removeprefix("prompt").strip()
    expected = next(row["expected"] for row in answers(same) if row["messages"][0]["content"] == asked)
    assert expected in " ".join(text.split())


def test_equal_answers_stand_together_and_a_cut_one_says_so(tmp_path):
    rows = {"base": answers(babble), "adapter": answers(same), "q4_k_m": answers(same)}
    folder = judge_run(tmp_path, "r", "fr", rows)
    assert "adapter, q4_k_m" in printed(folder, list(rows), "q4_k_m")
    rows["q4_k_m"] = answers(same, stop="length")
    folder = judge_run(tmp_path, "s", "fr", rows)
    text = printed(folder, list(rows), "q4_k_m")
    assert "adapter, q4_k_m" not in text
    assert " ".join(text.split()).count("(cut at the limit)") == 1


def test_what_a_terminal_or_markup_would_obey_is_shown_as_it_is(tmp_path):
    evil = "[red]:smile: \x1b[2J[/nothing]"
    rows = {"base": answers(lambda text, index: ""), "q8_0": answers(lambda text, index: evil)}
    text = printed(judge_run(tmp_path, "r", "fr", rows), list(rows), "q8_0")
    assert "[red]:smile: \\x1b[2J[/nothing]" in text
    assert "\x1b" not in text
    assert "(empty)" in text


def test_long_answers_are_wrapped_and_cut(tmp_path):
    rows = {"base": answers(lambda text, index: "mot " * 500), "q8_0": answers(lambda text, index: "👏" * 400)}
    text = printed(judge_run(tmp_path, "r", "fr", rows), list(rows), "q8_0")
    assert text.count("[…]") == 2
    assert len(text.splitlines()) <= 3 + 2 * (2 * LONGEST // 60)
    assert max(map(cell_len, text.splitlines())) <= 80


def test_a_classifier_shows_a_text_with_what_it_found_and_missed(tmp_path):
    text, gold = "Anna Berg moved to Oslo.", [[0, 9, "PERSON"], [19, 23, "CITY"]]
    row = text_row(text, gold, [[0, 4, "PERSON"], [19, 23, "CITY"]])
    folder = judge_run(tmp_path, "pii", None, {"merged": [row]})
    shown = " ".join(printed(folder, ["merged"], "merged").split())
    assert shown.startswith("the test text of median Entity F1, strict text Anna Berg moved to Oslo.")
    assert shown.endswith("merged ✘ PERSON Anna · CITY Oslo · missed: PERSON Anna Berg")


def test_a_written_answer_that_can_not_be_read_says_so(tmp_path):
    rows = {"base": entity_answers(5, 2.0, written=True), "q8_0": entity_answers(5, 0.0, written=True)}
    shown = printed(judge_run(tmp_path, "pii", None, rows), list(rows), "q8_0")
    assert "not valid JSON of entities" in shown
    assert "EMAIL" in shown


def test_answers_of_another_test_split_are_one_line(tmp_path):
    folder = judge_run(tmp_path, "r", "fr", {"base": answers(babble), "q8_0": answers(same)})
    (folder / "answers/.base.jsonl.sha256").unlink(missing_ok=True)
    (folder / "answers/base.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match=r"has no answer to the test record [0-9a-f]{16}"):
        one_prompt(folder, ["base", "q8_0"], "q8_0")


@pytest.fixture
def two_runs(tmp_path) -> Path:
    """The results of two runs: captions with six variants, and a classifier."""
    names = ("base", "adapter", "merged", "bf16", "q8_0", "q4_k_m")
    judge_run(tmp_path, "captions", "fr", {name: answers(first_half if name == "base" else same) for name in names})
    judge_run(tmp_path, "pii", None, {"merged": entity_answers(40, 0.3)})
    write_leaderboard(tmp_path, captions=(list(names), "lora"), pii=(["merged"], "head"))
    return tmp_path


def write_leaderboard(results: Path, **runs: tuple[list[str], str]) -> None:
    listed = [
        {"run": run, "dataset": run, "model": "base", "method": method, "variants": variants}
        for run, (variants, method) in runs.items()
    ]
    words = [str(results), "--csv", f"{results}/leaderboard.csv", "--page", f"{results}/leaderboard.html"]
    assert not leaderboard([*words, "--settings", json.dumps({"runs": listed})])


def test_the_summary_of_two_runs_is_about_forty_lines_of_eighty_columns(two_runs, capsys):
    assert summary([str(two_runs)]) == 0
    before, _, after = capsys.readouterr().out.partition("\nReport: ")
    lines = before.splitlines()
    assert max(map(cell_len, lines)) <= 80
    assert len(lines) + len(after.splitlines()) <= 45
    assert "captions: the test prompt of median difference in chrF, q4_k_m against base" in lines
    assert "pii: the test text of median Entity F1, strict" in lines
    assert "python3 -m webbrowser" in after


def test_a_metric_without_a_value_has_no_column(two_runs, capsys):
    assert summary([str(two_runs)]) == 0
    text = capsys.readouterr().out
    assert "chrF↑" in text
    assert "perplexity↓" not in text
    assert "JSON↑" not in text


def test_a_dataset_has_one_prompt_however_many_runs_it_has(tmp_path, capsys):
    for run in ("first", "second"):
        judge_run(tmp_path, run, "fr", {"base": answers(babble), "q8_0": answers(same)})
    runs = [
        {"run": run, "dataset": "d", "model": "base", "method": "lora", "variants": ["base", "q8_0"]}
        for run in ("first", "second")
    ]
    words = [str(tmp_path), "--csv", f"{tmp_path}/leaderboard.csv", "--page", f"{tmp_path}/leaderboard.html"]
    assert not leaderboard([*words, "--settings", json.dumps({"runs": runs})])
    assert summary([str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert text.count("the test prompt of median") == 1
    assert "first: the test prompt" in text


def test_a_run_of_prompts_alone_says_that_nothing_is_shipped(tmp_path, capsys):
    judge_run(tmp_path, "asked", "fr", {"base": answers(first_half)})
    write_leaderboard(tmp_path, asked=(["base"], "prompt"))
    assert summary([str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "nothing is shipped: method prompt" in text
    assert "goes into the bundle" not in text
    assert "asked: the test prompt of median chrF" in text
    page = (tmp_path / "leaderboard.html").read_text(encoding="utf-8")
    assert "nothing is shipped: method prompt" in page
    assert "ships base" not in page
    assert ",no,hold," in (tmp_path / "leaderboard.csv").read_text(encoding="utf-8")
