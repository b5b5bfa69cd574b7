"""Leaderboard, report of a run, and the summary on the terminal."""

import json
import os
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from docs.summary import summary_block
from scripts.common.charts import curve_svg, inline
from scripts.common.files import read_json, read_jsonl
from scripts.deploy.quality_monitor import ABTestMonitor
from scripts.score.print_summary import main as summary
from scripts.score.shown import shown
from scripts.score.write_run_report import RAN_OUT
from tests.support.pages import Page
from tests.support.score_fixtures import babble, first_half, gate, make_run, same, write_rows
from tests.support.score_pages import write_board, write_report

EVIL = "<script>alert('x')</script>"
VARIANTS = {"base": (babble, 60.0), "adapter": (first_half, 9.0), "bf16": (first_half, 9.0), "q8_0": (same, 9.02)}
LEARNED = gate("perplexity", "below", 0.0, baseline="base")
RUNS = {run: list(VARIANTS) for run in ("football", "football-r32", "stories")}


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("work") / "results"
    for run, language in zip(RUNS, ("fr", "fr", "vi"), strict=True):
        make_run(folder, run, language, VARIANTS, {"learned": LEARNED, "good": gate(threshold=20.0)})
    return folder


@pytest.fixture(scope="module")
def board(results) -> list[dict]:
    return write_board(results, RUNS, **{run: {"dataset": run.partition("-")[0]} for run in RUNS})


def test_the_leaderboard_ranks_all_variants_of_a_dataset_and_marks_the_best_and_what_is_noise(results, board):
    football = [row for row in board if row["dataset"] == "football"]
    assert [row["rank"] for row in football] == ["1"] * 4 + ["5"] * 2 + ["7"] * 2
    assert {row["variant"] for row in football[:4]} == {"adapter", "bf16"}
    assert {row["variant"] for row in football[-2:]} == {"base"}
    shipped = next(row for row in football if row["run"] == "football" and row["shipped"] == "yes")
    assert shipped["variant"] == "q8_0"
    low, value, high = (float(shipped[f"perplexity_minus_base{end}"]) for end in ("_low", "", "_high"))
    assert low <= value <= high < 0
    assert (football[0]["verdict"], football[0]["generic_phrase_rate"]) == ("promote", "")
    page = Page((results / "leaderboard.html").read_text(encoding="utf-8"))
    assert all(word in page.text for word in ("★", "≈", "noise"))
    short = " ".join(page.text.partition("All variants and metrics of football")[0].split())
    assert short.count("Ship q8_0: every gate passed.") == 2
    assert "adapter" not in short
    assert "runs/football-r32/report.html" in page.links
    assert all(not re.match(r"[a-z]+:|/", link) for link in page.links)


def test_a_leaderboard_without_runs_has_the_columns_of_one_with_runs(board, tmp_path):
    assert write_board(tmp_path, {}) == []
    header, *lines = (tmp_path / "leaderboard.csv").read_text(encoding="utf-8").splitlines()
    assert (header.split(","), lines) == (list(board[0]), [])
    assert header.startswith("dataset,rank,run,")


def test_the_leaderboard_shows_what_the_monitor_of_production_says(tmp_path, capsys):
    monitor = ABTestMonitor(tmp_path / "monitor.sqlite", models=("old", EVIL))
    for number in range(5):
        monitor.log_metric(model=EVIL, text=f"Un but {number}.", error="down")
    write_board(tmp_path, {}, monitors=[f"{tmp_path}/monitor.sqlite"])
    page = Page((tmp_path / "leaderboard.html").read_text(encoding="utf-8"))
    said = f"In production {tmp_path}/monitor.sqlite: rollback. {EVIL}: 5 calls in a row failed (5 calls)"
    assert said in " ".join(page.text.split())
    with pytest.raises(AssertionError):
        write_board(tmp_path, {}, monitors=[f"{tmp_path}/leaderboard.html"])
    assert "leaderboard.html: file is not a database; name a file that" in capsys.readouterr().err


def test_the_report_shows_verdict_metrics_answers_curve_cost_and_what_the_training_did_without_memory(
    results, tmp_path
):
    batches = ((8, 2, "killed"), (8, 2, RAN_OUT[0]), (4, 4, RAN_OUT[1]), (2, 8, "done"))
    attempts = [dict(zip(("micro_batch", "accumulation", "ended"), batch, strict=True)) for batch in batches]
    facts = {"steps": 29, "seconds": 3600, "device": "cpu", "processes": 1, "attempts": attempts}
    facts["energy"] = {"joules": 7200.0, "meters": ["CPU packages (RAPL)"], "missing": ["no GPU is used"]}
    (tmp_path / "training.json").write_text(json.dumps(facts))
    more = ("--training", f"{tmp_path}/training.json")
    older = {"date": "2026-01-02T03:04:05+00:00", "run": "older", "dataset": "d", "records": 8, "verdict": "hold"}
    write_rows(results / "runs/older/verdicts.jsonl", [older])
    page = write_report(results, "football", list(VARIANTS), *more, price_per_hour=2.5)
    for expected in (
        "every gate passed", "✔ passed", "chrF of q8_0 is 100.0", "adapter, bf16", "8 of 8 prompts",
        "loss (nats per token)", "a micro-batch of 8; the training continued with 4, accumulated 4",
        "of 4; the training continued with 2", "Earlier verdicts on the dataset's test split: 1",
        "29 steps in 60.0 minutes on cpu. Energy: 2.00 Wh (CPU packages (RAPL), no GPU is used). Cost: 2.50.",
    ):  # fmt: skip
        assert expected in page.text
    assert page.text.count("each step still has 16 rows") == 2
    assert "stand-in" not in page.text
    assert page.tags.count("svg") > 60
    assert {"../../leaderboard.html", "tokens/ledger.html"} <= set(page.links)


