"""The example data are what their READMEs say: counts, fields, lengths, no two alike, and matches that add up."""

import json
import re
import statistics
import unicodedata
from collections import Counter
from difflib import SequenceMatcher
from itertools import combinations
from pathlib import Path

from scripts.common.files import read_jsonl
from scripts.config.runs import ASSISTANT_PHRASES
from scripts.score.style import EMOJI

DATA = Path(__file__).parents[2] / "data"
# The README's row of a match: its slug, the goals of both sides, and counts of records.
MATCH = re.compile(r"^\| `([a-z-]+)`[^|]*\| (\d)-(\d) \|((?: \d+ \|){6})$", re.MULTILINE)
KINDS = ("commentary", "goal", "substitution", "penalty", "cards")
CAPTIONS = {"train": 84, "validation": 12, "test": 108}
ASKED = re.compile(r"(Write a caption|Write a caption for this picture|Caption this): .*\.")


def read(name: str) -> list[dict]:
    return list(read_jsonl(DATA / f"{name}.jsonl"))


def near_duplicates(texts: list[str], least: float) -> list[tuple[str, str]]:
    """Return the pairs of texts that share at least `least` of their words (Jaccard)."""
    bags = [(text, set(re.findall(r"\w+", text.lower()))) for text in texts]
    return [(a, b) for (a, x), (b, y) in combinations(bags, 2) if len(x & y) >= least * len(x | y)]


def minute(record: dict) -> tuple[int, int]:
    base, _, added = record["time"].replace("'", "").partition("+")
    return int(base), int(added or 0)


def test_each_match_is_as_the_readme_has_it_from_kick_off_to_final_whistle_and_in_typographic_french():
    records = json.loads((DATA / "football/records.json").read_text(encoding="utf-8"))
    matches = MATCH.findall((DATA / "football/README.md").read_text(encoding="utf-8"))
    assert len(matches) == 4
    for slug, *result, counts in matches:
        match = [record for record in records if record["url"].endswith("/" + slug)]
        kinds = Counter("cards" if "card" in record["event_type"] else record["event_type"] for record in match)
        assert [len(match), *(kinds[kind] for kind in KINDS)] == [int(number) for number in re.findall(r"\d+", counts)]
        times = [(minute(record), record["scraped_at"]) for record in match]
        assert times == sorted(times)
        assert (times[0][0], times[-1][0] > (90, 0)) == ((1, 0), True)
        home = away = goals = 0
        for record in match:
            goals += record["event_type"] == "goal"
            for told in re.finditer(r"(?<![\d-])(\d)-(\d)(?![\d-])", record["text"]):
                previous, (home, away) = (home, away), (int(told[1]), int(told[2]))
                assert home + away == goals, record["text"]
                assert min(home - previous[0], away - previous[1]) >= 0, record["text"]
        assert [str(home), str(away)] == result
        assert "-".join(result) in match[-1]["text"]
    texts = [record["text"] for record in records]
    assert near_duplicates(texts, 0.5) == []
    assert [text for text in texts if re.search(r"'|\.\.\.|  |[^\u00a0][!?:;]", text)] == []


def test_noisy_records_have_the_faults_that_the_readme_names():
    """Wrong labels that a check lists, and empty texts, are in test_recipe_datasets.py."""
    records = json.loads((DATA / "football/noisy.json").read_text(encoding="utf-8"))
    texts = ["", *(record["text"] for record in records)]  # counted from 1, as in the README
    assert (records[4]["event_type"], texts[5].partition(" pour")[0]) == ("commentary", "Carton jaune")
    assert texts[6] == texts[7]
    for first, second in ((8, 9), (14, 15)):
        assert texts[first] != texts[second]
        assert SequenceMatcher(None, texts[first], texts[second]).ratio() > 0.9
    unfinished = [number for number, text in enumerate(texts) if text.strip() and text[-1] not in ".!"]
    assert unfinished == [11, 15, 21]  # 15 lacks only the full stop
    assert [number for number, text in enumerate(texts) if not unicodedata.is_normalized("NFC", text)] == [18]


def test_stories_are_composed_vietnamese_chats_of_different_cards_and_stories():
    cards, prompts = read("stories/cards"), read("stories/prompts")
    shown = {"protection": "Bảo vệ", "community": "Cộng đồng", "disaster": "Thảm họa"}
    assert Counter(card["card_type"] for card in cards) == dict.fromkeys(shown, 8)
    assert all(unicodedata.is_normalized("NFC", turn["content"]) for row in cards + prompts for turn in row["messages"])
    for card in cards:
        _, asked, story = (turn["content"] for turn in card["messages"])
        assert re.fullmatch(rf"Lá bài: .+\nLoại: {shown[card['card_type']]}\nHiệu ứng: .+\.", asked)
        assert 60 <= len(story.split()) <= 120
    assert near_duplicates([card["messages"][2]["content"] for card in cards], 0.4) == []
    assert len({entry["messages"][1]["content"] for entry in cards + prompts}) == 24 + 6


def test_captions_are_in_the_voice_no_two_are_alike_and_every_prompt_asks_for_one():
    splits = {name: read(f"captions/{name}") for name in CAPTIONS}
    assert {name: len(rows) for name, rows in splits.items()} == CAPTIONS
    further = [message["content"] for row in read("captions/prompts") for message in row["messages"]]
    asked = [*(row["prompt"] for rows in splits.values() for row in rows), *further]
    assert [text for text in asked if not ASKED.fullmatch(text)] == []
    assert len(set(asked)) == len(asked) == 204 + 8
    texts = [row["completion"] for rows in splits.values() for row in rows]
    lengths = [len(text.split()) for text in texts]
    assert (min(lengths), max(lengths), round(statistics.mean(lengths))) == (9, 20, 14)
    for text in texts:
        caption, tag = text.rsplit(" ", 1)
        assert (tag, "!" in caption, bool(EMOJI.search(caption[-5:]))) == ("#LoudestFan", True, True)
        assert not any(re.search(phrase, text, re.IGNORECASE) for phrase in ASSISTANT_PHRASES)
    assert near_duplicates(texts, 0.35) == []
