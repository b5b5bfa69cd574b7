"""Measures of style against the training completions."""

import pytest

from scripts.common.records import Record, content_id
from scripts.config.runs import ASSISTANT_PHRASES
from scripts.score.bootstrap import estimate
from scripts.score.measure import measured, single_values
from scripts.score.metrics import METRICS
from scripts.score.reference import Reference, read_reference
from scripts.score.scoring_input import NotApplicableError, ScoringInput
from tests.support.data import load
from tests.support.score_fixtures import answer_rows, likelihood_rows, scored, write_rows

REFERENCE = Reference(("What a goal by the keeper! 🔥", "Off the bar and in!"), "en")


def scoring_input(*texts: str, **fields) -> ScoringInput:
    template = answer_rows("fr", expected=None, label=None)[0]
    return ScoringInput([{**template, "id": str(i), "answer": text} for i, text in enumerate(texts)], "en", **fields)


def values(metric: str, *texts: str, **fields) -> list[float | None]:
    return single_values(metric, measured(metric, scoring_input(*texts, **fields)))


def test_an_exclamation_mark_counts_once_an_answer():
    assert values("exclamation_rate", "Goal!!!", "Goal.", "¡Gol", "进球！", "") == [1, 0, 1, 1, 0]


def test_an_emoji_is_one_in_every_writing_and_what_is_shown_as_text_is_none():
    emojis = ["🔥", "a ⚽ b", "❤️", "👩\u200d👧", "🇫🇷", "1️⃣", "🤷\u200d♂️"]
    assert values("emoji_rate", *emojis) == [1] * len(emojis)
    others = ["", "7 # * ©", "→ ★ ♥ ✓", ":-)", "été « x »"]
    assert values("emoji_rate", *others) == [0] * len(others)


def test_overlap_is_the_share_of_word_pairs_and_triples_that_completions_have():
    texts = ("WHAT A GOAL, by hand", "Off the bar and in", "nothing alike here", "Goal")
    # what a, a goal, goal by of four pairs; what a goal, a goal by of three triples
    assert values("style_overlap", *texts, reference=REFERENCE) == [pytest.approx(5 / 7), 1, 0, None]


def test_length_is_held_against_the_mean_of_the_completions():
    reference = Reference(("a b", "c d e f"))
    assert values("length_ratio", "one two three", "", reference=reference) == [1, 0]
    result = measured("length_ratio", scoring_input("one two three", "a " * 12, reference=reference))
    assert estimate("mean", result.rows, 100, 0).value == pytest.approx(2.5)
    assert not METRICS["length_ratio"].is_share


def test_without_completions_there_is_nothing_to_compare_with():
    for metric in ("style_overlap", "length_ratio"):
        for reference in (None, Reference(())):
            with pytest.raises(NotApplicableError, match="no training completions were given to compare with"):
                values(metric, "a b", reference=reference)
    with pytest.raises(NotApplicableError, match="no answer has two words"):
        values("style_overlap", "a", "", reference=REFERENCE)


def test_assistants_are_known_by_what_they_say_and_no_fan_is_taken_for_one():
    said = load("assistant_phrases.yaml")
    for share, texts in ((1, said["assistants"]), (0, said["fans"])):
        found = values("assistant_phrase_rate", *texts, assistant_phrases=ASSISTANT_PHRASES)
        assert dict(zip(texts, found, strict=True)) == dict.fromkeys(texts, share)
    assert values("assistant_phrase_rate", "", "Goal!", assistant_phrases=ASSISTANT_PHRASES) == [None, 0]
    with pytest.raises(NotApplicableError, match=r"score\.assistant_phrases is not given"):
        values("assistant_phrase_rate", "x")


def test_the_reference_is_each_different_last_answer_of_the_training_split(tmp_path):
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "!"}]
    rows = [{"id": "a", "messages": [*turns, {"role": "assistant", "content": answer}]} for answer in ("G", "S", "G")]
    assert read_reference(write_rows(tmp_path / "train.jsonl", rows), "en").texts == ("G", "S")


def test_the_step_compares_with_the_training_split_and_says_how_it_writes(tmp_path):
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "Quelle tête de Tessonnier ! 🔥"}]
    reference = write_rows(tmp_path / "train.jsonl", [Record(content_id(messages), messages).to_row()])
    phrases, rows = {"assistant_phrases": list(ASSISTANT_PHRASES)}, answer_rows("fr")
    without, found = (
        scored(tmp_path, rows, likelihood_rows("fr"), score=phrases, more=more)
        for more in ((), ("--reference", reference))
    )
    assert without["metrics"]["style_overlap"] is None
    assert without["reasons"]["style_overlap"] == "no training completions were given to compare with"
    assert found["metrics"]["style_overlap"]["value"] > 0
    assert found["metrics"]["assistant_phrase_rate"]["value"] == 0
    assert found["reference"] == {"completions": 1, "length_mean": 4, "exclamation_rate": 1, "emoji_rate": 1}
