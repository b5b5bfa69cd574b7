"""Conversations with images as text, pixel values and tokenized rows: as Mistral 3's processor makes them, none cut."""

import json
import shutil

import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoModelForImageTextToText

from scripts.common.base_model import load_base
from scripts.common.chat import IGNORED, conversation_ids, tokenize_conversation
from scripts.common.errors import UserError
from scripts.common.files import read_jsonl
from scripts.common.records import Record, content_id
from scripts.common.vision import (
    VisionTokenizer,
    image_grid,
    image_text,
    load_image,
    load_processor,
    pixel_inputs,
    vision_tokenizer,
)
from scripts.model.chat_templates import BUILT_IN_TEMPLATES
from scripts.model.link_local_model import link_local_model
from scripts.train.tokenize_conversations import main, tokenize_dataset
from tests.support.chat_templates import template_text
from tests.support.dataset_steps import write_lines
from tests.support.training import run_settings
from tests.support.vision import asked, make_vision_dataset, save_picture

SETTINGS = run_settings(task="vision")
LINKED = {"architecture": "mistral3", "license": None, "trust_remote_code": False}
ANSWER = {"role": "assistant", "content": "Rapport annuel"}


@pytest.fixture(scope="module")
def processor(tiny_vision_base):
    return load_processor(tiny_vision_base)


@settings(max_examples=40)
@given(st.integers(20, 900), st.integers(20, 900), st.sampled_from([None, 56, 100]))
def test_grid_and_pixels_are_those_of_transformers_own_processor(tiny_vision_base, width, height, edge):
    processor = load_processor(tiny_vision_base, edge)
    picture = Image.new("RGB", (width, height), "teal")
    theirs = processor(text="[IMG]", images=[picture], return_tensors="pt", add_special_tokens=False)
    text = image_text(processor, image_grid(processor, (width, height)))
    assert processor.tokenizer(text, add_special_tokens=False)["input_ids"] == theirs["input_ids"][0].tolist()
    ours = pixel_inputs(processor, [picture])
    assert all(torch.equal(ours[key], theirs[key]) for key in ("pixel_values", "image_sizes"))


def test_an_image_that_scaling_leaves_nothing_of_and_a_text_model_are_refused(processor, tiny_base):
    with pytest.raises(UserError, match="an image of 1 x 900 pixels is too thin: scaled to 112, it has no pixels"):
        image_grid(processor, (1, 900))
    assert image_grid(processor, (9, 900)) == (4, 1)
    with pytest.raises(UserError, match="has no image processor; the task 'vision' needs a vision model"):
        load_processor(tiny_base)


def test_a_conversation_has_the_tokens_that_the_processor_makes(processor, tmp_path):
    names = [save_picture(tmp_path, "eins"), save_picture(tmp_path, "zwei", (60, 200))]
    messages = [{"role": "system", "content": "Lis."}, asked(*names), ANSWER]
    tokenizer = VisionTokenizer(processor, tmp_path)
    row = tokenize_conversation(tokenizer, messages)
    text = processor.tokenizer.apply_chat_template(messages, tokenize=False)
    images = [load_image(tmp_path, name) for name in names]
    theirs = processor(text=text, images=images, return_tensors="pt", add_special_tokens=False)
    assert row.ids == theirs["input_ids"][0].tolist()
    trained = [token for token, use in zip(row.ids, row.trained, strict=True) if use]
    assert processor.tokenizer.decode(trained) == "Rapport annuel</s>"
    assert row.ids[: len(conversation_ids(tokenizer, messages[:-1]))] == conversation_ids(tokenizer, messages[:-1])
    assert tokenizer.shortened(tokenizer.decode(row.ids)) == (
        "<s>[SYSTEM_PROMPT]Lis.[/SYSTEM_PROMPT][INST]Quel est le titre ?[image 3x4][image 4x2][/INST]Rapport annuel</s>"
    )


def test_texts_that_hold_an_image_token_and_templates_without_images_are_refused(processor, tmp_path):
    tokenizer = VisionTokenizer(processor, tmp_path)
    for text in ("[IMG]", "so [IMG_END] so"):
        with pytest.raises(UserError, match=r"a text contains '\[IMG.*\]', which is reserved for images"):
            conversation_ids(tokenizer, [{"role": "user", "content": text}])
    template = template_text("mistral3").replace('turn.text + "[IMG]"', "turn.text")
    with pytest.raises(UserError, match="the chat template renders 0 images of 1"):
        tokenizer.apply_chat_template([[asked(save_picture(tmp_path, "eins"))]], chat_template=template)


