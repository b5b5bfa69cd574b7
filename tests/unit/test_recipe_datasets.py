"""Each recipe reads the example data as they are; of football also match data as they are scraped."""

import json
import unicodedata
from pathlib import Path

import pytest
import yaml

from scripts.dataset.make_record import RecordMaker
from tests.support.data import load
from tests.support.dataset_steps import Stage, settings_of

ROOT = Path(__file__).parents[2]
TOLD = load("football_recipe.yaml")
# The records of train, validation and test.
SPLITS = {
    "football": [200, 27, 28], "stories": [15, 3, 6], "titles": [57, 6, 17], "pii": [1589, 205, 206],
    "captions": [84, 12, 108],
}  # fmt: skip
# Fields whose every value is in train and in test.
EVERYWHERE = {"stories": ["card_type"], "titles": ["layout", "language"], "pii": ["language"]}


def settings(recipe: str) -> dict:
    """Return the settings of a recipe's dataset."""
    text = (ROOT / f"config/recipes/{recipe}.yaml").read_text(encoding="utf-8")
    return settings_of(**yaml.safe_load(text)["datasets"][recipe])


@pytest.mark.parametrize("recipe", SPLITS)
def test_a_recipe_keeps_every_record_and_the_ledger_has_nothing_to_say(recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    stage = Stage(tmp_path, settings(recipe), capsys)
    stage.run(*(Path(file) for key in ("files", "validation_files", "test_files") for file in stage.settings[key]))
    ledger = stage.facts("ledger")
    assert ledger["look_first"] == []
    assert ledger["records"]["kept"] == ledger["records"]["read"]
    assert [share["records"] for share in ledger["splits"]["shares"]] == SPLITS[recipe]
    assert {check["count"] for check in ledger["checks"]} <= {0}
    fit = ledger["splits"]["stratification"]
    assert not fit or (fit["labels_missing_in_a_split"], fit["span_labels_missing_in_a_split"]) == (0, 0)
    for field in EVERYWHERE.get(recipe, ()):
        train, test = ({row["meta"][field] for row in stage.lines(split)} for split in ("train", "test"))
        assert train == test


def made(text: str = "Coup d’envoi donné.", event: str = "commentary", url: str = "https://x.example/psg-om"):
    """Return the record of a raw one of football, and the numbers of the checks that it violates."""
    raw = {"time": "7'", "event_type": event, "text": text, "url": url}
    record, violated, _ = RecordMaker(settings("football")).make(raw, "raw.json:1")
    return record, [check.number for check in violated]


@pytest.mark.parametrize(("url", "match"), TOLD["matches"].items())
def test_the_prompt_names_the_match_or_none_and_never_a_number(url: str, match: str):
    prompt = "Minute 7'. Événement : Commentaire." + (match and f" Match : {match}.")
    assert made(url=url)[0].messages[1]["content"] == prompt


def test_a_goal_that_tells_of_none_is_listed_and_one_that_tells_of_one_passes():
    for text in TOLD["no_goals"]:
        assert (made(text, "goal")[1], made(text, "commentary")[1]) == ([1], []), text
    for text in TOLD["goals"]:
        assert made(text, "goal")[1] == [], text


@pytest.mark.parametrize("event", ["card", "yellow_card", "red_card"])
def test_cards_of_all_kinds_have_one_label_and_its_check(event: str):
    assert made("Carton jaune pour Hakimi.", event)[0].label == "Carton"
    assert made("Corner pour Marseille.", event)[1] == [2]


def test_noise_is_set_aside_or_listed(tmp_path, capsys):
    stage = Stage(tmp_path, settings("football"), capsys)
    assert stage.ingest(ROOT / "data/football/noisy.json") == 0
    counts = stage.facts("ingest")
    assert [row["record"]["text"].strip() for row in stage.lines("quarantine")] == ["", ""]
    lines = [[int(example["origin"].rpartition(":")[2]) for example in check["examples"]] for check in counts["checks"]]
    numbers = [[line // 8 + 1 for line in listed] for listed in lines]  # a record has 8 lines
    assert numbers == [[4, 22, 23], [26], [13]]
    assert [(check["count"], check["records"]) for check in counts["checks"]] == [(3, 6), (1, 4), (1, 3)]
    assert counts["label_map"] == {"unused": [], "unmapped": []}
    assert all(unicodedata.is_normalized("NFC", row["messages"]) for row in stage.ingested())
    prompts = [json.loads(row["messages"])[1]["content"] for row in stage.ingested()]
    assert "Minute 41'. Événement : Carton. Match : us-toulmeric-as-valmont." in prompts
    assert "Minute 81'. Événement : Carton." in prompts
    assert not any("670748" in prompt for prompt in prompts)
