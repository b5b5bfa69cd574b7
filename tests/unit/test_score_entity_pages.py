"""Pages of runs whose answers are entities, titles on images, or answers under several prompt strategies."""

import re
from pathlib import Path

import pytest

from scripts.common.files import read_json
from scripts.common.html import thumbnail
from scripts.common.records import Record, content_id
from scripts.score.metrics import METRICS
from scripts.score.print_summary import main as summary
from scripts.score.side_by_side import LONGEST
from tests.support.entity_answers import entity_answers, text_row
from tests.support.pages import Page
from tests.support.pictures import encoded
from tests.support.pictures import picture as small
from tests.support.score_fixtures import answer_rows, first_half, gate, judge_run, same, scored, write_rows
from tests.support.score_pages import write_board, write_report

EVIL = "<script>alert('x')</script>"
RUNS = {"pii": ["merged"], "pii-generative": ["base", "merged"], "pii-prompt": ["base"]}
ONE_DATASET = {run: {"dataset": "pii"} for run in RUNS}
ANNA = [[0, 4, "PERSON"]]


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """Three runs of one dataset: a classifier, a model that writes JSON, and the base that is only prompted."""
    folder = tmp_path_factory.mktemp("work") / "results"
    gates = {"finds entities": gate("entity_f1", threshold=0.3, on_failure="rollback")}
    written = {name: entity_answers(40, wrong, written=True) for name, wrong in (("base", 0.95), ("merged", 0.35))}
    variants = ({"merged": entity_answers(40, 0.3)}, written, {"base": written["base"]})
    for run, rows in zip(RUNS, variants, strict=True):
        judge_run(folder, run, None, rows, gates, price_per_hour=2.5)
    return folder


def test_the_report_of_a_classifier_has_classes_confusion_and_errors(results):
    page = write_report(results, "pii", ["merged"], method="head")
    for expected in (
        "Entities by class", "Confusion of classes", "Entity errors", "Wrong type", "By label",
        "F1 of each class by label", "support 20", "n = 40",
    ):  # fmt: skip
        assert expected in page.text
    assert page.text.count("a classifier writes no text") == 1
    assert "Worst answers" not in page.text
    assert page.tags.count("mark") > 40
    assert {"confusion/merged.svg", "confusion/merged.csv", "tokens/ledger.html"} <= set(page.links)


def test_the_report_of_a_prompted_base_has_no_training(results):
    page = write_report(results, "pii-prompt", ["base"], trained=False, method="prompt")
    assert "Training curve" not in page.text
    assert "tokens/ledger.html" not in page.links
    for expected in ("Not JSON of entities", "nothing is shipped: method prompt", "I can't help with that."):
        assert expected in " ".join(page.text.split())


