"""People's votes on answers: which count, what they make of metrics and gates, and what the pages say of them."""

import json

import pytest

from scripts.common.judged import judged_hash
from scripts.score.gates import gate_interval, judge_gate, paired_rows
from scripts.score.intervals import interval
from scripts.score.read_scores import read_scores
from scripts.score.votes import MEASURED, REMEDY, count_votes, vote_rows
from scripts.score.votes_shown import card_lines
from tests.support.score_fixtures import answer_rows, first_half, gate, judge_run, record_rows, scored, vote, write_rows
from tests.support.score_pages import write_report

ROWS = answer_rows("fr", first_half)
BASE = answer_rows("fr", lambda text, index: "Rien.")


def people(folder, votes: list[dict], **score) -> dict:
    """Return the scores of ROWS as run r, variant q8_0, with these votes."""
    file, rival = write_rows(folder / "votes.jsonl", votes), write_rows(folder / "rival.jsonl", BASE)
    more = ["--run", "r", "--variant", "q8_0", "--votes", file, "--rival", rival]
    return scored(folder, ROWS, score={"votes": str(file), **score}, more=more)


def pair(row: int, reader: str, won: float, **said) -> dict:
    """Return a comparison with the base's answer."""
    known = {"against": "r/base", "against_hash": judged_hash(BASE[row]["messages"], BASE[row]["answer"])}
    return vote("pair", ROWS[row], reader, won=won, **known | said)


def test_the_metrics_are_those_counted_by_hand(tmp_path):
    votes = [
        *[vote("rating", ROWS[place], "anna", passed=place > 1, stars=1 + place % 5) for place in range(8)],
        vote("rating", ROWS[0], "bo", passed=True),
        *[pair(0, "anna", 1), pair(1, "anna", 0.5), pair(2, "anna", 0)],
        # The same comparison, from the rival's side: the answer won.
        {**pair(3, "bo", 0), "variant": "base", "hash": pair(3, "bo", 0)["against_hash"], "against": "r/q8_0",
         "against_hash": pair(3, "bo", 0)["hash"]},
        *[vote("human_test", ROWS[place], "bo", said_person=place < 3, by_person=False) for place in range(4)],
        vote("human_test", ROWS[5], "bo", ROWS[5]["expected"], said_person=True, by_person=True, variant="expected"),
        # Of another run, of another variant, and with another rival: none of these counts.
        {**vote("rating", ROWS[0], "bo", passed=False), "run": "other"},
        {**vote("rating", ROWS[0], "bo", passed=False), "variant": "bf16"},
        pair(0, "anna", 0, against="r/bf16"),
    ]  # fmt: skip
    found = people(tmp_path, votes)
    values = {metric: found["metrics"][metric]["value"] for metric in MEASURED.values()}
    assert values == {
        "human_pass_rate": pytest.approx(7 / 9),
        "human_stars": (1 + 2 + 3 + 4 + 5 + 1 + 2 + 3) / 8,
        "win_rate": 0.625,
        "human_test_rate": 0.75,
    }
    assert found["statistics"]["human_pass_rate"][:2] == [[0, 1, 1, 1], [0, 1, 0, 0]]
    assert found["statistics"]["win_rate"][4:] == [None] * 4
    told = found["people"]
    assert (told["ignored"], told["ignored_expected"]) == ({"win_rate": {"others": 1}}, {})
    assert told["metrics"]["human_pass_rate"] == {"votes": 9, "readers": ["anna", "bo"], "expected": None}
    assert told["metrics"]["human_test_rate"]["expected"]["value"] == 1


