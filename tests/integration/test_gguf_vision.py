"""The vision tower's GGUF file: what llama.cpp needs is in it, or it is refused."""

import json

import pytest
from gguf import GGUFReader
from safetensors.torch import load_file, save_file
from sentencepiece import sentencepiece_model_pb2

from scripts.common.errors import UserError
from scripts.gguf.convert_mmproj import convert_mmproj
from tests.support.gguf_files import convert
from tests.support.tiny_model import copy_model, split_weights
from tests.support.vision import IMAGE_SIZE


@pytest.fixture
def folder(tiny_vision, tmp_path):
    """A copy of the merged model, to be changed."""
    return copy_model(tiny_vision.merged, tmp_path / "model")


def spoil(folder, name: str, section: str | None = None, **values) -> None:
    """Change values of a JSON file of a model folder, or of a section of it."""
    content = json.loads((folder / name).read_text())
    (content[section] if section else content).update(values)
    (folder / name).write_text(json.dumps(content))


def token_types(path) -> dict[str, int]:
    """Return the type of each token of a GGUF file (1: normal, 3: control)."""
    fields = GGUFReader(path).fields
    names, kinds = (fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "token_type"))
    return dict(zip(names, kinds, strict=True))


def save_as_transformers_5(folder) -> None:
    """Name the weights as transformers has them in memory, in two files with an index; put both processors in one."""
    prefixes = {"language_model.model.": "model.language_model.", "language_model.lm_head": "lm_head"}
    tensors = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        old = next((old for old in prefixes if name.startswith(old)), "")
        tensors[prefixes.get(old, "model.") + name.removeprefix(old)] = tensor
    assert {"model.vision_tower.patch_conv.weight", "model.language_model.embed_tokens.weight"} <= tensors.keys()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    split_weights(folder)
    images = folder / "preprocessor_config.json"
    spoil(folder, "processor_config.json", image_processor=json.loads(images.read_text()))
    images.unlink()


def test_the_file_has_the_break_and_all_weights_and_says_what_it_is(tiny_vision):
    """What is in the weights, test_gguf_parity.py compares by what llama.cpp computes with them."""
    reader, weights = GGUFReader(tiny_vision.mmproj), load_file(tiny_vision.merged / "model.safetensors")
    tensors = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    own = [name for name in weights if name.startswith(("vision_tower", "multi_modal_projector"))]
    assert len(tensors) == len(own) + 1
    assert (tensors["v.token_embd.img_break"], tensors["mm.1.weight"]) == ("F32", "BF16")
    expected = {
        "clip.projector_type": "pixtral", "clip.vision.preproc_image_size": IMAGE_SIZE, "general.type": "mmproj",
        "general.name": "tiny football", "general.tags": ["image-text-to-text", "snaketune"],
    }  # fmt: skip
    assert {key: reader.fields[key].contents() for key in expected} == expected


def test_the_text_part_has_the_template_with_images_and_its_tokens_as_special_ones(tiny_vision):
    fields = GGUFReader(tiny_vision.gguf).fields
    names = ("general.architecture", "general.tags", "tokenizer.chat_template")
    architecture, tags, template = (fields[name].contents() for name in names)
    assert (architecture, tags) == ("mistral3", ["image-text-to-text", "snaketune"])
    assert ('"[IMG]"' in template, "generation" in template.replace("add_generation_prompt", "")) == (True, False)
    kinds = token_types(tiny_vision.gguf)
    assert {kinds[name] for name in ("[IMG]", "[IMG_BREAK]", "[IMG_END]", "[INST]", "[SYSTEM_PROMPT]")} == {3}


def test_another_layout_gives_the_same_files_and_image_tokens_that_the_converter_would_take_for_text_are_mended(
    tiny_vision, converter_tools, folder, tmp_path, caplog
):
    save_as_transformers_5(folder)
    pieces = sentencepiece_model_pb2.ModelProto()
    pieces.ParseFromString((folder / "tokenizer.model").read_bytes())
    for piece in pieces.pieces:
        if piece.piece.startswith("[IMG"):
            piece.type = sentencepiece_model_pb2.ModelProto.SentencePiece.USER_DEFINED
    (folder / "tokenizer.model").write_bytes(pieces.SerializeToString())
    convert(folder, converter_tools, tmp_path / "mmproj.gguf", convert_mmproj)
    assert (tmp_path / "mmproj.gguf").read_bytes() == tiny_vision.mmproj.read_bytes()
    gguf = convert(folder, converter_tools, tmp_path / "bf16.gguf")
    assert "added_tokens_decoder in tokenizer_config.json lacks [IMG], [IMG_BREAK], [IMG_END]" in caplog.text
    assert token_types(gguf) == token_types(tiny_vision.gguf)
    sides = [{t.name: t.data.tobytes() for t in GGUFReader(path).tensors} for path in (gguf, tiny_vision.gguf)]
    assert sides[0] == sides[1]


@pytest.mark.parametrize(
    ("file", "section", "values", "expected"),
    [
        ("config.json", None, {"architectures": ["LlavaX"]}, "is a LlavaX, not a Mistral3ForConditionalGeneration"),
        ("config.json", None, {"vision_feature_layer": -2}, "uses layer -2 of the tower; llama.cpp uses the last one"),
        (
            "config.json", "vision_config", {"rope_parameters": {"rope_theta": 5000.0, "rope_type": "default"}},
            "has rope_theta 5000 in its tower; llama.cpp uses 10000",
        ),
        ("preprocessor_config.json", None, {"resample": 2}, "scales images with method 2; llama.cpp uses 3"),
    ],
)  # fmt: skip
def test_what_llama_cpp_can_not_be_told_is_refused(converter_tools, folder, tmp_path, file, section, values, expected):
    spoil(folder, file, section, **values)
    with pytest.raises(UserError, match=expected):
        convert(folder, converter_tools, tmp_path / "mmproj.gguf", convert_mmproj)
    assert list(tmp_path.glob("*.gguf")) == list(tmp_path.glob(".convert*")) == []


def test_a_text_model_is_refused(tiny_base, converter_tools, tmp_path):
    with pytest.raises(UserError, match="has no vision tower"):
        convert(copy_model(tiny_base.parent, tmp_path / "m"), converter_tools, tmp_path / "x.gguf", convert_mmproj)
