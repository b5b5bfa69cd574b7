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


def test_only_the_first_records_of_each_file_are_read_where_the_configuration_says_so(stage: Stage, tmp_path: Path):
    stage.settings["max_records"] = 30
    more = write_lines(tmp_path / "more.jsonl", [chat(f"more {n}", f"answer number {n}") for n in range(3)])
    stage.run(tmp_path / "raw.jsonl", more)
    assert [source["records"] for source in stage.facts("ledger")["sources"]] == [30, 3]
    assert "the first 30 records were read" in (tmp_path / "ledger.html").read_text(encoding="utf-8")


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


def test_the_page_shows_the_ledger(stage: Stage, tmp_path: Path):
    page = (tmp_path / "ledger.html").read_text(encoding="utf-8")
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    for words in ("93 read", "3 quarantined", "1 duplicates removed", "89 kept", "augmented, in train only"):
        assert words in text
    assert "has no &#39;messages&#39;" in text
    assert "splits.seed" in text
    assert page.count("<svg") == 3
    for drawing in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        assert "records" in set(ElementTree.fromstring(drawing.replace("xlink:", "")).itertext())


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


# A seed for each sentence. Without labels, shares that chance does not explain are far from those wanted.
@pytest.mark.parametrize(
    ("kind", "seed", "settings", "whose"),
    [
        ("best", 17, {"label": "type"}, "labels'"),
        ("usual", 1, {"label": "type"}, "labels'"),
        ("poor", 186, {"label": "type"}, "labels'"),
        ("best", 1, {}, "splits'"),
        ("usual", 2, {}, "splits'"),
    ],
)
def test_another_seed_is_proposed_only_where_chance_does_not_explain_the_shares(
    kind, seed, settings, whose, tmp_path, capsys
):
    shares = {"train": 0.5, "validation": 0.0, "test": 0.5, "seed": seed}
    stage = Stage(tmp_path, settings_of(splits=shares, **settings), capsys)
    stage.run(write_lines(tmp_path / "raw.jsonl", sample(60)))
    fit = stage.facts("split")["stratification"]
    assert (fit["best_seed"] == seed) == (kind == "best")
    assert fit["worthwhile"] == (kind == "poor") == (fit["distance"] > fit["usual_distance"])
    page = " ".join((tmp_path / "ledger.html").read_text(encoding="utf-8").replace("&#39;", "'").split())
    assert SENTENCES[kind].format(fit["distance"] if kind == "poor" else whose) in page
    assert ("A better draw" in page) == fit["worthwhile"]


def page_text(folder: Path) -> str:
    page = re.sub(r"<[^>]+>", " ", (folder / "ledger.html").read_text(encoding="utf-8"))
    return re.sub(r"\s+", " ", page.replace("&#39;", "'"))


def first_box(folder: Path) -> str:
    """Return the text of the box at the top of the page; it stands before the figures."""
    page = (folder / "ledger.html").read_text(encoding="utf-8")
    box = re.search(r'<section class="first">.*?</section>', page, re.DOTALL)
    assert box, "the page has no box"
    assert box.start() < page.index('class="figures"')
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", box[0])).replace("&#39;", "'").strip()


@pytest.mark.parametrize("stratify", [True, False])
def test_a_split_far_from_the_wanted_shares_is_not_fine(stratify: bool, tmp_path: Path, capsys: pytest.CaptureFixture):
    shares = {"train": 0.7, "validation": 0.1, "test": 0.2, "seed": 65}
    stage = Stage(tmp_path, settings_of(splits=shares, stratify=stratify), capsys)
    stage.run(write_lines(tmp_path / "raw.jsonl", sample(51)))
    page, ledger = page_text(tmp_path), stage.facts("ledger")
    train = next(share for share in ledger["splits"]["shares"] if share["split"] == "train")
    assert (train["achieved"], train["off"]) == (0.5, True)
    assert "This split is fine" not in page
    (line,) = ledger["look_first"]
    assert "train has 50.0 % (wanted: 70.0 %), validation has 15.0 % (wanted: 10.0 %)" in line
    assert "(wanted: 20.0 %); with 60 groups, up to 6.5 points of difference are tolerated. " in line
    assert page.count(line) == 2
    if not stratify:
        assert line.endswith(" Another splits.seed draws anew.")
        return
    fit = ledger["splits"]["stratification"]
    assert f" With splits.seed: {fit['best_seed']} it is train " in line
    assert "A better draw" in page
    stage.settings["splits"]["seed"] = fit["best_seed"]
    assert (stage.split(), stage.write_ledger()) == (0, 0)
    assert stage.facts("ledger")["look_first"] == []
    assert "This split is fine" in page_text(tmp_path)


