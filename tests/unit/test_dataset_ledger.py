"""The ledger accounts for every record, as JSON and as a page that shows data as text and nothing else."""

import json
import random
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.common.records import SPLITS
from scripts.dataset.ledger import BINS, Lengths
from scripts.dataset.ledger_charts import HEIGHT, WIDTH, histogram_chart
from tests.support.dataset_steps import Stage, chat, settings_of, write_lines

ATTACK = "<script>alert('x')</script><img src=x onerror=alert(1)>\"'&amp;"


def sample(count: int = 80) -> list[dict]:
    rng = random.Random(1)
    kinds = ["goal"] * count + ["card"] * 9
    rng.shuffle(kinds)
    return [
        chat(f"q{n}", " ".join("".join(rng.choices("abcdefghij", k=5)) for _ in range(rng.randint(3, 30))), type=kind)
        for n, kind in enumerate(kinds)
    ]


@pytest.fixture
def stage(tmp_path: Path, capsys: pytest.CaptureFixture) -> Stage:
    checks = [{"label": "But", "must_match": "z"}, {"must_not_match": "^abonnez", "on_violation": "quarantine"}]
    stage = Stage(
        tmp_path,
        settings_of(
            label="type",
            label_map={"goal": "But"},
            splits={"train": 0.5, "validation": 0.25, "test": 0.25},
            checks=checks,
            on_bad_record="quarantine",
            augment={"templates": ["Bref : {{ user }}"]},
        ),
        capsys,
    )
    records = sample()
    raw = [*records, records[0], {"type": "card"}, {"type": "card"}, chat("q", "abonnez-vous", type="card")]
    stage.run(write_lines(tmp_path / "raw.jsonl", raw))
    return stage


def test_every_record_is_accounted_for(stage: Stage):
    ledger = stage.facts("ledger")
    records = ledger["records"]
    assert records["read"] == 93
    assert records["quarantined"] == 3 == len(ledger["quarantine"])
    assert records["exact_duplicates"] == 1 == len(ledger["duplicates"])
    assert records["kept"] == 89
    assert records["read"] == sum(value for key, value in records.items() if key not in ("read", "augmented"))
    assert sum(share["records"] for share in ledger["splits"]["shares"]) == records["kept"]
    assert records["augmented"] == next(s["records"] for s in ledger["splits"]["shares"] if s["split"] == "train")


def test_reasons_come_with_counts_and_examples(stage: Stage):
    missing, check = stage.facts("ledger")["reasons"]
    assert (missing["reason"], missing["count"]) == ("missing column", 2)
    assert missing["examples"][0]["text"] == '{"type": "card"}'
    assert (check["reason"], check["count"]) == ("check 2", 1)
    assert [entry["count"] for entry in stage.facts("ledger")["checks"]] == [81, 1]


def test_labels_are_counted_raw_mapped_and_per_split(stage: Stage):
    ledger = stage.facts("ledger")
    doubled = {"goal": 0, "card": 0} | {sample()[0]["type"]: 1}
    assert {row["label"]: row["records"] - doubled[row["label"]] for row in ledger["raw_labels"]} == {
        "goal": 80,
        "card": 9,
    }
    assert [(row["label"], row["records"]) for row in ledger["labels"]] == [("But", 80), ("card", 9)]
    assert all(row["records"] == sum(row[split] for split in SPLITS) for row in ledger["labels"])


