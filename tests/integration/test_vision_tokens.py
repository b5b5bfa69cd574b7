"""Tokenized rows with images: what they hold, how they are counted, and that no image is ever cut."""

import json
import shutil

import pyarrow
import pytest

from scripts.common.chat import IGNORED
from scripts.common.errors import UserError
from scripts.common.files import read_jsonl
from scripts.common.records import Record, content_id
from scripts.common.vision import vision_tokenizer
from scripts.train.tokenize_conversations import main, tokenize_dataset
from tests.support.dataset_steps import write_lines
from tests.support.training import run_settings
from tests.support.vision import asked, make_vision_dataset, save_picture

SETTINGS = run_settings(task="vision")


def rows_of(path):
    with pyarrow.OSFile(str(path), "rb") as file, pyarrow.ipc.open_stream(file) as reader:
        return reader.read_all().to_pylist()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_vision_dataset(tmp_path_factory.mktemp("vision") / "dataset")


@pytest.fixture
def tokenize(dataset, tiny_vision_base, tmp_path):
    """A function that tokenizes a dataset into tmp_path/t; returns the ledger of the training split."""

    def run(edge=None, dataset=dataset, **tokens):
        settings = run_settings(task="vision", vision={"longest_edge": edge}, tokens=tokens)
        vision = vision_tokenizer(tiny_vision_base, dataset, settings)
        ledger = tokenize_dataset(dataset, tiny_vision_base, tmp_path / "t", settings["tokens"], vision)
        return ledger["splits"]["train"]

    return run


def test_rows_name_their_images_and_train_on_none_of_their_tokens(dataset, tiny_vision_base, tmp_path):
    vision = vision_tokenizer(tiny_vision_base, dataset, SETTINGS)
    ledger = tokenize_dataset(dataset, tiny_vision_base, tmp_path, SETTINGS["tokens"], vision)
    rows, train = rows_of(tmp_path / "train.arrow"), ledger["splits"]["train"]
    assert [len(row["images"]) for row in rows] == [1] * 10 + [2, 0]
    assert train["vision"]["images"] == 12
    assert train["vision"]["image_tokens"] + train["vision"]["text_tokens"] == train["tokens"]
    for row in rows:
        counted = sum(rows * (columns + 1) for rows, columns in map(vision.grid, row["images"]))
        pairs = zip(row["input_ids"], row["labels"], strict=True)
        assert [label for token, label in pairs if token in vision.image_ids] == [IGNORED] * counted
        trained = [label for label in row["labels"] if label != IGNORED]
        assert trained[-1] == vision.eos_token_id
        assert len(trained) > 1
    # The preview names images instead of spelling them out.
    first = ledger["previews"][0]["runs"]
    assert first[0]["text"] == "<s>[INST]0 : quel titre ?[image 2x4][/INST]"
    assert [run["text"] for run in first if run["trained"]] == ["Rapport annuel</s>"]


def test_a_smaller_longest_edge_makes_fewer_tokens(tokenize):
    plain, small, large = (tokenize(edge)["vision"]["image_tokens"] for edge in (None, 56, 5000))
    assert small < plain == large


@pytest.mark.parametrize("truncation", ["right", "drop"])
def test_a_cut_that_would_hit_an_image_leaves_the_row_out_by_name(tokenize, dataset, tmp_path, truncation):
    split = tokenize(max_length=28, truncation=truncation, max_truncated=1.0, max_untrained=1.0)
    rows = rows_of(tmp_path / "t/train.arrow")
    left_out = {row["id"] for row in read_jsonl(dataset / "train.jsonl")} - {row["id"] for row in rows}
    assert {*split["image_cut"]["ids"]} <= left_out
    assert 0 < split["image_cut"]["count"] <= split["truncated"]["count"]
    assert all(row["input_ids"].count(9) == len(row["images"]) for row in rows)  # [IMG_END]


def test_text_after_the_images_may_be_cut(tokenize, tmp_path):
    folder = make_vision_dataset(tmp_path / "d", train=0)
    messages = [asked(save_picture(folder, "Rapport")), {"role": "assistant", "content": "Rapport annuel " * 40}]
    write_lines(folder / "train.jsonl", [Record(content_id(messages), messages, "Rapport").to_row()])
    split = tokenize(dataset=folder, max_length=120, truncation="right", max_truncated=1.0)
    [row] = rows_of(tmp_path / "t/train.arrow")
    assert len(row["input_ids"]) == 120
    assert (split["image_cut"]["count"], split["truncated"]["count"]) == (0, 1)


def test_too_many_cuts_and_a_missing_image_stop_the_build(tokenize, dataset, tmp_path):
    line = (
        r"\d+ of 17 rows are left out: tokens.max_length 24 ends before their images do, the longest has \d+ tokens "
        r".* raise tokens.max_length, or lower vision.longest_edge"
    )
    with pytest.raises(UserError, match=line):
        tokenize(max_length=24, truncation="right", max_truncated=0.1)
    shutil.copytree(dataset, tmp_path / "d", ignore=shutil.ignore_patterns("*.png"))
    with pytest.raises(UserError, match=r"raw\.jsonl:0: record [0-9a-f]{16}: .*\.png: is missing"):
        tokenize(dataset=tmp_path / "d")


def test_the_step_finds_images_in_the_named_folder_and_shows_them_on_its_page(dataset, tiny_vision_base, tmp_path):
    rows = shutil.copytree(dataset, tmp_path / "rows", ignore=shutil.ignore_patterns("images"))
    words = [rows, "--base", tiny_vision_base, "--folder", tmp_path / "t", "--images", dataset, "--settings"]
    assert main([*map(str, words), json.dumps(SETTINGS)]) == 0
    assert len(rows_of(tmp_path / "t/train.arrow")) == 12
    assert "[image 2x4]" in (tmp_path / "t/ledger.html").read_text()