def test_text_from_data_is_escaped(tmp_path):
    evil = (lambda text, index: f"{EVIL} {index}", 9.0)
    folder = make_run(tmp_path, "evil", "fr", dict.fromkeys(VARIANTS, evil), {EVIL: gate(threshold=20.0)})
    asked = [{"role": role, "content": EVIL} for role in ("system", "user")]
    changes = {"label": EVIL, "expected": EVIL, "faults": [EVIL], "messages": asked}
    for path in [*folder.glob("answers/[!.]*"), *folder.glob("errors/[!.]*")]:
        write_rows(path, [row | changes for row in read_jsonl(path)])
    page = write_report(tmp_path, "evil", list(VARIANTS), dataset=EVIL)
    assert "script" not in page.tags
    assert "<script" not in page.source
    assert page.text.count(EVIL) > 20


def test_a_report_needs_no_curve_and_no_gate(tmp_path):
    folder = make_run(tmp_path, "bare", "vi", VARIANTS)
    (folder / "curve.jsonl").write_text('{"step": 1}\n{"epoch": 2, "loss": null}\n')
    text = write_report(tmp_path, "bare", list(VARIANTS)).text
    for words in ("No gate is defined", "The training has no points", "3 test records are few"):
        assert words in text


@pytest.mark.usefixtures("board")
def test_the_summary_fits_a_terminal_and_names_the_reports_of_these_results_and_no_older_one(results, capsys):
    def said() -> str:
        assert summary([str(results)]) == 0
        return capsys.readouterr().out

    report = results / "report.html"
    text = said()
    base = next(line for line in text.splitlines() if line.startswith("base"))
    assert float(base.split()[1]) == pytest.approx(60, rel=0.1)
    assert [word for word in re.findall(r"^\w+", text, re.MULTILINE) if word in VARIANTS][:4] == list(VARIANTS)
    assert "football promote: Ship q8_0: every gate passed." in text
    assert text.count("q8_0 *") == 3  # it goes into the bundle
    assert f"Report: {results / 'leaderboard.html'}\n" in text
    report.write_text("<p>")
    assert f"Report: {report} and {results / 'leaderboard.html'}\n" in said()
    os.utime(report, (0, 0))
    assert str(report) not in said()


@pytest.mark.usefixtures("board")
def test_the_summary_for_the_readme_is_a_block_without_colours_and_trailing_spaces(results):
    first, *lines, last = summary_block(results).splitlines()
    assert (first, last) == ("```text", "```")
    assert lines[0] == "football promote: Ship q8_0: every gate passed."
    assert any(line.startswith("q8_0 *") for line in lines)
    assert [line for line in lines if "\x1b" in line or line != line.rstrip()] == []


def test_without_results_there_is_one_line(tmp_path, capfd):
    assert summary([str(tmp_path)]) == 1
    assert capfd.readouterr().err.endswith("is missing; run snakemake first\n")


def test_the_curve_has_a_panel_for_what_was_logged_and_takes_the_pages_colours():
    rows = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": float("nan"), "tokens_per_second_x": 90}]
    svg = curve_svg([*rows, {"step": 2, "eval_loss": 1.6}])
    texts = set(ElementTree.fromstring(svg).itertext())
    assert {"loss (nats per token)", "training", "validation", "tokens per second", "optimizer step"} <= texts
    assert "learning rate" not in texts
    element = inline(svg, 'a "curve"')
    assert "currentColor" in element
    assert "style>" not in element
    assert curve_svg([{"step": 1}]) is None


def test_values_are_shown_for_people():
    texts = {
        ("chrf", 57.812): "57.8", ("chrf", -3.0, True): "−3.00", ("rouge_l", 0.3333): "33.3 %",
        ("rouge_l", 0.012, True): "+1.20 pp", ("seconds_p50", 0.0512): "0.051 s", ("cost_per_1000", 0.0028): "0.0028",
        ("perplexity", 12345.6): "12\u202f346", ("perplexity", None): "–",
    }  # fmt: skip
    assert {given: shown(*given) for given in texts} == texts


@pytest.mark.parametrize(
    ("language", "change", "word", "warnings"),
    [
        ("fr", same, "promote", []),
        ("fr", lambda text, index: text if index else "", "promote", ["1 of 8 answers of q8_0 are empty"]),
        ("fr", lambda t, index: t if index > 4 else "Le ballon.", "hold", ["5 of 8 answers of q8_0 are the same text"]),
    ],
)
def test_empty_and_equal_answers_are_warned_of_on_all_pages(tmp_path, capsys, language, change, word, warnings):
    variants = {**dict.fromkeys(VARIANTS, (change, 9.0)), "base": (babble, 60.0)}
    verdict = read_json(make_run(tmp_path, "r", language, variants, {"learned": LEARNED}) / "verdict.json")
    assert [gate["passed"] for gate in verdict["gates"]] == [True]
    assert (verdict["verdict"], verdict["warnings"]) == (word, warnings)
    pages = [write_report(tmp_path, "r", list(VARIANTS)).text]
    write_board(tmp_path, {"r": list(VARIANTS)})
    assert not summary([str(tmp_path)])
    pages += [(tmp_path / "leaderboard.html").read_text(encoding="utf-8"), capsys.readouterr().out]
    assert all(warning in page for warning in warnings for page in pages)