def test_groups_that_can_not_meet_the_shares_are_said_to_be_too_few(tmp_path: Path, capsys: pytest.CaptureFixture):
    shares = {"train": 0.7, "validation": 0.0, "test": 0.3, "seed": 6}
    stage = Stage(tmp_path, settings_of(splits=shares, group_by="type"), capsys)
    stage.run(write_lines(tmp_path / "raw.jsonl", sample(60)))
    (line,) = stage.facts("ledger")["look_first"]
    assert "with 2 groups, up to 10.0 points of difference are tolerated. No seed that was tried brings more" in line
    assert "This split is fine" not in page_text(tmp_path)


def test_what_does_not_fit_the_data_stands_first(tmp_path: Path, capsys: pytest.CaptureFixture):
    stage = Stage(
        tmp_path,
        settings_of(
            label="type",
            label_map={"goal": "But", "red_card": "Rouge", "corner": "Corner"},
            splits={"train": 0.5, "validation": 0.0, "test": 0.5, "seed": 1},
            checks=[{"label": "But", "must_match": "."}, {"label": "Rouge", "must_match": "rouge"}],
        ),
        capsys,
    )
    stage.run(write_lines(tmp_path / "raw.jsonl", sample(300)))
    assert stage.facts("ledger")["look_first"] == [
        "Check 2 looked at no record, for nothing has its label 'Rouge'. The labels are But, card.",
        "No record has these labels that label_map names: red_card, corner.",
        "label_map does not name this label: card (9 records). Labels that it does not name stay as they are.",
    ]
    assert [(check["records"], check["count"]) for check in stage.facts("ledger")["checks"]] == [(300, 0), (0, 0)]
    assert first_box(tmp_path).startswith("Look at this first Check 2 looked at no record")
    page = (tmp_path / "ledger.html").read_text(encoding="utf-8")
    assert '<td class="number good">0 of 300</td>' in page
    assert '<td class="number warn">0 of 0: nothing has this label</td>' in page
    stage.settings |= {"label_map": {"goal": "But", "card": "card"}, "checks": stage.settings["checks"][:1]}
    stage.run(tmp_path / "raw.jsonl")
    assert stage.facts("ledger")["look_first"] == []
    assert "Look at this first" not in page_text(tmp_path)


def test_numbered_span_labels_and_a_map_that_does_not_fit_stand_first(tmp_path: Path, capsys: pytest.CaptureFixture):
    labels = ["FIRSTNAME_1", "FIRSTNAME_2", "CITY_1", "IPV4", "IPV6"]
    texts = [f"{n}: " + " ".join(f"w{n}x{i}" for i in range(9)) for n in range(100)]
    rows = [{"text": text, "spans": str([[0, text.index(":"), labels[n % 5]]])} for n, text in enumerate(texts)]
    shares = {"train": 0.5, "validation": 0.0, "test": 0.5}
    stage = Stage(tmp_path, settings_of(format="spans", splits=shares), capsys)
    raw = write_lines(tmp_path / "raw.jsonl", rows)
    stage.run(raw)
    assert stage.facts("ledger")["look_first"] == [
        "Span labels differ only by a number, such as FIRSTNAME_1 and FIRSTNAME_2, and each is a class of its own. "
        "With strip_span_label_numbers: true the 5 classes become 4."
    ]
    stage.settings |= {"strip_span_label_numbers": True, "span_label_map": {"FIRSTNAME_1": "PERSON", "CITY": "O"}}
    stage.run(raw)
    assert stage.facts("ledger")["look_first"] == [
        "No span has this label that span_label_map names: FIRSTNAME_1.",
        "span_label_map does not name these labels: FIRSTNAME (40 spans), IPV4 (20 spans), IPV6 (20 spans). Labels "
        "that it does not name stay as they are.",
    ]
    assert first_box(tmp_path).startswith("Look at this first No span has")


def test_a_dataset_without_labels_has_a_page_too(tmp_path: Path, capsys: pytest.CaptureFixture):
    stage = Stage(tmp_path, settings_of(splits={"train": 0.5, "validation": 0.0, "test": 0.5}), capsys)
    stage.run(write_lines(tmp_path / "raw.jsonl", sample(20)))
    page = (tmp_path / "ledger.html").read_text(encoding="utf-8")
    assert "<h2>Labels</h2>" not in page
    assert "None: every record that was read could be used." in page
    assert json.loads((tmp_path / "ledger.json").read_text(encoding="utf-8"))["labels"] == []