def test_images_looked_at_one_by_one_are_the_same_images(tiny_vision_base, processor, tmp_path):
    names = [save_picture(tmp_path, "eins"), save_picture(tmp_path, "zwei", (60, 200)), save_picture(tmp_path, "drei")]
    images = [load_image(tmp_path, name) for name in names]
    inputs = processor(images=images, text="<s>[IMG] [IMG] [IMG]", return_tensors="pt")
    ours = load_base(tiny_vision_base, torch.float32, reads_images=True)
    theirs = AutoModelForImageTextToText.from_pretrained(tiny_vision_base.parent, dtype=torch.float32)
    patches = []
    ours.model.vision_tower.register_forward_hook(lambda *seen: patches.append(seen[-1].last_hidden_state.shape[1]))
    with torch.no_grad():
        assert torch.allclose(ours(**inputs).logits, theirs(**inputs).logits, atol=1e-4)
    assert patches == [height * width // 14**2 for height, width in inputs["image_sizes"].tolist()]


def test_what_is_no_image_of_the_folder_is_one_clear_line(tmp_path):
    folder, outside = tmp_path / "folder", tmp_path / "outside.png"
    folder.mkdir()
    Image.effect_noise((50, 50), 90).save(outside)
    (folder / "link.png").symlink_to(outside)
    (folder / "text.png").write_text("no image")
    (folder / "half.png").write_bytes(outside.read_bytes()[: outside.stat().st_size // 2])
    for name, line in (
        ("link.png", r"link\.png: is outside the dataset's folder"),
        ("none.png", r"none\.png: is missing; make the dataset's folder again"),
        ("text.png", r"text\.png: can't be opened as an image"),
        ("half.png", r"half\.png: can't be read as an image"),
    ):
        with pytest.raises(UserError, match=line):
            load_image(folder, name)


def test_a_linked_vision_model_keeps_its_processor_and_gets_the_configured_template(tiny_vision_base, tmp_path):
    link_local_model(tiny_vision_base.parent, tmp_path / "m", "mine", LINKED, BUILT_IN_TEMPLATES["chatml"])
    assert load_processor(tmp_path / "m/manifest.json").tokenizer.chat_template == template_text("chatml")


def rows_of(tokens) -> list[dict]:
    return Dataset.from_file(str(tokens / "train.arrow")).to_list()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_vision_dataset(tmp_path_factory.mktemp("vision") / "dataset")


@pytest.fixture
def tokenize(dataset, tiny_vision_base, tmp_path):
    """A function that tokenizes a dataset into tmp_path/t; returns the ledger of the training split."""

    def run(edge=None, dataset=dataset, **tokens):
        settings = run_settings(task="vision", vision={"longest_edge": edge}, tokens=tokens)
        return tokenize_dataset(dataset, tiny_vision_base, tmp_path / "t", settings["tokens"], dataset, edge)["splits"][
            "train"
        ]

    return run


def test_rows_name_their_images_and_train_on_none_of_their_tokens(dataset, tiny_vision_base, tmp_path):
    vision = vision_tokenizer(tiny_vision_base, dataset, SETTINGS)
    ledger = tokenize_dataset(dataset, tiny_vision_base, tmp_path, SETTINGS["tokens"], dataset)
    rows, train = rows_of(tmp_path), ledger["splits"]["train"]
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
    rows = rows_of(tmp_path / "t")
    left_out = {row["id"] for row in read_jsonl(dataset / "train.jsonl")} - {row["id"] for row in rows}
    assert {*split["image_cut"]["ids"]} <= left_out
    assert 0 < split["image_cut"]["count"] <= split["truncated"]["count"]
    assert all(row["input_ids"].count(9) == len(row["images"]) for row in rows)  # [IMG_END]


def test_text_after_the_images_may_be_cut(tokenize, tmp_path):
    folder = make_vision_dataset(tmp_path / "d", train=0)
    messages = [asked(save_picture(folder, "Rapport")), {"role": "assistant", "content": "Rapport annuel " * 40}]
    write_lines(folder / "train.jsonl", [Record(content_id(messages), messages, "Rapport").to_row()])
    split = tokenize(dataset=folder, max_length=120, truncation="right", max_truncated=1.0)
    [row] = rows_of(tmp_path / "t")
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
    assert len(rows_of(tmp_path / "t")) == 12
    page = (tmp_path / "t/ledger.html").read_text()
    assert page.count('<img src="data:image/jpeg;base64,') == 5
    assert "[image 2x4]" in page
    assert '<code class="soft">raw.jsonl:0</code>' in page
