"""Pages of runs whose answers are entities, titles on images, or answers under several prompt strategies."""

import csv
import json
import re
from pathlib import Path

import pytest

from scripts.common.metric_list import METRICS
from scripts.common.records import Record, content_id
from scripts.score.columns import columns_of, kind_of, left_aside, table_of
from scripts.score.entity_pages import marked
from scripts.score.pictures import LARGEST, picture
from scripts.score.print_summary import main as summary
from scripts.score.write_leaderboard import main as leaderboard
from scripts.score.write_run_report import main as report
from tests.support.entity_answers import entity_answers, text_row
from tests.support.pages import Page
from tests.support.pictures import encoded
from tests.support.pictures import picture as small
from tests.support.score_fixtures import answer_rows, first_half, judge_run, write_rows

EVIL = "<script>alert('x')</script>"
FACTS = {"dataset": "pii", "model": "base", "method": "head", "strategies": [], "strategy": None}
RUNS = {"pii": ["merged"], "pii-generative": ["base", "merged"], "pii-prompt": ["base"]}
GATE = {
    "metric": "entity_f1", "variant": "shipped", "baseline": None, "relative": False, "comparison": "above",
    "threshold": 0.3, "on_failure": "rollback",
}  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """Three runs of one dataset: a classifier, a model that writes JSON, and the base that is only prompted."""
    folder = tmp_path_factory.mktemp("work") / "results"
    gates = {"finds entities": GATE}
    judge_run(folder, "pii", None, {"merged": entity_answers(40, 0.3)}, gates, price_per_hour=2.5)
    written = {name: entity_answers(40, wrong, written=True) for name, wrong in (("base", 0.95), ("merged", 0.35))}
    judge_run(folder, "pii-generative", None, written, gates, price_per_hour=2.5)
    judge_run(folder, "pii-prompt", None, {"base": entity_answers(40, 0.95, written=True)}, gates, price_per_hour=2.5)
    return folder


