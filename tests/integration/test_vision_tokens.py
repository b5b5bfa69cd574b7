"""Tokenized rows with images: what they hold, how they are counted, and that no image is ever cut."""

import json

import pyarrow
import pytest

from scripts.common.chat import IGNORED
from scripts.common.errors import UserError
from scripts.common.files import read_json
from scripts.common.records import Record, content_id
from scripts.common.vision import VisionTokenizer, load_processor, vision_tokenizer
from scripts.train.tokenize_conversations import main, tokenize_dataset
from tests.support.training import make_dataset, run_settings
from tests.support.vision import asked, make_vision_dataset, save_picture

SETTINGS = run_settings(task="vision")


def rows_of(path):
    with pyarrow.OSFile(str(path), "rb") as file, pyarrow.ipc.open_stream(file) as reader:
        return reader.read_all().to_pylist()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_vision_dataset(tmp_path_factory.mktemp("vision") / "dataset")


def long_row(folder, answer: str) -> Record:
    """Write a training split whose only other row has an image and an answer, and return that row."""
    name = save_picture(folder, "Rapport", (100, 100))
    messages = [asked(name), {"role": "assistant", "content": answer}]
    record = Record(content_id(messages), messages, answer, origin="raw.jsonl:1")
    with open(folder / "train.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(record.to_row()) + "\n")
    return record


def test_rows_name_their_images_and_train_on_none_of_their_tokens(dataset, tiny_vision_base, tmp_path):
    vision = vision_tokenizer(tiny_vision_base, dataset, SETTINGS)
    ledger = tokenize_dataset(dataset, tiny_vision_base, tmp_path, SETTINGS["tokens"], vision)
    rows = rows_of(tmp_path / "train.arrow")
    assert [len(row["images"]) for row in rows] == [1] * 10 + [2, 0]
    for row in rows:
        counted = sum(rows * (columns + 1) for rows, columns in map(vision.grid, row["images"]))
        image = [
            label for token, label in zip(row["input_ids"], row["labels"], strict=True) if token in vision.image_ids
        ]
        assert image == [IGNORED] * counted
        trained = [label for label in row["labels"] if label != IGNORED]
        assert trained[-1] == vision.eos_token_id
        assert len(trained) > 1
    train = ledger["splits"]["train"]
    assert train["vision"]["images"] == 12
    assert train["vision"]["image_tokens"] + train["vision"]["text_tokens"] == train["tokens"]
    for counts, row in zip(train["vision"]["tokens_of_rows"], rows, strict=True):
        assert counts["id"] == row["id"]
        assert counts["image_tokens"] == sum(token in vision.image_ids for token in row["input_ids"])
        assert counts["image_tokens"] + counts["text_tokens"] == len(row["input_ids"])


def test_the_preview_names_images_instead_of_spelling_them_out(dataset, tiny_vision_base, tmp_path):
    vision = vision_tokenizer(tiny_vision_base, dataset, SETTINGS)
    ledger = tokenize_dataset(dataset, tiny_vision_base, tmp_path, SETTINGS["tokens"], vision)
    first = ledger["previews"][0]["runs"]
    assert first[0]["text"] == "<s>[INST]0 : quel titre ?[image 2x4][/INST]"
    assert [run["text"] for run in first if run["trained"]] == ["Rapport annuel</s>"]


def test_a_smaller_longest_edge_makes_fewer_tokens(dataset, tiny_vision_base, tmp_path):
    tokens = []
    for edge in (None, 56, 5000):
        settings = run_settings(task="vision", vision={"longest_edge": edge})
        vision = vision_tokenizer(tiny_vision_base, dataset, settings)
        ledger = tokenize_dataset(dataset, tiny_vision_base, tmp_path, settings["tokens"], vision)
        tokens.append(ledger["splits"]["train"]["vision"]["image_tokens"])
    assert tokens[1] < tokens[0] == tokens[2]


@pytest.mark.parametrize("truncation", ["right", "drop"])
def test_a_cut_that_would_hit_an_image_leaves_the_row_out_by_name(tiny_vision_base, tmp_path, truncation):
    dataset = make_vision_dataset(tmp_path / "d")
    record = long_row(dataset, "Rapport")
    settings = {**SETTINGS["tokens"], "max_length": 28, "truncation": truncation, "max_truncated": 1.0}
    settings["max_untrained"] = 1.0
    vision = VisionTokenizer(load_processor(tiny_vision_base), dataset)
    split = tokenize_dataset(dataset, tiny_vision_base, tmp_path / "t", settings, vision)["splits"]["train"]
    rows = {row["id"]: row for row in rows_of(tmp_path / "t" / "train.arrow")}
    assert record.id in split["image_cut"]["ids"]
    assert record.id not in rows
    assert split["image_cut"]["count"] <= split["truncated"]["count"]
    end = vision.convert_tokens_to_ids("[IMG_END]")
    assert all(row["input_ids"].count(end) == len(row["images"]) for row in rows.values())


def test_text_after_the_images_may_be_cut(tiny_vision_base, tmp_path):
    dataset = make_vision_dataset(tmp_path / "d")
    record = long_row(dataset, "Rapport annuel " * 40)
    settings = {**SETTINGS["tokens"], "max_length": 120, "truncation": "right", "max_truncated": 0.5}
    vision = VisionTokenizer(load_processor(tiny_vision_base), dataset)
    split = tokenize_dataset(dataset, tiny_vision_base, tmp_path / "t", settings, vision)["splits"]["train"]
    row = next(row for row in rows_of(tmp_path / "t" / "train.arrow") if row["id"] == record.id)
    assert len(row["input_ids"]) == 120
    assert split["image_cut"]["count"] == 0
    assert split["truncated"]["count"] == 1


def test_more_image_cuts_than_allowed_stop_the_build(dataset, tiny_vision_base, tmp_path):
    settings = {**SETTINGS["tokens"], "max_length": 24, "truncation": "right", "max_truncated": 0.1}
    vision = VisionTokenizer(load_processor(tiny_vision_base), dataset)
    line = (
        r"\d+ of 17 rows are left out: tokens.max_length 24 ends before their images do, the longest has \d+ tokens "
        r".* raise tokens.max_length, or lower vision.longest_edge"
    )
    with pytest.raises(UserError, match=line):
        tokenize_dataset(dataset, tiny_vision_base, tmp_path, settings, vision)


def test_a_record_whose_image_is_gone_is_named(tiny_vision_base, tmp_path):
    dataset = make_vision_dataset(tmp_path / "d")
    for path in (dataset / "images").iterdir():
        path.unlink()
    vision = vision_tokenizer(tiny_vision_base, dataset, SETTINGS)
    with pytest.raises(UserError, match=r"raw\.jsonl:0: record [0-9a-f]{16}: .*\.png: is missing"):
        tokenize_dataset(dataset, tiny_vision_base, tmp_path, SETTINGS["tokens"], vision)


def step(dataset, base, folder, settings, *words) -> int:
    arguments = [dataset, "--base", base, "--folder", folder, "--settings", json.dumps(settings), *words]
    return main([str(word) for word in arguments])


def test_the_step_finds_images_in_the_named_folder_and_shows_them_on_its_page(dataset, tiny_vision_base, tmp_path):
    rows = tmp_path / "rows"
    rows.mkdir()
    for split in ("train", "validation", "test"):
        (rows / f"{split}.jsonl").write_bytes((dataset / f"{split}.jsonl").read_bytes())
    settings = {"task": "vision", "tokens": SETTINGS["tokens"], "vision": {"longest_edge": None}}
    assert step(rows, tiny_vision_base, tmp_path / "a", settings, "--images", dataset) == 0
    assert step(dataset, tiny_vision_base, tmp_path / "b", settings) == 0
    for name in ("train.arrow", "ledger.json", "ledger.html"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert "[image 2x4]" in (tmp_path / "a" / "ledger.html").read_text()
    assert read_json(tmp_path / "a" / "ledger.json")["splits"]["train"]["vision"]["images"] == 12


def test_rows_of_text_runs_have_no_column_of_images(tiny_base, tmp_path):
    dataset = make_dataset(tmp_path / "d")
    settings = {"task": "chat", "tokens": SETTINGS["tokens"]}
    assert step(dataset, tiny_base, tmp_path / "t", settings) == 0
    assert rows_of(tmp_path / "t" / "train.arrow")[0].keys() == {"id", "input_ids", "labels"}
    assert "vision" not in read_json(tmp_path / "t" / "ledger.json")["splits"]["train"]
