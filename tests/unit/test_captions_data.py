"""The example captions are what their README says, as separate files and as one file to split."""

import re
import statistics
import unicodedata
from itertools import combinations
from pathlib import Path

import pytest

from scripts.common.files import read_jsonl
from scripts.config.runs import ASSISTANT_PHRASES
from scripts.score.style import EMOJI
from tests.support.dataset_steps import Stage, settings_of, write_lines

FOLDER = Path(__file__).parents[2] / "data" / "captions"
COUNTS = {"train": 84, "validation": 12, "test": 108}
ASKED = re.compile(r"(Write a caption|Write a caption for this picture|Caption this): .*\.")


@pytest.fixture(scope="module")
def splits() -> dict[str, list[dict]]:
    return {name: list(read_jsonl(FOLDER / f"{name}.jsonl")) for name in COUNTS}


@pytest.fixture(scope="module")
def pairs(splits) -> list[dict]:
    return [row for rows in splits.values() for row in rows]


def test_the_files_hold_the_promised_pairs_and_every_prompt_asks_for_a_caption(splits, pairs):
    assert {name: len(rows) for name, rows in splits.items()} == COUNTS
    assert all(list(row) == ["prompt", "completion"] for row in pairs)
    assert [row["prompt"] for row in pairs if not ASKED.fullmatch(row["prompt"])] == []
    assert len({row["prompt"] for row in pairs}) == 204


def test_every_completion_is_in_the_voice_and_no_two_are_alike(pairs):
    texts = [row["completion"] for row in pairs]
    lengths = [len(text.split()) for text in texts]
    assert (min(lengths), max(lengths), round(statistics.mean(lengths))) == (9, 20, 14)
    captions, tags = zip(*(text.rsplit(" ", 1) for text in texts), strict=True)
    assert set(tags) == {"#LoudestFan"}
    assert all("!" in caption and EMOJI.search(caption[-5:]) for caption in captions)
    assert sum(bool(re.search(r"\b[A-Z]{3,}\b", text)) for text in texts) >= 102
    assert all(unicodedata.is_normalized("NFC", text) and text == text.strip() for text in texts)
    assert [text for text in texts if any(re.search(p, text, re.IGNORECASE) for p in ASSISTANT_PHRASES)] == []
    bags = [set(re.findall(r"\w+", text.lower())) for text in texts]
    assert [pair for pair in combinations(bags, 2) if len(pair[0] & pair[1]) >= 0.35 * len(pair[0] | pair[1])] == []


def test_further_prompts_have_no_answer(pairs):
    rows = list(read_jsonl(FOLDER / "prompts.jsonl"))
    assert len(rows) == 8
    for row in rows:
        [message] = row["messages"]
        assert ASKED.fullmatch(message["content"])
        assert message["content"] not in {pair["prompt"] for pair in pairs}


def test_separate_files_go_to_their_splits_whole(splits, tmp_path, capsys):
    paths = {name: FOLDER / f"{name}.jsonl" for name in COUNTS}
    files = {"files": [str(paths["train"])], "test_files": [str(paths["test"])]}
    files |= {"validation_files": [str(paths["validation"])], "deduplicate": {"compare": "answer"}}
    stage = Stage(tmp_path, settings_of(format="prompt_completion", **files), capsys)
    stage.run(*paths.values())
    for name, rows in splits.items():
        assert {r["messages"][-1]["content"] for r in stage.lines(name)} == {row["completion"] for row in rows}


def test_put_together_they_are_one_file_to_split(pairs, tmp_path, capsys):
    stage = Stage(tmp_path, settings_of(format="prompt_completion", splits={"seed": 1}), capsys)
    stage.run(write_lines(tmp_path / "all.jsonl", pairs))
    counts = [len(stage.lines(name)) for name in COUNTS]
    assert sum(counts) == 204
    assert min(counts) >= 5
