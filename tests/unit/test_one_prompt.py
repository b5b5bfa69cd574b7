"""The summary's one prompt: the same choice each time, what base, adapter and shipped variant say, on 80 columns."""

from functools import partial
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from scripts.score.one_prompt import LONGEST, one_prompt, typical_record
from scripts.score.print_summary import main as summary
from tests.support.data import load
from tests.support.entity_answers import entity_answers, text_row
from tests.support.score_fixtures import answer_rows, babble, first_half, judge_run, same
from tests.support.score_pages import write_board

answers = partial(answer_rows, "fr")


def printed(folder: Path, rows: dict[str, list[dict]]) -> str:
    """Score the answers of variants, of which the last is shipped; return the prompt as it is printed."""
    run = judge_run(folder, "r", "fr", rows)
    console = Console(width=80, file=open("/dev/null", "w"), record=True)  # noqa: SIM115
    for part in one_prompt(run, list(rows), list(rows)[-1]):
        console.print(part)
    return console.export_text()


@pytest.mark.parametrize(("metric", "shipped", "base", "record", "is_median"), load("metrics.yaml")["typical"])
def test_the_record_is_the_one_at_the_median_or_without_values_the_first(metric, shipped, base, record, is_median):
    def scores(values):
        return values if values is None else {"ids": list("abcde"[: len(values)]), "per_record": {"chrf": values}}

    assert typical_record(metric, scores(shipped), scores(base)) == (record, is_median)


def test_base_adapter_and_shipped_quant_answer_one_prompt_equal_answers_together_and_a_cut_one_named(tmp_path):
    changes = {"base": babble, "adapter": same, "merged": same, "q4_k_m": first_half}
    text = printed(tmp_path, {name: answers(change) for name, change in changes.items()})
    lines = text.splitlines()
    assert lines[0].startswith("the test prompt of median difference in chrF, q4_k_m against base")
    named = [line.split()[0] for line in lines[1:] if not line.startswith(" ")]
    assert named == ["prompt", "base", "adapter", "q4_k_m"]
    asked = lines[1].removeprefix("prompt").strip()
    expected = next(row["expected"] for row in answers(same) if row["messages"][0]["content"] == asked)
    assert expected in " ".join(text.split())
    rows = {"base": answers(babble), "adapter": answers(same), "q4_k_m": answers(same)}
    assert "adapter, q4_k_m" in printed(tmp_path, rows)
    text = printed(tmp_path, rows | {"q4_k_m": answers(same, stop="length")})
    assert "adapter, q4_k_m" not in text
    assert " ".join(text.split()).count("(cut at the limit)") == 1


def test_what_a_terminal_or_markup_would_obey_is_shown_as_it_is_and_what_is_long_is_wrapped_and_cut(tmp_path):
    def shown(base: str, shipped: str) -> str:
        return printed(tmp_path, {"base": answers(lambda t, index: base), "q8_0": answers(lambda t, index: shipped)})

    text = shown("", "[red]:smile: \x1b[2J[/nothing]")
    assert "[red]:smile: \\x1b[2J[/nothing]" in text
    assert "\x1b" not in text
    assert "(empty)" in text
    text = shown("mot " * 500, "👏" * 400)
    assert text.count("[…]") == 2
    assert len(text.splitlines()) <= 3 + 2 * (2 * LONGEST // 60)
    assert max(map(cell_len, text.splitlines())) <= 80


def test_entities_are_shown_as_found_and_missed_and_an_answer_that_can_not_be_read_says_so(tmp_path):
    gold = [[0, 9, "PERSON"], [19, 23, "CITY"]]
    row = text_row("Anna Berg moved to Oslo.", gold, [[0, 4, "PERSON"], [19, 23, "CITY"]])
    shown = " ".join(printed(tmp_path, {"merged": [row]}).split())
    assert shown.startswith("the test text of median strict entity F1 text Anna Berg moved to Oslo.")
    assert shown.endswith("merged ✘ PERSON Anna · CITY Oslo · missed: PERSON Anna Berg")
    rows = {"base": entity_answers(5, 2.0, written=True), "q8_0": entity_answers(5, 0.0, written=True)}
    shown = printed(tmp_path, rows)
    assert "not valid JSON of entities" in shown
    assert "EMAIL" in shown


def test_the_summary_of_two_runs_is_about_forty_lines_of_eighty_columns(tmp_path, capsys):
    names = ("base", "adapter", "merged", "bf16", "q8_0", "q4_k_m")
    variants = {name: answers(first_half if name == "base" else same) for name in names}
    for run in ("captions", "again"):
        judge_run(tmp_path, run, "fr", variants)
    judge_run(tmp_path, "pii", None, {"merged": entity_answers(40, 0.3)})
    runs = {"captions": names, "pii": ["merged"]}
    write_board(tmp_path, runs, pii={"dataset": "pii", "method": "head"})
    assert summary([str(tmp_path)]) == 0
    before, _, after = capsys.readouterr().out.partition("\nReport: ")
    lines = before.splitlines()
    assert max(map(cell_len, lines)) <= 80
    assert len(lines) + len(after.splitlines()) <= 45
    assert "captions: the test prompt of median difference in chrF, q4_k_m against base" in lines
    assert "pii: the test text of median strict entity F1" in lines
    assert "python3 -m webbrowser" in after
    assert "chrF↑" in before
    assert not {"perplexity↓", "JSON↑"} & set(before.split())  # a metric without a value has no column
    write_board(tmp_path, {"again": names, **runs}, pii={"dataset": "pii", "method": "head"})
    assert summary([str(tmp_path)]) == 0
    assert capsys.readouterr().out.count(": the test prompt of median") == 1, "a dataset has one prompt"


def test_a_run_of_prompts_alone_says_that_nothing_is_shipped(tmp_path, capsys):
    judge_run(tmp_path, "asked", "fr", {"base": answers(first_half)})
    [row] = write_board(tmp_path, {"asked": ["base"]}, "prompt")
    assert (row["shipped"], row["verdict"]) == ("no", "hold")
    assert summary([str(tmp_path)]) == 0
    text, page = capsys.readouterr().out, (tmp_path / "leaderboard.html").read_text(encoding="utf-8")
    assert all("nothing is shipped: method prompt" in shown for shown in (text, page))
    assert "goes into the bundle" not in text
    assert "asked: the test prompt of median chrF" in text
