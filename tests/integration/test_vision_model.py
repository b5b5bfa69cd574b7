"""The embedded Mistral 3, its processor, and how conversations with images become text and pixel values."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from scripts.common.base_model import load_base
from scripts.common.chat import conversation_ids, tokenize_conversation
from scripts.common.errors import UserError
from scripts.common.files import check_manifest
from scripts.common.vision import VisionTokenizer, image_grid, image_text, load_image, load_processor, pixel_inputs
from scripts.config.models import EmbeddedModel
from scripts.model.build_embedded_model import build_embedded_model
from scripts.model.chat_templates import BUILT_IN_TEMPLATES
from scripts.model.link_local_model import link_local_model
from tests.support.chat_templates import template_text
from tests.support.project import SENTENCES
from tests.support.vision import asked, save_picture

LINKED = {"architecture": "mistral3", "license": None, "trust_remote_code": False}
ANSWER = {"role": "assistant", "content": "Rapport annuel"}


@pytest.fixture(scope="module")
def processor(tiny_vision_base):
    return load_processor(tiny_vision_base)


def test_an_embedded_mistral3_is_a_plain_folder_with_a_processor_and_the_same_each_time(tmp_path):
    tiny, template = EmbeddedModel(layers=1, vocabulary=700), BUILT_IN_TEMPLATES["mistral3"]
    for name in ("a", "b"):
        build_embedded_model(SENTENCES, tmp_path / name, "m", {"architecture": "mistral3", "embedded": tiny}, template)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "a")
    processor = AutoProcessor.from_pretrained(tmp_path / "a")
    assert type(model).__name__ == "Mistral3ForConditionalGeneration"
    assert type(processor).__name__ == "PixtralProcessor"
    assert (processor.patch_size, processor.spatial_merge_size) == (14, 2)
    assert processor.image_processor.size["longest_edge"] == 112
    assert model.config.image_token_id == processor.image_token_id
    facts = check_manifest(tmp_path / "a/manifest.json", hashes=True)
    assert facts["parameters"] == sum(p.numel() for p in model.parameters())
    assert facts == check_manifest(tmp_path / "b/manifest.json")


@settings(max_examples=40, deadline=None)
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
        tokenizer.apply_chat_template([asked(save_picture(tmp_path, "eins"))], chat_template=template)


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
        ("../outside.png", r"\.\./outside\.png: is outside the dataset's folder"),
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