@pytest.mark.parametrize(
    ("ignored", "why"),
    [
        (vote("rating", ROWS[1], "bo", passed=False, repeat=True), "repeats"),
        (vote("rating", ROWS[1], "model:judge", passed=False, is_model=True), "models"),
        (vote("rating", ROWS[1], "bo", "another answer", passed=False), "stale"),
        (vote("rating", {**ROWS[1], "messages": []}, "bo", passed=False), "stale"),
        (pair(1, "bo", 0, against_hash="0" * 32), "stale"),
        (pair(1, "bo", 0, against="r/bf16"), "others"),
        (vote("rating", ROWS[1], "bo", "another text", passed=True, variant="expected"), "stale"),
    ],
)
def test_a_vote_that_does_not_count_is_told_of_its_metric_and_side(tmp_path, ignored, why):
    found = people(tmp_path, [vote("rating", ROWS[0], "anna", passed=True), ignored])
    assert found["metrics"]["human_pass_rate"]["value"] == 1
    assert found["metrics"]["win_rate"] is None
    counts = {"win_rate" if ignored["kind"] == "pair" else "human_pass_rate": {why: 1}}
    side = "ignored_expected" if ignored["variant"] == "expected" else "ignored"
    assert {key: found["people"][key] for key in ("ignored", "ignored_expected") if found["people"][key]} == {
        side: counts
    }
    with_models = people(tmp_path / "models", [vote("rating", ROWS[0], "anna", passed=True), ignored], model_votes=True)
    assert with_models["metrics"]["human_pass_rate"]["value"] == (0.5 if why == "models" else 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "rank"}, "'kind' is 'rank', not one of rating, pair, human_test"),
        ({"stars": 6}, "'stars' is 6, not one of 1, 2, 3, 4, 5, None"),
        ({"stars": True}, "'stars' is True, not one of 1, 2, 3, 4, 5, None"),
        ({"passed": 1}, "'passed' is 1, not one of True, False, None"),
        ({"reader": None}, "'reader' is missing or not a text"),
        ({"is_model": "no"}, "'is_model' is 'no', not one of True, False"),
    ],
)
def test_what_is_no_vote_is_one_line_with_file_line_and_remedy(tmp_path, capsys, change, said):
    good = vote("rating", ROWS[0], "anna", passed=True)
    with pytest.raises(AssertionError):
        people(tmp_path, [good, good | change])
    error = capsys.readouterr().err
    assert f"votes.jsonl:2: {said}" in error
    assert "python scripts/review/exports.py" in error


def test_without_votes_a_gate_is_not_measured_and_the_run_held_with_the_remedy(tmp_path):
    variants, gates = {"base": BASE, "q8_0": ROWS}, {"people": gate("human_test_rate", threshold=0.9)}
    folder = judge_run(tmp_path, "r", "fr", variants, gates, votes="review/votes.jsonl")
    verdict = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    (judged,) = verdict["gates"]
    assert (verdict["verdict"], verdict["face"], judged["outcome"]) == ("hold", "needs data", "not measured")
    why = "no votes yet: review/votes.jsonl does not exist; judge with `make review`"
    assert judged["reason"] == f"Taken for a person's is not measured: q8_0 has no value: {why}"
    assert why in verdict["advice"]
    assert read_scores(folder / "scores/q8_0.json")["people"] is None
    page = write_report(tmp_path, "r", list(variants))
    assert "People's votes" not in page.text
    assert why in page.text.replace("\u2019", "'")
    other = judge_run(tmp_path / "other", "r", "fr", variants, gates, votes=str(tmp_path / "none.jsonl"))
    write_rows(tmp_path / "none.jsonl", [vote("rating", ROWS[0], "anna", "gone", passed=True)])
    other = judge_run(tmp_path / "other", "r", "fr", variants, gates, votes=str(tmp_path / "none.jsonl"))
    reasons = read_scores(other / "scores/q8_0.json")["reasons"]
    assert reasons["human_test_rate"] == f"no votes yet: nobody was asked who wrote these answers; {REMEDY}"
    told = "no votes yet: nobody rated these answers as passed or failed (1 on texts that have changed since)"
    assert reasons["human_pass_rate"] == f"{told}; {REMEDY}"
    assert read_scores(other / "scores/base.json")["reasons"]["win_rate"] == "it is the rival itself"


def test_a_vote_holds_for_its_text_whatever_became_of_the_records_id(tmp_path):
    twins = [{**ROWS[0], "id": "1" * 16}, {**ROWS[0], "id": "2" * 16}]
    renamed = {**ROWS[1], "id": "f" * 16}
    votes = [vote("rating", row, "bo", passed=True) for row in (renamed, twins[1])]
    own, rival = [*twins, *ROWS[1:]], [{**row, "id": "0" * 16} for row in BASE]
    counted = count_votes([*votes, pair(1, "bo", 1)], own, "r", "q8_0", "r/base", rival, with_models=False)
    assert counted.own == {"human_pass_rate": [(2, "bo", 1), (1, "bo", 1)], "win_rate": [(2, "bo", 1)]}
    itself = count_votes([pair(1, "bo", 1)], rival, "r", "base", "r/base", rival, with_models=False)
    assert (itself.own, itself.ignored) == ({}, {})