def test_leaderboard_and_summary_rank_entities_by_strict_f1_and_show_time_and_cost(results, capsys):
    rows = write_board(results, RUNS, "head", **ONE_DATASET)
    values = [float(row["entity_f1"]) for row in rows]
    assert values == sorted(values, reverse=True)
    assert {row["answer_kind"] for row in rows} == {"entities"}
    classifier = rows[0]
    mean = sum(row["seconds"] for row in entity_answers(40, 0.3)) / 40
    assert float(classifier["cost_per_1000"]) == pytest.approx(mean / 3600 * 2.5 * 1000)
    assert (classifier["run"], classifier["verdict"]) == ("pii", "promote")
    assert classifier["parsed"] == classifier["bleu"] == classifier["perplexity"] == ""
    page = Page((results / "leaderboard.html").read_text(encoding="utf-8"))
    titles = [METRICS[metric].title for metric in ("cost_per_1000", "seconds_p50", "parsed", "token_f1_micro")]
    assert [title for title in (*titles, "Ranked by strict entity F1") if title not in page.text] == []
    assert "BLEU" not in page.text
    assert summary([str(results)]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^merged \* +\d+\.\d %", text, re.MULTILINE)
    assert re.search(r"^base \* +\d+\.\d+ %", text, re.MULTILINE)
    assert "perplexity" not in text


def test_text_from_data_is_escaped_in_tables_of_entities(tmp_path):
    gold, found = [[0, 27, EVIL]], [[31, 58, EVIL]]
    rows = [text_row(f"{EVIL} in {EVIL}", gold, found, id=f"{i:016x}", label=f"{EVIL}{i}") for i in range(3)]
    rows[2]["answer"] = EVIL
    del rows[2]["entities"]
    judge_run(tmp_path, "pii", None, {"merged": rows})
    page = write_report(tmp_path, "pii", ["merged"])
    assert "script" not in page.tags
    assert page.text.count(EVIL) > 20


def test_a_label_without_any_entity_has_no_scores_by_class(tmp_path):
    rows = [{**text_row("Anna calls.", ANNA, ANNA), "label": "en"}, {**text_row("Rien.", [], []), "label": "fr"}]
    judge_run(tmp_path, "pii", None, {"merged": rows * 4})
    assert "none in these records" in write_report(tmp_path, "pii", ["merged"]).text


def test_a_class_of_the_training_split_without_a_test_record_is_in_the_table(tmp_path):
    messages = [{"role": "user", "content": "Anna 0612 FR76"}]
    spans = [*ANNA, [5, 9, "PHONE"], [10, 14, "IBAN"]]
    reference = write_rows(tmp_path / "train.jsonl", [Record(content_id(messages), messages, spans=spans).to_row()])
    rows = [text_row("Anna and 0612", ANNA, [*ANNA, [9, 13, "PHONE"]], id=f"{index:016x}") for index in range(3)]
    folder = judge_run(tmp_path, "pii", None, {"merged": rows}, reference=reference)
    entities = read_json(folder / "scores/merged.json")["entities"]
    assert (list(entities["classes"]), entities["untested"]) == (["PERSON"], {"IBAN": 0, "PHONE": 3})
    page = "".join(write_report(tmp_path, "pii", ["merged"]).text.split())
    assert "IBAN00notestrecords" in page
    assert "PHONE03notestrecords" in page


def test_strategies_stand_in_one_table_with_differences_from_the_chosen_one_and_beside_the_training(tmp_path):
    named = {"persona": same, "plain": first_half, "loud": lambda text, index: f"{text.rstrip('.')} !"}
    rows = [*answer_rows("fr"), *(row for name, change in named.items() for row in answer_rows("fr", change, name))]
    completions = [{"messages": [{"role": "assistant", "content": text}]} for text in ("Quel but !", "Rien.")]
    reference = write_rows(tmp_path / "train.jsonl", [{"id": "a", **row} for row in completions])
    scored(tmp_path / "validation", rows, more=("--reference", reference))
    words = ["--strategy-scores", tmp_path / "validation/scores.json"]
    words += ["--strategy-answers", tmp_path / "validation/answers.jsonl"]
    judge_run(tmp_path, "captions", "fr", {"base": answer_rows("fr"), "merged": answer_rows("fr")})
    page = write_report(tmp_path, "captions", ["base", "merged"], *map(str, words), strategies=list(named))
    assert "On the 8 records of the validation split, answered by v with different prompts." in page.text
    [part] = re.findall(r"<h2>Prompt strategies.*?</table>", page.source, re.DOTALL)
    titles = [re.sub(r"<.*?>", "", cell).strip(" ↑↓") for cell in re.findall(r"<th.*?</th>", part, re.DOTALL)]
    assert titles[1:3] == ["Word pairs and triples of training", "Length against training"]
    table = re.findall(r"<tr>(.*?)</tr>", part, re.DOTALL)[1:]
    found = [re.findall(r"<td.*?</td>", row, re.DOTALL) for row in table]
    cells = [[re.sub(r"<.*?>|\s+", " ", cell).split() for cell in row] for row in found]
    assert [row[0][-1] for row in cells] == ["chosen", "persona", "plain", "loud", "completions"]
    marks = titles.index("Answers with an exclamation mark")
    assert [" ".join(row[marks][:2]) for row in cells] == ["25.0 %", "25.0 %", "25.0 %", "100.0 %", "50.0 %"]
    assert ['class="worse"' in row for row in table] == [False, False, True, True, False]
    assert "noise" in table[1]
    assert "Perplexity" not in part  # likelihoods are of the chosen one only
    assert "Prompt strategies" not in write_report(tmp_path, "captions", ["base", "merged"]).text


IMAGE = [{"type": "image", "image": "images/a.png"}, {"type": "text", "text": "Title?"}]
IMAGE_ROWS = [
    {
        **text_row("x", [], None, id=f"{index:016x}", spans=None),
        "messages": [{"role": "user", "content": IMAGE}], "expected": f"Title {index}", "answer": f"Titel {index}",
    }
    for index in range(12)
]  # fmt: skip


def test_images_stand_in_the_report_and_missing_ones_are_named(tmp_path):
    folder = tmp_path / "datasets/titles"
    (folder / "images").mkdir(parents=True)
    (folder / "images/a.png").write_bytes(encoded(small()))
    variants = ["base", "merged"]
    judge_run(tmp_path, "titles", None, dict.fromkeys(variants, IMAGE_ROWS))
    page = write_report(tmp_path, "titles", variants, "--images", str(folder))
    shown = [link for link in page.links if link.startswith("data:")]
    assert len(shown) > 12
    assert set(shown) == {thumbnail(folder / "images/a.png", LONGEST)}
    assert "Answers that differ from the expected ones" in page.text
    assert "Character error rate" in page.text
    without = write_report(tmp_path, "titles", variants)
    assert not [link for link in without.links if link.startswith("data:")]
    assert "[image images/a.png: missing]" in without.text
    assert {row["answer_kind"] for row in write_board(tmp_path, {"titles": variants})} == {"exact"}
    assert "Ranked by character error rate" in (tmp_path / "leaderboard.html").read_text(encoding="utf-8")
