"""The example data are what their READMEs say: fields, counts, lengths, no two alike, and matches that add up."""

import json
import re
import statistics
import unicodedata
from collections import Counter
from datetime import datetime
from difflib import SequenceMatcher
from itertools import combinations
from pathlib import Path

import pytest

DATA = Path(__file__).parents[2] / "data"
FIELDS = ["time", "event_type", "text", "source", "url", "scraped_at"]
SCORES = {
    "as-valmont-fc-rives": (4, 3),
    "olympique-marsannes-etoile-corvenne": (2, 3),
    "stade-brannais-us-toulmeric": (5, 3),
    "racing-aubeleau-sc-pontrevy": (2, 4),
}
TELLS = {
    "goal": r"\b(bu+t|marqu\w+|inscrit|ouvre le score|égalise)\b",
    "substitution": r"\b(rempla\w+|entre|sort|sortir|place)\b",
    "penalty": r"\bpenalty\b",
    "card": r"\bcarton\b",
    "yellow_card": r"\bcarton jaune\b",
    "red_card": r"\bcarton rouge\b",
}


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def records() -> list[dict]:
    return json.loads((DATA / "football/records.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def noisy() -> list[dict]:
    return json.loads((DATA / "football/noisy.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def matches(records) -> dict[str, list[dict]]:
    """Return the records of each match by the last part of its url."""
    return {slug: [record for record in records if record["url"].endswith("/" + slug)] for slug in SCORES}


@pytest.fixture(scope="module")
def cards() -> list[dict]:
    return read_lines(DATA / "stories/cards.jsonl")


def near_duplicates(texts: list[str], least: float) -> list[tuple[str, str]]:
    """Return the pairs of texts that share at least `least` of their words (Jaccard)."""
    bags = [(text, set(re.findall(r"\w+", text.lower()))) for text in texts]
    return [(a, b) for (a, x), (b, y) in combinations(bags, 2) if len(x & y) >= least * len(x | y)]


def test_football_has_the_promised_labels(records):
    assert Counter(record["event_type"] for record in records) == {
        "commentary": 209,
        "goal": 26,
        "substitution": 14,
        "penalty": 3,
        "card": 1,
        "yellow_card": 1,
        "red_card": 1,
    }


def test_football_records_have_the_raw_fields(records, noisy):
    for record in records + noisy:
        assert list(record) == FIELDS
        assert re.fullmatch(r"(45|90)'\+\d|[1-9]\d?'", record["time"])
        assert record["source"] == "exemple-direct"
        assert datetime.fromisoformat(record["scraped_at"]).utcoffset().total_seconds() == 0


def test_football_urls_end_in_the_match_or_in_noise_name_it_earlier_or_by_number(records, noisy):
    match = r"https://matches\.example/2026/[a-z-]+"
    assert all(re.fullmatch(match, record["url"]) for record in records + noisy[:21])
    assert all(re.search(r"/match/us-toulmeric-as-valmont-\d+/", record["url"]) for record in noisy[21:24])
    assert all(re.search(r"/live/\d+$", record["url"]) for record in noisy[24:])


def test_football_texts_are_about_100_characters_and_of_many_lengths(records):
    lengths = [len(record["text"]) for record in records]
    assert 90 <= statistics.mean(lengths) <= 115
    assert statistics.pstdev(lengths) / statistics.mean(lengths) > 0.25


def test_no_two_football_texts_are_alike(records):
    texts = [record["text"] for record in records]
    assert len(set(texts)) == 255
    assert near_duplicates(texts, 0.5) == []


def test_football_openings_vary(records):
    openings = Counter(" ".join(record["text"].split()[:2]) for record in records)
    assert openings.most_common(1)[0][1] <= 6


def test_football_texts_are_typographic_french(records):
    for record in records:
        text = record["text"]
        assert unicodedata.is_normalized("NFC", text)
        assert "'" not in text
        assert "..." not in text
        assert "  " not in text
        assert not re.search(r"[^\u00a0][!?:;]", text), text
        assert re.match(r"[A-ZÀÂÇÉÈÊÎÔŒ]", text)
        assert text[-1] in ".!?…"


@pytest.mark.parametrize("label", sorted(TELLS))
def test_a_football_text_tells_of_its_event(records, label):
    silent = [r["text"] for r in records if r["event_type"] == label and not re.search(TELLS[label], r["text"], re.I)]
    assert silent == []


def test_football_commentary_tells_of_no_other_event(records):
    others = r"\b(buts?|marqu\w+|inscri\w+|égalis\w+|ouvre le score|penalty|carton|rempla\w+|changement)\b"
    told = [r["text"] for r in records if r["event_type"] == "commentary" and re.search(others, r["text"], re.I)]
    assert told == []


def minute(record: dict) -> tuple[int, int]:
    base, _, added = record["time"].replace("'", "").partition("+")
    return int(base), int(added or 0)


def test_each_match_runs_forward_from_kick_off_to_final_whistle(records, matches):
    assert sum(len(match) for match in matches.values()) == len(records)
    for match in matches.values():
        assert minute(match[0]) == (1, 0)
        assert minute(match[-1]) > (90, 0)
        assert [minute(record) for record in match] == sorted(minute(record) for record in match)
        assert [record["scraped_at"] for record in match] == sorted(record["scraped_at"] for record in match)


@pytest.mark.parametrize("slug", sorted(SCORES))
def test_goals_add_up_to_the_final_score(matches, slug):
    home = away = goals = 0
    for record in matches[slug]:
        goals += record["event_type"] == "goal"
        for told in re.finditer(r"(?<![\d-])(\d)-(\d)(?![\d-])", record["text"]):
            previous, (home, away) = (home, away), (int(told[1]), int(told[2]))
            assert home + away == goals, record["text"]
            assert min(home - previous[0], away - previous[1]) >= 0, record["text"]
    assert (home, away) == SCORES[slug]
    assert goals == sum(SCORES[slug])


def test_a_score_is_told_at_the_final_whistle(matches):
    for slug, (home, away) in SCORES.items():
        assert f"{home}-{away}" in matches[slug][-1]["text"]


def test_noisy_records_show_each_fault(noisy):
    texts = [record["text"] for record in noisy]
    labels = [record["event_type"] for record in noisy]
    assert len(noisy) == 27
    assert labels[3] == "goal"
    assert not re.search(TELLS["goal"], texts[3], re.I)
    assert labels[4] == "commentary"
    assert re.search(TELLS["card"], texts[4], re.I)
    assert labels[12] == "substitution"
    assert re.search(TELLS["goal"], texts[12], re.I)
    assert texts[5] == texts[6]
    for first, second in ((7, 8), (13, 14)):
        assert texts[first] != texts[second]
        assert SequenceMatcher(None, texts[first], texts[second]).ratio() > 0.9
    assert [number for number, text in enumerate(texts, 1) if not text.strip()] == [10, 17]
    assert all(texts[number][-1] not in ".!?" for number in (10, 20))
    assert not unicodedata.is_normalized("NFC", texts[17])
    assert (labels[21], labels[22], labels[25]) == ("goal", "goal", "red_card")
    assert "Sortie de but" in texts[21]
    assert "à côté du but" in texts[22]
    assert not re.search(TELLS["card"], texts[25], re.I)
    assert "90'+3" in [record["time"] for record in noisy]


def test_football_prompts_are_single_user_turns():
    prompts = read_lines(DATA / "football/prompts.jsonl")
    assert len(prompts) == 8
    form = r"Minute \d+'(\+\d)?\. Événement : (But|Remplacement|Penalty|Carton|Commentaire)\. Match : [a-z-]+\."
    for prompt in prompts:
        assert [message["role"] for message in prompt["messages"]] == ["user"]
        assert re.fullmatch(form, prompt["messages"][0]["content"])


def test_stories_have_eight_cards_of_each_type(cards):
    assert Counter(card["card_type"] for card in cards) == {"protection": 8, "community": 8, "disaster": 8}


def test_stories_are_chats_of_a_card_and_a_story_of_60_to_120_words(cards):
    for card in cards:
        assert list(card) == ["messages", "card_type"]
        assert [message["role"] for message in card["messages"]] == ["system", "user", "assistant"]
        assert re.fullmatch(r"Lá bài: .+\nLoại: .+\nHiệu ứng: .+\.", card["messages"][1]["content"])
        assert 60 <= len(card["messages"][2]["content"].split()) <= 120


def test_the_type_that_a_card_shows_is_its_card_type(cards):
    shown = {"protection": "Bảo vệ", "community": "Cộng đồng", "disaster": "Thảm họa"}
    for card in cards:
        assert f"\nLoại: {shown[card['card_type']]}\n" in card["messages"][1]["content"]


def test_no_two_stories_or_cards_are_alike(cards):
    prompts = read_lines(DATA / "stories/prompts.jsonl")
    assert near_duplicates([card["messages"][2]["content"] for card in cards], 0.4) == []
    assert len({entry["messages"][1]["content"] for entry in cards + prompts}) == 30


def test_story_prompts_have_no_answer():
    prompts = read_lines(DATA / "stories/prompts.jsonl")
    assert len(prompts) == 6
    for prompt in prompts:
        assert [message["role"] for message in prompt["messages"]] == ["system", "user"]


def test_stories_are_composed_vietnamese(cards):
    for card in cards:
        for message in card["messages"]:
            assert unicodedata.is_normalized("NFC", message["content"])
            assert re.search(r"[ạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ]", message["content"])