def test_of_a_rival_without_answers_the_win_rate_says_so(tmp_path):
    votes = write_rows(tmp_path / "votes.jsonl", [pair(0, "anna", 1), vote("rating", ROWS[0], "anna", stars=3)])
    more = ["--run", "r", "--variant", "q8_0", "--votes", votes]
    found = scored(tmp_path, ROWS, score={"votes": "votes.jsonl"}, more=more)
    assert found["reasons"]["win_rate"] == "its rival r/base is not scored: name another one, `score.rival`"
    assert found["people"]["ignored"] == {"win_rate": {"unscored": 1}}
    # Nobody judges the validation split, and the file is there.
    rows = write_rows(tmp_path / "validation.jsonl", record_rows(ROWS))
    found = scored(tmp_path, ROWS, score={"votes": str(votes)}, more=["--test", rows])
    assert found["reasons"]["human_stars"] == "people judge the answers to the test split"


def test_a_difference_of_votes_is_one_of_readers_who_judged_both(tmp_path):
    def side(votes: dict[str, list[tuple[int, int]]]) -> dict:
        """Return scores with each reader's votes, (place, vote)."""
        ballots = [(place, reader, vote) for reader, given in votes.items() for place, vote in given]
        facts = {"metrics": {"human_pass_rate": {"readers": sorted(votes)}}}
        statistics = {"human_pass_rate": vote_rows(ballots, 4)}
        value = {"metrics": {"human_pass_rate": {}}, "reasons": {}, "ids": [*"abcd"], "groups": None}
        return {**value, "statistics": statistics, "people": facts}

    strict = side({"anna": [(0, 1), (1, 0), (2, 1)], "cy": [(0, 0), (1, 0)]})
    lenient = side({"anna": [(0, 0), (2, 1), (3, 1)], "bo": [(0, 1), (1, 1)], "cy": [(3, 1)]})
    assert paired_rows(strict, lenient, "human_pass_rate")[:2] == (
        [[1, 1, 0, 0], None, [1, 1, 0, 0], None],
        [[0, 1, 0, 0], None, [1, 1, 0, 0], None],
    )
    scores = {"q8_0": strict, "base": side({"bo": [(0, 1), (1, 1)]})}
    asked = gate("human_pass_rate", threshold=0.0, variant="q8_0", baseline="base")
    assert gate_interval(asked, scores, 1000, 0) == "no reader judged both q8_0 and base on a record"


def test_a_gate_that_differing_readers_leave_undecided_asks_for_readers():
    differing = interval("votes", [[1, 1] * 3 + [0, 1] * 2, [1, 1] * 4 + [0, 1]] * 30, None, True)
    judged = judge_gate("people", gate("human_test_rate", threshold=0.6) | {"variant": "q8_0"}, differing)
    assert (judged["outcome"], judged["needed"]) == ("undecided", None)
    assert judged["reason"].endswith("; readers differ, so more readers would decide it, not more records")


def test_a_gate_on_votes_decides_and_says_beside_it_what_human_texts_get(tmp_path):
    file = tmp_path / "votes.jsonl"
    votes = [vote("human_test", row, who, said_person=True, by_person=False) for row in ROWS for who in ("anna", "bo")]
    human = {"variant": "expected", "by_person": True}
    votes += [vote("human_test", r, "bo", r["expected"], said_person=i > 0, **human) for i, r in enumerate(ROWS)]
    votes += [vote("human_test", ROWS[0], "bo", "gone", said_person=False, by_person=False), pair(0, "bo", 1)]
    votes += [
        pair(1, "bo", 1, against="r/bf16"),
        vote("rating", ROWS[0], "bo", "gone", passed=True, variant="expected"),
    ]
    write_rows(file, votes)
    variants, gates = {"base": BASE, "q8_0": ROWS}, {"people": gate("human_test_rate", threshold=0.6)}
    folder = judge_run(tmp_path, "r", "fr", variants, gates, votes=str(file))
    verdict = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    (judged,) = verdict["gates"]
    assert (verdict["verdict"], judged["outcome"], judged["n"]) == ("promote", "passed", 8)
    said = "16 votes of 2 readers; human texts: 87.5 % (47.3 to 99.7, n = 8)"
    assert judged["reason"].endswith(f"above 60.0 %; {said}")
    page = write_report(tmp_path, "r", list(variants)).text
    for text in (
        "87.5 % (47.3 to 99.7, n = 8)",
        "q8_0, taken for a person's: 1 on texts that have changed since",
        "expected texts, passed by readers: 1 on texts",
        "others (`score.rival`)",
        str(file),
    ):
        assert text in page
    assert "With fewer than 5 readers" in page
    won, taken = card_lines(read_scores(folder / "scores/q8_0.json"))
    assert won == "won against the rival (r/base): 100.0 % (no interval, n = 1), 1 vote of 1 reader"
    assert taken == f"taken for a person's: 100.0 % (63.1 to 100.0, n = 8), {said}"