def write_report(results: Path, run: str, variants: list[str], *more: str, trained: bool = True, **facts) -> Page:
    folder = results / "runs" / run
    words = []
    for kind, end in (("scores", "json"), ("answers", "jsonl"), ("errors", "jsonl")):
        words += [f"--{kind}", *[f"{folder}/{kind}/{variant}.{end}" for variant in variants]]
    words += ["--verdict", f"{folder}/verdict.json", *(["--curve", f"{folder}/curve.jsonl"] if trained else [])]
    words += ["--manifest", f"{results}/models/base/manifest.json", "--page", f"{folder}/report.html", *more]
    assert not report([*words, "--settings", json.dumps({"run": run, **FACTS, **facts})])
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def write_board(results: Path, runs: dict[str, list[str]], **facts) -> list[dict]:
    listed = [{"run": run, **FACTS, **facts, "variants": variants} for run, variants in runs.items()]
    words = [str(results), "--csv", f"{results}/leaderboard.csv", "--page", f"{results}/leaderboard.html"]
    assert not leaderboard([*words, "--settings", json.dumps({"runs": listed})])
    with open(results / "leaderboard.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_report_of_a_classifier_has_classes_confusion_and_errors(results):
    page = write_report(results, "pii", ["merged"])
    for expected in (
        "Entities by class",
        "What is taken for what",
        "Errors of entities",
        "Wrong type",
        "By label",
        "F1 of each class by label",
        "support 20",
        "a classifier writes no text",
        "n = 40",
    ):
        assert expected in page.text
    assert page.text.count("a classifier writes no text") == 1
    assert "Worst answers" not in page.text
    assert page.tags.count("mark") > 40
    assert {"confusion/merged.svg", "confusion/merged.csv", "tokens/ledger.html"} <= set(page.links)


def test_the_report_of_a_prompted_base_has_no_training(results):
    page = write_report(results, "pii-prompt", ["base"], trained=False, method="prompt")
    assert "Training curve" not in page.text
    assert "tokens/ledger.html" not in page.links
    assert "No JSON of entities" in page.text
    assert "nothing is shipped: method prompt" in " ".join(page.text.split())
    assert "I can't help with that." in page.text


def test_a_question_with_examples_is_folded_up_beside_its_text(tmp_path):
    rows = entity_answers(3, 0.0, written=True)
    shown = [{"role": "user", "content": "Example"}, {"role": "assistant", "content": "[]"}]
    rows = [{**row, "text": row["messages"][-1]["content"], "messages": [*shown, *row["messages"]]} for row in rows]
    judge_run(tmp_path, "few", None, {"base": rows})
    page = write_report(tmp_path, "few", ["base"], trained=False)
    assert page.text.count("whole prompt") == 3
    assert page.text.count("user: Example") == 3
    judge_run(tmp_path, "none", None, {"base": entity_answers(3, 0.0, written=True)})
    assert "whole prompt" not in write_report(tmp_path, "none", ["base"], trained=False).text


def test_the_verdict_on_a_prompted_base_and_on_a_classifier_is_that_of_their_one_variant(results):
    verdicts = {run: json.loads((results / f"runs/{run}/verdict.json").read_text(encoding="utf-8")) for run in RUNS}
    assert verdicts["pii"]["verdict"] == "promote"
    assert verdicts["pii"]["shipped"] == "merged"
    assert "Entity F1, strict of merged is" in verdicts["pii"]["gates"][0]["reason"]
    assert verdicts["pii-prompt"]["shipped"] == "base"


def test_the_leaderboard_ranks_entities_by_strict_f1_and_shows_time_and_cost(results):
    rows = write_board(results, RUNS)
    values = [float(row["entity_f1"]) for row in rows]
    assert values == sorted(values, reverse=True)
    assert rows[0]["run"] == "pii"
    assert {row["answer_kind"] for row in rows} == {"entities"}
    classifier = rows[0]
    mean = sum(row["seconds"] for row in entity_answers(40, 0.3)) / 40
    assert float(classifier["cost_per_1000"]) == pytest.approx(mean / 3600 * 2.5 * 1000)
    assert classifier["parsed"] == classifier["bleu"] == classifier["perplexity"] == ""
    page = Page((results / "leaderboard.html").read_text(encoding="utf-8"))
    assert "Ranked by entity F1, strict" in page.text
    for title in (
        "Cost of 1,000 answers",
        "Seconds per answer, median",
        "Answers that are valid JSON",
        "Token F1, micro",
    ):
        assert title in page.text
    assert "BLEU" not in page.text


def test_runs_of_a_sweep_are_told_apart_only_where_their_records_say_so(tmp_path):
    shares = {"r16": 0.30, "r32": 0.32, "r64": 0.9}
    for run, wrong in shares.items():
        judge_run(tmp_path, run, None, {"merged": entity_answers(60, wrong)})
    rows = write_board(tmp_path, {run: ["merged"] for run in shares})
    assert [row["run"] for row in rows] == ["r16", "r32", "r64"]
    page = (tmp_path / "leaderboard.html").read_text(encoding="utf-8")
    ranks = re.findall(r'<td class="rank">(\d)(<span class="tie")?', page)
    assert ranks == [("1", ""), ("2", '<span class="tie"'), ("3", "")]


def test_the_summary_shows_the_columns_of_entities(results, capsys):
    write_board(results, RUNS)
    assert summary([str(results)]) == 0
    text = capsys.readouterr().out
    header = next(line for line in text.splitlines() if "entity F1" in line)
    assert len(header) <= 80
    assert re.search(r"^merged \* +\d+\.\d %", text, re.MULTILINE)
    assert re.search(r"^base \* +\d+\.\d+ %", text, re.MULTILINE)
    assert "perplexity" not in text


def test_text_from_data_is_escaped_in_tables_of_entities(tmp_path):
    text = f"{EVIL} in {EVIL}"
    gold, found = [[0, 27, EVIL]], [[31, 58, EVIL]]
    rows = [text_row(text, gold, found, id=f"{index:016x}", label=f"{EVIL}{index}") for index in range(3)]
    rows[2]["answer"] = EVIL
    del rows[2]["entities"]
    judge_run(tmp_path, "pii", None, {"merged": rows})
    page = write_report(tmp_path, "pii", ["merged"])
    assert "script" not in page.tags
    assert page.text.count(EVIL) > 20


def test_a_class_of_the_training_split_without_a_test_record_is_in_the_table(tmp_path):
    messages = [{"role": "user", "content": "Anna 0612 FR76"}]
    spans = [[0, 4, "PERSON"], [5, 9, "PHONE"], [10, 14, "IBAN"]]
    reference = write_rows(tmp_path / "train.jsonl", [Record(content_id(messages), messages, spans=spans).to_row()])
    rows = [
        text_row("Anna and 0612", [[0, 4, "PERSON"]], [[0, 4, "PERSON"], [9, 13, "PHONE"]], id=f"{index:016x}")
        for index in range(3)
    ]
    folder = judge_run(tmp_path, "pii", None, {"merged": rows}, reference=reference)
    scores = json.loads((folder / "scores/merged.json").read_text(encoding="utf-8"))
    assert list(scores["entities"]["classes"]) == ["PERSON"]
    assert scores["entities"]["untested"] == {"IBAN": 0, "PHONE": 3}
    page = "".join(write_report(tmp_path, "pii", ["merged"]).text.split())
    assert "IBAN00notestrecords" in page
    assert "PHONE03notestrecords" in page


def test_strategies_stand_in_one_table_with_differences_from_the_chosen_one(tmp_path):
    def asked(name: str, change) -> list[dict]:
        return answer_rows("fr", change, prompt_set=name)

    rows = [*answer_rows("fr"), *asked("plain", first_half), *asked("same", lambda text, index: text)]
    judge_run(tmp_path, "captions", "fr", {"base": rows, "merged": rows})
    strategies = {"strategies": ["persona", "plain", "same"], "strategy": "persona"}
    page = write_report(tmp_path, "captions", ["base", "merged"], **strategies)
    text = (tmp_path / "runs/captions/report.html").read_text(encoding="utf-8")
    [part] = re.findall(r"<h2>Prompt strategies.*?</table>", text, re.DOTALL)
    table = re.findall(r"<tr><td>(.*?)</tr>", part, re.DOTALL)
    assert [re.sub(r"<.*?>", " ", row).split()[0] for row in table] == ["persona", "plain", "same"]
    assert "chosen" in table[0]
    assert 'class="small worse"' in table[1]
    assert 'class="small worse"' not in table[2]
    assert "noise" in table[2]
    assert "Perplexity" not in part  # likelihoods are of the chosen one only
    assert "8 of 8 prompts" in page.text
    assert page.text.count("8 of 8 prompts") == 1  # strategies are not shown again as prompt sets
    assert "training completions" not in part
    assert "Prompt strategies" not in write_report(tmp_path, "captions", ["base", "merged"]).text


def test_strategies_of_style_are_held_against_the_training_completions(tmp_path):
    def shouted(text: str, index: int) -> str:
        return f"{text.rstrip('.')} !"

    rows = [*answer_rows("fr"), *answer_rows("fr", shouted, prompt_set="persona")]
    completions = [
        {"id": "a", "messages": [{"role": "assistant", "content": text}]} for text in ("Quel but !", "Rien.")
    ]
    judge_run(tmp_path, "captions", "fr", {"base": rows}, reference=write_rows(tmp_path / "train.jsonl", completions))
    write_report(tmp_path, "captions", ["base"], strategies=["persona"])
    text = (tmp_path / "runs/captions/report.html").read_text(encoding="utf-8")
    [part] = re.findall(r"<h2>Prompt strategies.*?</table>", text, re.DOTALL)
    titles = [re.sub(r"<.*?>", "", cell).strip(" ↑↓") for cell in re.findall(r"<th.*?</th>", part, re.DOTALL)]
    assert titles[1:3] == ["Word pairs and triples of training", "Length against training"]
    rows = [
        [re.sub(r"<.*?>|\s+", " ", cell).split() for cell in re.findall(r"<td.*?</td>", row, re.DOTALL)]
        for row in re.findall(r"<tr>(.*?)</tr>", part, re.DOTALL)[1:]
    ]
    marks = titles.index("With an exclamation mark")
    assert [row[0] for row in rows] == [["as", "in", "the", "data", "chosen"], ["persona"], ["training", "completions"]]
    assert [row[marks][:2] for row in rows] == [["25.0", "%"], ["100.0", "%"], ["50.0", "%"]]


def image_rows(name: str) -> list[dict]:
    """Return answers to questions about an image."""
    content = [{"type": "image", "image": name}, {"type": "text", "text": "Title?"}]
    rows = [text_row("x", [], None, id=f"{index:016x}", spans=None) for index in range(12)]
    return [
        {
            **row,
            "messages": [{"role": "user", "content": content}],
            "expected": f"Title {index}",
            "answer": f"Titel {index}",
        }
        for index, row in enumerate(rows)
    ]


def test_small_images_stand_in_the_report_and_others_are_named(tmp_path):
    folder = tmp_path / "datasets/titles"
    (folder / "images").mkdir(parents=True)
    (folder / "images/a.png").write_bytes(encoded(small()))
    judge_run(tmp_path, "titles", None, {"base": image_rows("images/a.png"), "merged": image_rows("images/a.png")})
    page = write_report(tmp_path, "titles", ["base", "merged"], "--images", str(folder))
    shown = [link for link in page.links if link.startswith("data:")]
    assert len(shown) > 12
    assert set(shown) == {picture(folder, "images/a.png")["source"]}
    assert "Answers that are not the expected ones" in page.text
    assert "Character error rate" in page.text
    without = write_report(tmp_path, "titles", ["base", "merged"])
    assert not [link for link in without.links if link.startswith("data:")]
    assert "[image images/a.png: not at hand]" in without.text
    rows = write_board(tmp_path, {"titles": ["base", "merged"]})
    assert {row["answer_kind"] for row in rows} == {"exact"}
    board = (tmp_path / "leaderboard.html").read_text(encoding="utf-8")
    assert "Ranked by character error rate" in board


@pytest.mark.parametrize("named", [(), ("emoji_rate",)])
def test_style_stands_among_all_values_only_where_answers_must_be_exact(tmp_path, named):
    gates = {name: {**GATE, "metric": name, "on_failure": "hold"} for name in named}
    judge_run(tmp_path, "titles", None, {"base": image_rows("images/a.png")}, gates)
    write_report(tmp_path, "titles", ["base"])
    text = (tmp_path / "runs/titles/report.html").read_text(encoding="utf-8")
    panels = text.split('<div class="cards">')[1].split("<summary>All values")[0]
    values = text.split("<summary>All values")[1].split("</details>")[0]
    for metric in ("exact_match", "exclamation_rate", "emoji_rate"):
        title = METRICS[metric].title
        assert (f"<h3>{title} " in panels) == (metric == "exact_match" or metric in named)
        assert f"<td>{title}</td>" in values


def test_style_is_left_aside_unless_it_is_named():
    exact = {"answer_kind": "exact", "asked": None}
    assert left_aside([exact], []) == tuple(table_of("style"))
    assert left_aside([exact], [{"metric": "emoji_rate"}]) == tuple(
        name for name in table_of("style") if name != "emoji_rate"
    )
    assert "style_overlap" not in left_aside([{**exact, "asked": ["style_overlap"]}, exact], [])
    assert left_aside([{**exact, "answer_kind": "text"}], []) == left_aside([], []) == ()


def test_an_image_that_may_not_be_shown_is_named(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "outside.png").write_bytes(encoded(small()))
    (folder / "page.svg").write_text("<svg onload='x'/>")
    (folder / "large.png").write_bytes(encoded(small()) + bytes(LARGEST))
    notes = {name: picture(folder, name) for name in ("../outside.png", "page.svg", "large.png", "none.png")}
    assert all(found["source"] is None for found in notes.values())
    assert [found["note"] for found in notes.values()] == [
        "not at hand", "of a type that is not shown here", "60 kB, too large for this page", "not at hand",
    ]  # fmt: skip


def test_marked_pieces_are_the_text_in_order():
    pieces = marked("Anna in Oslo!", [(8, 12, "CITY"), (0, 4, "PERSON"), (2, 6, "DATE")])
    assert pieces == [
        {"text": "Anna", "label": "PERSON"},
        {"text": " in ", "label": None},
        {"text": "Oslo", "label": "CITY"},
        {"text": "!", "label": None},
    ]
    assert marked("", []) == []


def test_columns_follow_the_kind_that_rows_have_in_common():
    assert kind_of([{"answer_kind": "exact"}, {"answer_kind": "exact"}]) == "exact"
    assert kind_of([{"answer_kind": "exact"}, {"answer_kind": "text"}]) == "text"
    assert columns_of([{"answer_kind": "entities", "metrics": {"cost_per_1000": {"value": 1}}}])[-1] == "cost_per_1000"
    assert not {"parsed", "cost_per_1000"} & set(columns_of([{"answer_kind": "entities", "metrics": {}}]))
