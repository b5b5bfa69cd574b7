"""The vision tower's GGUF file: what llama.cpp needs is in it, in either layout of the weights, or it is refused."""

import json

import numpy
import pytest
import torch
from gguf import GGUFReader
from safetensors.torch import load_file, save_file
from sentencepiece import sentencepiece_model_pb2
from transformers import AutoTokenizer

from scripts.common.errors import UserError
from scripts.common.files import write_manifest
from scripts.gguf.convert_mmproj import check_file, convert_mmproj, expected_values, image_settings, main
from scripts.gguf.convert_to_gguf import run_converter
from scripts.gguf.llama import open_gguf
from scripts.gguf.llama_vision import open_vision, sight_of
from scripts.gguf.vision_weights import weight_files
from tests.support.gguf_files import changed, conversion_settings, convert
from tests.support.tiny_model import copy_model
from tests.support.vision import IMAGE_SIZE

BREAK = "v.token_embd.img_break"


def convert_vision(merged, tools, output):
    """Run the step on a model folder whose manifest is made anew."""
    (merged / "manifest.json").unlink(missing_ok=True)
    write_manifest(merged, name="tiny", source="embedded", license="CC0-1.0", revision=None)
    convert_mmproj(merged, tools, merged / "manifest.json", output, conversion_settings())
    return output


def spoil(folder, name: str, change) -> None:
    """Change a JSON file of a model folder."""
    content = json.loads((folder / name).read_text())
    change(content)
    (folder / name).write_text(json.dumps(content))


def token_types(path) -> dict[str, int]:
    """Return the type of each token of a GGUF file (1: normal, 3: control)."""
    fields = GGUFReader(path).fields
    names, kinds = (fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "token_type"))
    return dict(zip(names, kinds, strict=True))


def with_prefix(folder) -> None:
    """Rename the weights as transformers has them in memory."""
    path = folder / "model.safetensors"
    names = {"language_model.model.": "model.language_model.", "language_model.lm_head": "lm_head"}
    tensors = {}
    for name, tensor in load_file(path).items():
        old = next((old for old in names if name.startswith(old)), "")
        tensors[names[old] + name.removeprefix(old) if old else f"model.{name}"] = tensor
    assert "model.vision_tower.patch_conv.weight" in tensors
    assert "model.language_model.embed_tokens.weight" in tensors
    save_file(tensors, path, {"format": "pt"})


