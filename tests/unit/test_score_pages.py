"""Leaderboard, report of a run, and the summary on the terminal."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from scripts.common.charts import curve_svg, inline
from scripts.score.board import ranked, ranking_metric
from scripts.score.print_summary import main as summary
from scripts.score.print_summary import next_commands
from scripts.score.shown import shown
from scripts.score.side_by_side import grouped, question
from scripts.score.write_leaderboard import main as leaderboard
from scripts.score.write_run_report import main as report
from tests.support.pages import Page
from tests.support.score_fixtures import babble, first_half, make_run, write_rows

EVIL = "<script>alert('x')</script>"
NAMES = ("base", "adapter", "q8_0")
VARIANTS = {
    "base": (babble, 60.0),
    "adapter": (first_half, 9.0),
    "bf16": (first_half, 9.0),
    "q8_0": (lambda t, i: t, 9.02),
}
GATES = {
    "learned": {"metric": "perplexity", "comparison": "below", "threshold": 0.0, "relative": False},
    "good": {"metric": "chrf", "comparison": "above", "threshold": 99.0, "relative": False},
}
COMMON = {"variant": "shipped", "baseline": None, "on_failure": "hold"}


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("work") / "results"
    gates = {name: {**gate, **COMMON} for name, gate in GATES.items()}
    gates["learned"]["baseline"] = "base"
    for run, language in (("football", "fr"), ("football-r32", "fr"), ("stories", "vi")):
        make_run(folder, run, language, VARIANTS, gates)
    return folder


def write_leaderboard(results: Path, **methods: str) -> None:
    datasets = {"football": "football", "football-r32": "football", "stories": "stories"}
    runs = [
        {"run": run, "dataset": dataset, "model": "base", "method": methods.get(run, "lora"), "variants": [*VARIANTS]}
        for run, dataset in datasets.items()
    ]
    arguments = [str(results), "--csv", f"{results}/leaderboard.csv", "--page", f"{results}/leaderboard.html"]
    assert not leaderboard([*arguments, "--settings", json.dumps({"runs": runs})])


def write_report(results: Path, run: str, label: str | None = None, training: dict | None = None) -> str:
    folder = results / "runs" / run
    arguments = []
    for kind, end in (("scores", "json"), ("answers", "jsonl"), ("errors", "jsonl")):
        arguments += [f"--{kind}", *[f"{folder}/{kind}/{variant}.{end}" for variant in VARIANTS]]
    arguments += ["--verdict", f"{folder}/verdict.json", "--curve", f"{folder}/curve.jsonl"]
    arguments += ["--manifest", f"{results}/models/base/manifest.json", "--page", f"{folder}/report.html"]
    if training:
        (folder / "training.json").write_text(json.dumps(training))
        arguments += ["--training", f"{folder}/training.json"]
    facts = {"run": label or run, "dataset": "football", "model": "base", "method": "lora"}
    facts |= {"strategies": [], "strategy": None}
    assert not report([*arguments, "--settings", json.dumps(facts)])
    return (folder / "report.html").read_text(encoding="utf-8")


def test_the_leaderboard_ranks_all_variants_of_a_dataset(results):
    write_leaderboard(results)
    with open(results / "leaderboard.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    football = [row for row in rows if row["dataset"] == "football"]
    assert [row["rank"] for row in football] == [str(rank) for rank in range(1, 9)]
    assert {row["variant"] for row in football[:4]} == {"adapter", "bf16"}
    assert {row["variant"] for row in football[-2:]} == {"base"}
    shipped = next(row for row in football if row["run"] == "football" and row["shipped"] == "yes")
    assert shipped["variant"] == "q8_0"
    low, value, high = (float(shipped[f"perplexity_minus_base{end}"]) for end in ("_low", "", "_high"))
    assert low <= value <= high < 0
    assert football[0]["verdict"] == "promote"
    assert football[0]["generic_phrase_rate"] == ""


def test_a_leaderboard_without_scores_of_a_run_is_one_line(tmp_path, capfd):
    run = {"run": "r", "dataset": "d", "model": "base", "method": "lora", "variants": ["base"]}
    arguments = [str(tmp_path), "--csv", f"{tmp_path}/leaderboard.csv", "--page", f"{tmp_path}/leaderboard.html"]
    assert leaderboard([*arguments, "--settings", json.dumps({"runs": [run]})]) == 1
    assert f"{tmp_path}/runs/r/verdict.json: is missing; run snakemake first" in capfd.readouterr().err


def test_the_leaderboard_page_marks_the_best_and_what_is_noise(results):
    write_leaderboard(results)
    page = Page((results / "leaderboard.html").read_text(encoding="utf-8"))
    assert "★" in page.text
    assert "≈" in page.text
    assert "noise" in page.text
    assert "runs/football-r32/report.html" in page.links
    assert all(not re.match(r"[a-z]+:|/", link) for link in page.links)
    assert "script" not in page.tags


def test_the_report_shows_verdict_metrics_answers_and_curve(results):
    text = write_report(results, "football")
    page = Page(text)
    for expected in (
        "every gate passed",
        "✔ passed",
        "chrF of q8_0 is 100.0",
        "loss (nats per token)",
        "adapter, bf16",
        "8 of 8 prompts",
    ):
        assert expected in page.text
    assert page.tags.count("svg") > 60
    assert "../../leaderboard.html" in page.links
    assert "tokens/ledger.html" in page.links


def test_the_report_says_what_the_training_did_when_memory_ran_out(results):
    tries = [
        {"micro_batch": 8, "accumulation": 2, "ended": "killed"},
        {"micro_batch": 8, "accumulation": 2, "ended": "out of memory"},
        {"micro_batch": 4, "accumulation": 4, "ended": "killed when the machine ran out of memory"},
        {"micro_batch": 2, "accumulation": 8, "ended": "done"},
    ]
    text = Page(write_report(results, "football", training={"processes": 1, "tries": tries})).text
    for words in (
        "a micro-batch of 8; the training went on with 4, accumulated 4",
        "of 4; the training went on with 2",
    ):
        assert words in text
    assert text.count("each step still has 16 rows") == 2
    assert "Memory ran out" not in write_report(results, "football", training={"tries": [tries[0], tries[0]]})


def test_text_from_data_is_escaped(tmp_path):
    def evil(text: str, index: int) -> str:
        return f"{EVIL} {index}"

    make_run(tmp_path, "evil", "fr", dict.fromkeys(VARIANTS, (evil, 9.0)), {EVIL: {**GATES["good"], **COMMON}})
    asked = [{"role": role, "content": EVIL} for role in ("system", "user")]
    for path in [path for name in ("answers", "errors") for path in (tmp_path / "runs/evil" / name).glob("[!.]*")]:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        write_rows(
            path, [{**row, "label": EVIL, "expected": EVIL, "faults": [EVIL], "messages": asked} for row in rows]
        )
    text = write_report(tmp_path, "evil", label=EVIL)
    page = Page(text)
    assert "script" not in page.tags
    assert "<script" not in text
    assert page.text.count(EVIL) > 20


def test_a_report_needs_no_curve_and_no_gate(tmp_path):
    folder = make_run(tmp_path, "bare", "vi", VARIANTS)
    (folder / "curve.jsonl").write_text('{"step": 1}\n{"epoch": 2, "loss": null}\n')
    page = Page(write_report(tmp_path, "bare"))
    assert "No gate is defined" in page.text
    assert "The training left no numbers" in page.text
    assert "3 test records are few" in page.text


def test_the_summary_fits_a_terminal_and_says_what_to_do_next(results, capsys):
    write_leaderboard(results)
    assert summary([str(results)]) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    base = next(line for line in lines if line.startswith("base"))
    assert len(base) <= 80
    assert float(base.split()[1]) == pytest.approx(60, rel=0.1)
    order = [line.split()[0] for line in lines if line.split()[:1] and line.split()[0] in VARIANTS][:4]
    assert order == list(VARIANTS)
    assert "football promote: every gate passed" in text
    assert "q8_0 *" in text
    assert f"Report: {results / 'leaderboard.html'}\n" in text


def test_the_summary_marks_no_variant_of_runs_that_have_no_bundle(results, capsys):
    for methods, marked in (({}, 3), ({"stories": "prompt"}, 2)):
        write_leaderboard(results, **methods)
        assert summary([str(results)]) == 0
        text = capsys.readouterr().out
        assert text.count("q8_0 *") == marked
        assert "* goes into the bundle" in text
    write_leaderboard(results, **dict.fromkeys(("football", "football-r32", "stories"), "prompt"))
    assert summary([str(results)]) == 0
    assert "*" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("folder", "recipe", "commands"),
    [
        ("results", None, ["config/mine.yaml", "config/mine.yaml", "make recipe NAME=football"]),
        ("results", "stories", []),
        ("results/stories/embedded", "stories", ["make recipe NAME=stories EMBEDDED=no"]),
        ("results/mine", None, []),
    ],
)
def test_what_to_do_next_depends_on_what_was_run(folder, recipe, commands):
    look, *others = next_commands(Path(folder), Path(folder, "report.html"), recipe)
    assert look[0] == f"python3 -m webbrowser {folder}/report.html"
    assert len(others) == len(commands)
    assert all(command.endswith(end) for (command, _), end in zip(others, commands, strict=True))


def test_the_summary_names_the_report_of_these_results_and_no_older_one(results, capsys):
    write_leaderboard(results)
    report_page = results / "report.html"
    report_page.write_text("<p>")
    try:
        summary([str(results)])
        assert f"Report: {report_page} and {results / 'leaderboard.html'}\n" in capsys.readouterr().out
        os.utime(report_page, (0, 0))
        summary([str(results)])
        assert str(report_page) not in capsys.readouterr().out
    finally:
        report_page.unlink()


def test_the_summary_without_results_is_one_line(tmp_path, capsys):
    assert summary([str(tmp_path)]) == 1
    assert capsys.readouterr().err.endswith("is not there yet; run snakemake first\n")


def test_the_summary_of_another_versions_table_is_one_line(tmp_path, capsys):
    (tmp_path / "leaderboard.csv").write_text("dataset,run,variant\nd,r,base\n")
    assert summary([str(tmp_path)]) == 1
    assert "has no column 'answer_kind'; run snakemake" in capsys.readouterr().err


def test_the_summary_imports_nothing_heavy(results):
    write_leaderboard(results)
    program = "import sys; from scripts.score.print_summary import main; main(sys.argv[1:]); print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", program, str(results)], capture_output=True, text=True, check=True)
    assert not {"torch", "pandas", "numpy", "transformers"} & set(found.stdout.split())


def test_answers_with_the_same_text_stand_together():
    rows = [("base", "a", "end"), ("adapter", "b", "end"), ("bf16", "b", "end"), ("q8_0", "a", "length")]
    entries = grouped([(name, {"answer": text, "stop": stop}, "") for name, text, stop in rows])
    assert [entry["variants"] for entry in entries] == [["base", "q8_0"], ["adapter", "bf16"]]


@pytest.mark.parametrize(
    ("stops", "note"),
    [
        (("end", "end", "end"), "chrF 9"),
        (("length", "end", "end"), "chrF 9, cut at the limit: base"),
        (("end", "length", "length"), "chrF 9, cut at the limit: adapter, q8_0"),
        (("length", "length", "length"), "chrF 9, cut at the limit"),
    ],
)
def test_equal_answers_say_which_of_them_were_cut(stops, note):
    answers = [(name, {"answer": "a", "stop": stop}, "chrF 9") for name, stop in zip(NAMES, stops, strict=True)]
    [entry] = grouped(answers)
    assert entry["note"] == note


def test_questions_of_several_turns_say_who_speaks():
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    assert question([{"role": "system", "content": "s"}, *turns]) == ("s", "user: a\nassistant: b\nuser: c")
    parts = [{"type": "text", "text": "what is it?"}, {"type": "image"}]
    assert question([{"role": "user", "content": parts}]) == ("", "what is it?\n[image]")


def test_the_curve_has_a_panel_for_what_was_logged_and_takes_the_pages_colours():
    rows = [
        {"step": 1, "loss": 2.0},
        {"step": 2, "loss": float("nan"), "tokens_per_second_x": 90},
        {"step": 2, "eval_loss": 1.6},
    ]
    svg = curve_svg(rows)
    assert svg == curve_svg(rows)
    texts = set(ElementTree.fromstring(svg).itertext())
    assert {"loss (nats per token)", "training", "validation", "tokens per second", "optimizer step"} <= texts
    assert "learning rate" not in texts
    element = inline(svg, 'a "curve"')
    assert ElementTree.fromstring(element.replace("xlink:", "")).attrib.keys() == {"role", "aria-label", "viewBox"}
    assert "currentColor" in element
    assert "style>" not in element
    assert curve_svg([{"step": 1}]) is None


@pytest.mark.parametrize(
    ("metric", "value", "signed", "text"),
    [
        ("chrf", 57.812, False, "57.8"),
        ("chrf", -3.0, True, "−3.00"),
        ("rouge_l", 0.3333, False, "33.3 %"),
        ("rouge_l", 0.012, True, "+1.20 pp"),
        ("seconds_p50", 0.0512, False, "0.051 s"),
        ("cost_per_1000", 0.0028, False, "0.0028"),
        ("perplexity", 12345.6, False, "12\u202f346"),
        ("perplexity", None, False, "–"),
    ],
)
def test_values_are_shown_for_people(metric, value, signed, text):
    assert shown(metric, value, signed) == text


def test_without_perplexity_the_highest_chrf_is_ranked_first(results):
    def row(variant: str) -> dict:
        scores = json.loads((results / f"runs/football/scores/{variant}.json").read_text(encoding="utf-8"))
        for metric in ("perplexity", "perplexity_per_character"):
            scores["metrics"][metric] = None
        return {"run": "football", "variant": variant, "scores": scores}

    rows = [row(variant) for variant in VARIANTS]
    assert ranking_metric(rows) == "chrf"
    assert ranked(rows)[0]["variant"] == "q8_0"
    assert ranked(rows)[-1]["variant"] == "base"


def test_empty_answers_are_warned_of_even_when_every_gate_passes(tmp_path, capsys):
    mute = {**dict.fromkeys(VARIANTS, (lambda text, index: text if index else "", 9.0)), "base": (babble, 60.0)}
    learned = {**GATES["learned"], **COMMON, "baseline": "base"}
    folder = make_run(tmp_path, "mute", "vi", mute, {"learned": learned})
    verdict = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    assert verdict["verdict"] == "promote"
    assert verdict["warnings"] == ["1 of 3 answers of q8_0 are empty"]
    assert "1 of 3 answers of q8_0 are empty" in Page(write_report(tmp_path, "mute")).text
    runs = [{"run": "mute", "dataset": "d", "model": "base", "method": "lora", "variants": list(VARIANTS)}]
    arguments = [str(tmp_path), "--csv", f"{tmp_path}/leaderboard.csv", "--page", f"{tmp_path}/leaderboard.html"]
    assert not leaderboard([*arguments, "--settings", json.dumps({"runs": runs})])
    assert "1 of 3 answers of q8_0 are empty" in (tmp_path / "leaderboard.html").read_text(encoding="utf-8")
    assert not summary([str(tmp_path)])
    assert "1 of 3 answers of q8_0 are empty" in capsys.readouterr().out


def test_answers_that_are_one_same_text_hold_the_run_and_all_pages_say_so(tmp_path, capsys):
    collapsed = dict.fromkeys(VARIANTS, (lambda text, index: text if index > 4 else "Le ballon.", 9.0))
    learned = {**GATES["learned"], **COMMON, "baseline": "base"}
    folder = make_run(tmp_path, "stuck", "fr", {**collapsed, "base": (babble, 60.0)}, {"learned": learned})
    warning = "5 of 8 answers of q8_0 are the same text"
    verdict = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    assert [gate["passed"] for gate in verdict["gates"]] == [True]
    assert (verdict["verdict"], verdict["reason"], verdict["warnings"]) == ("hold", warning, [warning])
    assert warning in Page(write_report(tmp_path, "stuck")).text
    runs = [{"run": "stuck", "dataset": "d", "model": "base", "method": "lora", "variants": list(VARIANTS)}]
    arguments = [str(tmp_path), "--csv", f"{tmp_path}/leaderboard.csv", "--page", f"{tmp_path}/leaderboard.html"]
    assert not leaderboard([*arguments, "--settings", json.dumps({"runs": runs})])
    assert warning in (tmp_path / "leaderboard.html").read_text(encoding="utf-8")
    assert not summary([str(tmp_path)])
    assert warning in capsys.readouterr().out


def test_answers_with_text_bring_no_warning(results):
    verdict = json.loads((results / "runs/football/verdict.json").read_text(encoding="utf-8"))
    assert verdict["warnings"] == []
