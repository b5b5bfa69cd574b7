"""The ledger accounts for every record, as JSON and as a page that shows data as text and nothing else."""

import random
import re
from pathlib import Path
from statistics import median_low

import pytest

from scripts.common.records import SPLITS
from scripts.dataset import canonical
from scripts.dataset.ledger import word_counts
from tests.support.dataset_steps import Stage, chat, settings_of, write_lines

HALVES = {"train": 0.5, "validation": 0.0, "test": 0.5}


def test_words_are_what_python_splits_at():
    spaces = [chr(code) for code in range(0x110000) if chr(code).isspace()]
    rng = random.Random(1)
    for count in range(40):
        texts = ["".join(rng.choices([*spaces, *"ab、⚽"], k=rng.randrange(20))) for _ in range(count)]
        assert word_counts(texts) == [len(text.split()) for text in texts]


def sample(count: int = 80) -> list[dict]:
    rng = random.Random(1)
    kinds = ["goal"] * count + ["card"] * 9
    rng.shuffle(kinds)
    return [
        chat(f"q{n}", " ".join("".join(rng.choices("abcdefghij", k=5)) for _ in range(rng.randint(3, 30))), type=kind)
        for n, kind in enumerate(kinds)
    ]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture):
    """Return a function that runs the stage on records; it returns the stage, with the page and its text."""

    def run(records: list[dict], **settings) -> tuple[Stage, str, str]:
        stage = Stage(tmp_path, settings_of(**settings), capsys)
        stage.run(write_lines(tmp_path / "raw.jsonl", records))
        page = (tmp_path / "ledger.html").read_text(encoding="utf-8")
        return stage, page, " ".join(re.sub(r"<[^>]+>", " ", page).replace("&#39;", "'").split())

    return run


def test_every_record_is_accounted_for(run):
    stage, page, text = run(
        [*sample(), sample()[0], {"type": "card"}, {"type": "card"}, chat("q", "abonnez-vous", type="card")],
        label="type",
        label_map={"goal": "But"},
        splits={"train": 0.5, "validation": 0.25, "test": 0.25},
        checks=[{"label": "But", "must_match": "z"}, {"must_not_match": "^abonnez", "on_violation": "quarantine"}],
        on_bad_record="quarantine",
        augment={"templates": ["Bref : {{ user }}"]},
    )
    ledger = stage.facts("ledger")
    records, shares = ledger["records"], {share["split"]: share["records"] for share in ledger["splits"]["shares"]}
    assert {key: records[key] for key in ("read", "quarantined", "exact_duplicates", "near_duplicates", "kept")} == {
        "read": 93, "quarantined": 3, "exact_duplicates": 1, "near_duplicates": 0, "kept": 89,
    }  # fmt: skip
    assert (sum(shares.values()), shares["train"]) == (records["kept"], records["augmented"])
    missing, check = ledger["reasons"]
    assert (missing["reason"], missing["count"], check["reason"], check["count"]) == ("missing column", 2, "check 2", 1)
    assert missing["examples"][0]["text"] == '{"type": "card"}'
    assert [entry["count"] for entry in ledger["checks"]] == [81, 1]
    assert [(row["label"], row["records"]) for row in ledger["labels"]] == [("But", 80), ("card", 9)]
    assert all(row["records"] == sum(row[split] for split in SPLITS) for row in ledger["labels"])
    lengths, found = sorted(len(row["expected"]) for row in stage.records()), ledger["lengths"]["answer characters"]
    assert (found["minimum"], found["median"], found["maximum"]) == (lengths[0], lengths[44], lengths[-1])
    assert sum(each["records"] for each in found["histogram"]) == 89
    for split, median in ledger["median_answer_characters"].items():
        assert median == median_low(len(row["expected"]) for row in stage.records() if row["split"] == split)
    samples = page.partition("The first record of each label")[2].partition("<h2>")[0]
    firsts = {row["label"]: row["origin"].rpartition("/")[2] for row in reversed(stage.records())}
    assert sorted(re.findall(r"raw\.jsonl:\d+", samples)) == sorted(firsts.values())
    for words in (
        "89 kept of 93 read",
        "3 quarantined",
        "1 exact duplicate",
        "4 left out (4.3 %)",
        "augmented, in train only",
    ):
        assert words in text
    assert "has no 'messages'" in text
    assert page.count("<svg") == 3