def in_shards(folder) -> None:
    """Spread the weights over two files and an index, as large models are saved."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    files = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    parts = [dict(list(tensors.items())[i::2]) for i in (0, 1)]
    for file, part in zip(files, parts, strict=True):
        save_file(part, folder / file, {"format": "pt"})
    index = {name: file for file, part in zip(files, parts, strict=True) for name in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))


def test_the_converter_left_alone_leaves_out_the_break_and_llama_cpp_refuses_the_file(
    tiny_vision, converter_tools, tmp_path
):
    path = tmp_path / "mmproj.gguf"
    run_converter(converter_tools, tiny_vision.merged, path, "--mmproj")
    assert BREAK not in {tensor.name for tensor in GGUFReader(path).tensors}
    sight = sight_of(tiny_vision.mmproj)
    with (
        open_gguf(tiny_vision.gguf, context=64) as model,
        pytest.raises(UserError, match=f"unable to find tensor {BREAK}"),
        open_vision(model, path, sight),
    ):
        pass


def test_the_file_has_the_break_and_all_weights_as_the_model_has_them(tiny_vision):
    tensors = {tensor.name: tensor for tensor in GGUFReader(tiny_vision.mmproj).tensors}
    weights = load_file(tiny_vision.merged / "model.safetensors")
    token = AutoTokenizer.from_pretrained(tiny_vision.merged).convert_tokens_to_ids("[IMG_BREAK]")
    row = weights["language_model.model.embed_tokens.weight"][token]
    assert numpy.array_equal(tensors[BREAK].data, row.float().numpy())
    assert tensors[BREAK].tensor_type.name == "F32"
    own = [name for name in weights if name.startswith(("vision_tower", "multi_modal_projector"))]
    assert len(tensors) == len(own) + 1
    linear = tensors["mm.1.weight"]
    assert linear.tensor_type.name == "BF16"
    found = torch.from_numpy(linear.data.view(numpy.int16).copy()).view(torch.bfloat16)
    assert torch.equal(found, weights["multi_modal_projector.linear_1.weight"])


def test_the_file_says_what_the_model_says(tiny_vision):
    fields = GGUFReader(tiny_vision.mmproj).fields
    config = json.loads((tiny_vision.merged / "config.json").read_text())
    expected = expected_values(config, image_settings(tiny_vision.merged))
    assert expected["clip.vision.preproc_image_size"] == IMAGE_SIZE
    assert expected["clip.vision.image_mean"] == pytest.approx([0.48145466, 0.4578275, 0.40821073])
    for key, value in expected.items():
        assert fields[key].contents() == (pytest.approx(value) if isinstance(value, float | list) else value)
    assert fields["general.type"].contents() == "mmproj"
    assert fields["general.name"].contents() == "tiny football"
    assert fields["general.tags"].contents() == ["image-text-to-text", "snaketune"]


def test_the_text_part_has_the_template_with_images_and_its_tokens_as_special_ones(tiny_vision):
    fields = GGUFReader(tiny_vision.gguf).fields
    assert fields["general.architecture"].contents() == "mistral3"
    assert fields["general.tags"].contents() == ["image-text-to-text", "snaketune"]
    template = fields["tokenizer.chat_template"].contents()
    assert '"[IMG]"' in template
    assert "generation" not in template.replace("add_generation_prompt", "")
    kinds = token_types(tiny_vision.gguf)
    assert [kinds[name] for name in ("[IMG]", "[IMG_BREAK]", "[IMG_END]", "[INST]", "[SYSTEM_PROMPT]")] == [3] * 5


@pytest.mark.parametrize("layout", [with_prefix, in_shards])
def test_each_layout_of_the_weights_gives_the_same_files(tiny_vision, converter_tools, tmp_path, layout):
    folder = copy_model(tiny_vision.merged, tmp_path / "model")
    layout(folder)
    assert len(weight_files(folder)) == len(weight_files(tiny_vision.merged))
    convert_vision(folder, converter_tools, tmp_path / "mmproj.gguf")
    assert (tmp_path / "mmproj.gguf").read_bytes() == tiny_vision.mmproj.read_bytes()
    convert(folder, converter_tools, tmp_path / "bf16.gguf")
    found, expected = GGUFReader(tmp_path / "bf16.gguf"), GGUFReader(tiny_vision.gguf)
    sides = [{t.name: t.data.tobytes() for t in reader.tensors} for reader in (found, expected)]
    assert sides[0] == sides[1]


def test_image_tokens_that_the_converter_would_take_for_text_are_mended(tiny_vision, converter_tools, tmp_path, caplog):
    folder = copy_model(tiny_vision.merged, tmp_path / "model")
    pieces = sentencepiece_model_pb2.ModelProto()
    pieces.ParseFromString((folder / "tokenizer.model").read_bytes())
    for piece in pieces.pieces:
        if piece.piece.startswith("[IMG"):
            piece.type = sentencepiece_model_pb2.ModelProto.SentencePiece.USER_DEFINED
    (folder / "tokenizer.model").write_bytes(pieces.SerializeToString())
    with caplog.at_level("WARNING"):
        convert(folder, converter_tools, tmp_path / "bf16.gguf")
    assert "added_tokens_decoder in tokenizer_config.json lacks [IMG], [IMG_BREAK], [IMG_END]" in caplog.text
    assert token_types(tmp_path / "bf16.gguf") == token_types(tiny_vision.gguf)


def test_the_processor_may_be_saved_as_transformers_5_saves_it(tiny_vision, converter_tools, tmp_path):
    folder = copy_model(tiny_vision.merged, tmp_path / "model")
    images = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").unlink()
    spoil(folder, "processor_config.json", lambda config: config.update(image_processor=images))
    convert_vision(folder, converter_tools, tmp_path / "mmproj.gguf")
    assert (tmp_path / "mmproj.gguf").read_bytes() == tiny_vision.mmproj.read_bytes()


REFUSED = {
    "another architecture": (
        "config.json",
        lambda config: config.update(architectures=["LlavaForConditionalGeneration"]),
        "is a LlavaForConditionalGeneration, not a Mistral3ForConditionalGeneration",
    ),
    "another layer": (
        "config.json",
        lambda config: config.update(vision_feature_layer=-2),
        "takes layer -2 of the tower; llama.cpp the last one",
    ),
    "another rope": (
        "config.json",
        lambda config: config["vision_config"]["rope_parameters"].update(rope_theta=5000.0),
        "has rope_theta 5000 in its tower; llama.cpp has 10000",
    ),
    "odd heads": (
        "config.json",
        lambda config: config["vision_config"].update(head_dim=32),
        "has vision heads that don't add up",
    ),
    "another filter": (
        "preprocessor_config.json",
        lambda config: config.update(resample=2),
        "scales images by method 2; llama.cpp by 3",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_llama_cpp_can_not_be_told_is_refused(tiny_vision, converter_tools, tmp_path, name):
    folder = copy_model(tiny_vision.merged, tmp_path / "model")
    file, change, expected = REFUSED[name]
    spoil(folder, file, change)
    with pytest.raises(UserError, match=expected):
        convert_vision(folder, converter_tools, tmp_path / "mmproj.gguf")
    assert list(tmp_path.glob("*.gguf")) == list(tmp_path.glob(".convert*")) == []


def test_a_tower_of_two_layers_is_more_than_the_converter_can_do(tiny_vision, converter_tools, tmp_path):
    folder = copy_model(tiny_vision.merged, tmp_path / "model")
    spoil(folder, "config.json", lambda config: config["vision_config"].update(num_hidden_layers=2))
    tensors = load_file(folder / "model.safetensors")
    kept = {
        name: tensor for name, tensor in tensors.items() if not name.startswith("vision_tower.transformer.layers.2")
    }
    assert len(kept) < len(tensors)
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"has 2 vision layers; llama\.cpp's converter needs 3"):
        convert_vision(folder, converter_tools, tmp_path / "mmproj.gguf")
    with pytest.raises(UserError, match=r"converter fails: .*linear_2"):
        run_converter(converter_tools, folder, tmp_path / "mmproj.gguf", "--mmproj")


def test_a_text_model_is_refused_in_one_line(tiny_base, converter_tools, tmp_path, capfd):
    folder = copy_model(tiny_base.parent, tmp_path / "model")
    words = [str(folder), "--tools", str(converter_tools), "--base", str(folder / "manifest.json")]
    words += ["--output", str(tmp_path / "mmproj.gguf"), "--settings", json.dumps(conversion_settings())]
    assert main(words) == 1
    line = capfd.readouterr().err.splitlines()[-1]
    assert "has no vision tower" in line


def test_a_file_that_would_show_llama_cpp_other_images_is_refused(tiny_vision, tmp_path):
    config = json.loads((tiny_vision.merged / "config.json").read_text())
    expected = expected_values(config, image_settings(tiny_vision.merged))
    row = torch.zeros(config["text_config"]["hidden_size"])
    with pytest.raises(UserError, match="is not the embedding of"):
        check_file(tiny_vision.mmproj, expected, row)
    path = changed(tiny_vision.mmproj, tmp_path / "x.gguf", {"clip.vision.spatial_merge_size": 1})
    with pytest.raises(UserError, match=r"has clip\.vision\.spatial_merge_size 1, not 2"):
        check_file(path, expected, row)