def test_lengths_are_those_of_the_answers(stage: Stage):
    lengths = stage.facts("ledger")["lengths"]
    answers = sorted(row["expected"] for row in stage.records())
    assert lengths["answer characters"]["maximum"] == max(map(len, answers))
    assert lengths["answer words"]["minimum"] == min(len(answer.split()) for answer in answers)
    assert lengths["answer characters"]["median"] == sorted(map(len, answers))[(len(answers) - 1) // 2]


@given(st.lists(st.integers(0, 10**6), min_size=1))
def test_a_histogram_holds_every_text_once(values: list[int]):
    lengths = Lengths()
    for value in values:
        lengths.add(value)
    entry = lengths.as_json()
    bins = entry["histogram"]
    assert 1 <= len(bins) <= BINS + 1
    for low, high, count in ((b["from"], b["to"], b["records"]) for b in bins):
        assert count == sum(low <= value < high for value in values)
    assert sum(b["records"] for b in bins) == len(values)
    assert entry["minimum"] <= entry["p5"] <= entry["median"] <= entry["p95"] <= entry["maximum"]
    chart = histogram_chart(entry)
    assert all(0 <= bar["y"] <= HEIGHT and 0 <= bar["x"] <= WIDTH for bar in chart["bars"])
    assert 0 <= chart["median_x"] <= WIDTH


def test_the_page_shows_the_ledger(stage: Stage, tmp_path: Path):
    page = (tmp_path / "ledger.html").read_text(encoding="utf-8")
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    for words in ("93 read", "3 quarantined", "1 duplicates removed", "89 kept", "augmented, in train only"):
        assert words in text
    assert "has no &#39;messages&#39;" in text
    assert "splits.seed" in text
    assert page.count("<svg") == 3
    for drawing in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        assert len(ElementTree.fromstring(drawing).findall("rect")) > 1


def test_text_of_the_data_is_never_markup(tmp_path: Path, capsys: pytest.CaptureFixture):
    settings = settings_of(
        label="type",
        checks=[{"must_match": "z"}],
        on_bad_record="quarantine",
        splits={"train": 0.5, "validation": 0.0, "test": 0.5},
    )
    stage = Stage(tmp_path, settings, capsys)
    records = [record | {"type": ATTACK} for record in sample(30)]
    records += [chat("q", ATTACK, type=ATTACK), chat("q", ATTACK, type=ATTACK), {ATTACK: ATTACK, "type": ATTACK}]
    stage.run(write_lines(tmp_path / "raw.jsonl", records))
    page = (tmp_path / "ledger.html").read_text(encoding="utf-8")
    assert page.count("&lt;script&gt;alert(") >= 4
    assert "<script" not in page
    assert "<img" not in page
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page


SENTENCES = {
    "best": "This split is fine. Of the seeds that were tried, this one keeps the {} shares closest",
    "usual": "This split is fine. It keeps the {} shares as closely as a draw does",
    "poor": "instead of {:.1f}, which is more than 95 % of the seeds that were tried have",
}


@pytest.mark.parametrize("kind", SENTENCES)
@pytest.mark.parametrize(("settings", "whose"), [({}, "splits'"), ({"label": "type"}, "labels'")])
def test_another_seed_is_proposed_only_where_chance_does_not_explain_the_shares(
    settings, whose, kind, tmp_path, capsys
):
    stage = Stage(tmp_path, settings_of(splits={"train": 0.5, "validation": 0.0, "test": 0.5}, **settings), capsys)
    assert stage.ingest(write_lines(tmp_path / "raw.jsonl", sample(60))) == 0
    for seed in range(1000):
        stage.settings["splits"]["seed"] = seed
        assert stage.split() == 0
        fit = stage.facts("split")["stratification"]
        assert fit["labels_missing_in_a_split"] == 0
        if kind == ("best" if fit["best_seed"] == seed else "poor" if fit["worthwhile"] else "usual"):
            break
        stage.settings["splits"]["seed"] = fit["best_seed"]
        if kind == "best":
            assert stage.split() == 0
            break
    fit = stage.facts("split")["stratification"]
    assert fit["worthwhile"] == (kind == "poor") == (fit["distance"] > fit["usual_distance"])
    assert stage.write_ledger() == 0
    page = " ".join((tmp_path / "ledger.html").read_text(encoding="utf-8").replace("&#39;", "'").split())
    assert SENTENCES[kind].format(fit["distance"] if kind == "poor" else whose) in page
    assert ("A better draw" in page) == fit["worthwhile"]


def test_a_dataset_without_labels_has_a_page_too(tmp_path: Path, capsys: pytest.CaptureFixture):
    stage = Stage(tmp_path, settings_of(splits={"train": 0.5, "validation": 0.0, "test": 0.5}), capsys)
    stage.run(write_lines(tmp_path / "raw.jsonl", sample(20)))
    page = (tmp_path / "ledger.html").read_text(encoding="utf-8")
    assert "<h2>Labels</h2>" not in page
    assert "None: every record that was read could be used." in page
    assert json.loads((tmp_path / "ledger.json").read_text(encoding="utf-8"))["labels"] == []