def test_only_the_first_records_of_each_file_are_read_where_the_configuration_says_so(run, tmp_path: Path):
    stage, _, _ = run(sample(), splits=HALVES, max_records=30)
    more = write_lines(tmp_path / "more.jsonl", [chat(f"more {n}", f"answer number {n}") for n in range(3)])
    stage.run(tmp_path / "raw.jsonl", more)
    assert [source["records"] for source in stage.facts("ledger")["sources"]] == [30, 3]
    assert "the first 30 records of each source were read" in (tmp_path / "ledger.html").read_text(encoding="utf-8")


def test_row_groups_of_which_all_rows_are_removed_count_nothing(run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(canonical, "ROWS", 4)
    stage, _, _ = run([*sample(), *sample()], splits=HALVES)
    ledger = stage.facts("ledger")
    assert (ledger["records"]["exact_duplicates"], ledger["records"]["kept"]) == (89, 89)
    assert {what: lengths["texts"] for what, lengths in ledger["lengths"].items()} == {
        "answer characters": 89, "answer words": 89, "prompt characters": 89,
    }  # fmt: skip


def test_another_seed_is_proposed_where_chance_does_not_explain_the_labels(run):
    stage, _, text = run(sample(60), splits=HALVES | {"seed": 186}, label="type")
    fit = stage.facts("split")["stratification"]
    assert fit["distance"] > fit["usual_distance"]
    assert "A better seed" in text
    stage, _, text = run(sample(60), splits=HALVES | {"seed": fit["best_seed"]}, label="type")
    assert stage.facts("split")["stratification"]["distance"] == fit["best_distance"]
    assert "This split is fine" in text


@pytest.mark.parametrize("stratify", [True, False])
def test_a_split_far_from_the_wanted_shares_is_not_fine(stratify: bool, run):
    shares = {"train": 0.7, "validation": 0.1, "test": 0.2, "seed": 65}
    stage, _, text = run(sample(51), splits=shares, stratify=stratify)
    ledger = stage.facts("ledger")
    train = next(share for share in ledger["splits"]["shares"] if share["split"] == "train")
    assert (train["achieved"], train["off"]) == (0.5, True)
    assert "This split is fine" not in text
    (line,) = ledger["look_first"]
    assert "train has 50.0% (wanted: 70.0%), validation has 15.0% (wanted: 10.0%)" in line
    assert "with 60 groups, up to 6.5 points of difference are tolerated. " in line
    assert text.count(line) == 2
    if stratify:
        seed = ledger["splits"]["stratification"]["best_seed"]
        assert f" splits.seed: {seed} gives train " in line
        stage, _, text = run(sample(51), splits=shares | {"seed": seed})
        assert stage.facts("ledger")["look_first"] == []
        assert "This split is fine" in text
    else:
        assert line.endswith(" Try another splits.seed.")


def test_groups_that_can_not_meet_the_shares_are_said_to_be_too_few(run):
    shares = {"train": 0.7, "validation": 0.0, "test": 0.3, "seed": 6}
    stage, _, text = run(sample(60), splits=shares, group_by="type")
    line, few = stage.facts("ledger")["look_first"]
    assert few.startswith("The test split has 1 group (group_by: type).")
    assert "with 2 groups, up to 10.0 points of difference are tolerated. No seed tried brings more" in line
    assert "This split is fine" not in text


def test_what_does_not_fit_the_data_stands_first(run):
    checks = [{"label": "But", "must_match": "."}, {"label": "Rouge", "must_match": "rouge"}]
    settings = {"label": "type", "splits": HALVES | {"seed": 1}}
    label_map = {"goal": "But", "red_card": "Rouge", "corner": "Corner"}
    stage, page, text = run(sample(300), **settings, label_map=label_map, checks=checks)
    assert stage.facts("ledger")["look_first"] == [
        "Check 2 applies to no record, because none has its label 'Rouge'. The labels are But, card.",
        "No record has these labels that label_map names: red_card, corner.",
        "label_map does not name these labels, which stay as they are: card (9).",
    ]
    assert [(check["records"], check["count"]) for check in stage.facts("ledger")["checks"]] == [(300, 0), (0, 0)]
    assert "Look at this first Check 2 applies to no record" in text
    assert page.index('class="first"') < page.index('class="figures"')
    assert "0 of 0: no record has this label" in text
    stage, _, text = run(sample(300), **settings, label_map={"goal": "But", "card": "card"}, checks=checks[:1])
    assert stage.facts("ledger")["look_first"] == []
    assert "Look at this first" not in text


def test_numbered_span_labels_and_a_map_that_does_not_fit_stand_first(run):
    labels = ["FIRSTNAME_1", "FIRSTNAME_2", "CITY_1", "IPV4", "IPV6"]
    texts = [f"{n}: " + " ".join(f"w{n}x{i}" for i in range(9)) for n in range(100)]
    rows = [{"text": text, "spans": str([[0, text.index(":"), labels[n % 5]]])} for n, text in enumerate(texts)]
    stage, _, _ = run(rows, format="spans", splits=HALVES)
    assert stage.facts("ledger")["look_first"] == [
        "Span labels differ only by a number, such as FIRSTNAME_1 and FIRSTNAME_2, and each is a separate class. "
        "With strip_span_label_numbers: true the 5 classes become 4."
    ]
    mapped = {"strip_span_label_numbers": True, "span_label_map": {"FIRSTNAME_1": "PERSON", "CITY": "O"}}
    stage, _, text = run(rows, format="spans", splits=HALVES, **mapped)
    assert stage.facts("ledger")["look_first"] == [
        "No span has these labels that span_label_map names: FIRSTNAME_1.",
        "span_label_map does not name these labels, which stay as they are: FIRSTNAME (40), IPV4 (20), IPV6 (20).",
    ]
    assert "Look at this first No span has" in text


def test_examples_are_text_and_label_with_what_matched_marked(run, tmp_path):
    rows = [*sample(), chat("q of a corner", "le <b>corner</b> de Laurac", type="goal"), chat("q", "  ", type="card")]
    rows += [chat("q", "abonnez-vous", type="card"), chat("q", "un but de la tête", type="card")]
    checks = [{"label": "goal", "must_match": "[a-j]{5}|but", "must_not_match": "<b>corner"}]
    checks += [
        {"must_not_match": "abonnez", "on_violation": "quarantine"},
        {"label": "card", "must_match": "^[a-j ]+$"},
    ]
    _, page, text = run(rows, label="type", checks=checks, on_bad_record="quarantine")
    assert f"{tmp_path / 'raw.jsonl'}:90 goal" in text.replace("/ ", "/")
    assert "le <mark>&lt;b&gt;corner</mark>&lt;/b&gt; de Laurac" in page
    assert "assistant: <mark>abonnez</mark>-vous" in page
    assert "assistant: <mark>(empty)</mark>" in page
    assert "nothing in it matches what it must match" in text
    assert "un but de la tête" in text
    assert "Check 1 (label 'goal') is violated by 1 of 81 records. `on_violation: list` keeps them" in text
    assert "&#34;" not in page, "no raw JSON"


def test_duplicates_are_one_line_for_each_kept_record_with_what_differs_marked(run, tmp_path):
    words = "le ballon file vers le poteau et personne ne le touche avant la ligne de but ce soir encore une fois"
    again = [chat("q", f"{words} {end}", type=kind) for end, kind in (("!", "goal"), ("!", "goal"), ("alors", "card"))]
    other = "une tête piquée du capitaine que le gardien détourne du bout des gants sur sa barre transversale"
    less = [chat("q", other + end, type="goal") for end in ("", " en corner")]
    stage, page, text = run([*sample(), *less, *again, *again[:1]], label="type")
    assert stage.facts("ledger")["records"]["exact_duplicates"] == 2
    found = re.findall("<summary><b>(. ×)</b>.*?similarity (?:from )?([0-9.]+)", page)
    assert [line for line, _ in found] == ["3 ×", "1 ×"], "a contradiction comes before a lower similarity"
    assert found[0][1] > found[1][1]
    line = "3 × exact, near (similarity from 0.9"
    summary = " ".join(re.sub(r"<[^>]+>", " ", re.search("<summary><b>3 ×.*?</summary>", page, re.DOTALL)[0]).split())
    assert summary.startswith(line)
    assert f"{tmp_path / 'raw.jsonl'}:92 goal labels differ" in summary.replace("/ ", "/")
    assert "<mark>alors</mark>" in page
    assert "1 removed duplicate has another label, or other spans" in text


@pytest.mark.parametrize(("groups", "warned"), [(60, False), (8, True)])
def test_groups_of_each_split_are_counted_and_few_of_them_are_warned_of(groups, warned, run):
    rows = [{**row, "match": f"m{number % groups}"} for number, row in enumerate(sample(111))]
    stage, _, text = run(rows, group_by="match", splits=HALVES | {"seed": 1}, stratify=False)
    counted = stage.facts("ledger")["groups"]
    assert counted["by"] == "match"
    assert counted["train"] + counted["test"] == groups
    assert f"test, {counted['test']} groups" in text
    assert (f"The test split has {counted['test']} groups (group_by: match)" in text) == warned
    assert "count groups" in text
    assert "count groups" not in run(sample(), splits=HALVES)[2]
