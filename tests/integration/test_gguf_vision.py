"""The vision tower's GGUF file: what llama.cpp needs is in it, or it is refused, and served is trained with images."""

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
from scripts.gguf.check_parity import main as check_parity
from scripts.gguf.conversations import built_in_conversations
from scripts.gguf.convert_mmproj import convert_mmproj, main
from tests.support.gguf_files import changed, conversion_settings, convert, with_scaled_tensor, with_token_type
from tests.support.tiny_model import copy_model
from tests.support.vision import IMAGE_SIZE

BREAK = "v.token_embd.img_break"
TEMPLATE_KEY = "tokenizer.chat_template"
TEXT_FIRST = 'turn.text + part["text"]'
OTHER_TOKENS = "gives other token ids, at token 2 of 'test a, prompt"
TOO_FAR = "(relative) from the merged model's; the limit is 0.1"


@pytest.fixture
def folder(tiny_vision, tmp_path):
    """A copy of the merged model, to be changed."""
    return copy_model(tiny_vision.merged, tmp_path / "model")


def convert_vision(merged, tools, output):
    """Run the step on a model folder whose manifest is made anew."""
    (merged / "manifest.json").unlink(missing_ok=True)
    write_manifest(merged, name="tiny", source="embedded", license="CC0-1.0", revision=None)
    convert_mmproj(merged, tools, merged / "manifest.json", output, conversion_settings())
    return output


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
    tensors, index = {}, {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        old = next((old for old in prefixes if name.startswith(old)), "")
        tensors[prefixes[old] + name.removeprefix(old) if old else f"model.{name}"] = tensor
    assert {"model.vision_tower.patch_conv.weight", "model.language_model.embed_tokens.weight"} <= tensors.keys()
    for number in (0, 1):
        part, file = dict([*tensors.items()][number::2]), f"model-0000{number + 1}-of-00002.safetensors"
        save_file(part, folder / file, {"format": "pt"})
        index |= dict.fromkeys(part, file)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    images = folder / "preprocessor_config.json"
    spoil(folder, "processor_config.json", image_processor=json.loads(images.read_text()))
    images.unlink()


def test_the_file_has_the_break_and_all_weights_and_says_what_the_model_says(tiny_vision):
    reader, weights = GGUFReader(tiny_vision.mmproj), load_file(tiny_vision.merged / "model.safetensors")
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    token = AutoTokenizer.from_pretrained(tiny_vision.merged).convert_tokens_to_ids("[IMG_BREAK]")
    row = weights["language_model.model.embed_tokens.weight"][token]
    assert numpy.array_equal(tensors[BREAK].data, row.float().numpy())
    own = [name for name in weights if name.startswith(("vision_tower", "multi_modal_projector"))]
    assert len(tensors) == len(own) + 1
    linear = tensors["mm.1.weight"]
    assert (tensors[BREAK].tensor_type.name, linear.tensor_type.name) == ("F32", "BF16")
    found = torch.from_numpy(linear.data.view(numpy.int16).copy()).view(torch.bfloat16)
    assert torch.equal(found, weights["multi_modal_projector.linear_1.weight"])
    config = json.loads((tiny_vision.merged / "config.json").read_text())
    expected = {
        "clip.projector_type": "pixtral",
        "clip.vision.patch_size": config["vision_config"]["patch_size"],
        "clip.vision.block_count": config["vision_config"]["num_hidden_layers"],
        "clip.vision.attention.layer_norm_epsilon": 1e-5,
        "clip.vision.spatial_merge_size": config["spatial_merge_size"],
        "clip.vision.preproc_image_size": IMAGE_SIZE,
        "clip.vision.image_mean": [0.48145466, 0.4578275, 0.40821073],
        "general.type": "mmproj",
        "general.name": "tiny football",
        "general.tags": ["image-text-to-text", "snaketune"],
    }
    for key, value in expected.items():
        is_exact = isinstance(value, int | str) or key == "general.tags"
        assert reader.fields[key].contents() == (value if is_exact else pytest.approx(value)), key


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
    convert_vision(folder, converter_tools, tmp_path / "mmproj.gguf")
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
        convert_vision(folder, converter_tools, tmp_path / "mmproj.gguf")
    assert list(tmp_path.glob("*.gguf")) == list(tmp_path.glob(".convert*")) == []


def test_a_text_model_is_refused_in_one_line(tiny_base, converter_tools, tmp_path, capfd):
    words = [str(tiny_base.parent), "--tools", str(converter_tools), "--base", str(tiny_base)]
    words += ["--output", str(tmp_path / "mmproj.gguf"), "--settings", json.dumps(conversion_settings())]
    assert main(words) == 1
    assert "has no vision tower" in capfd.readouterr().err.splitlines()[-1]


@pytest.fixture
def check(tiny_vision, tmp_path, capfd):
    """Run the step on a GGUF file and an mmproj file; return exit status, the user's line, the report."""

    def run(gguf=None, mmproj=None, longest_edge=None) -> tuple[int, str, dict | None]:
        settings = {"task": "vision", "vision": {"longest_edge": longest_edge}}
        settings |= {"parity": {"max_kl": 0.02, "prompts": 4}, "generation": {"system": None}}
        report = tmp_path / "parity.json"
        words = [tiny_vision.merged, gguf or tiny_vision.gguf, "--mmproj", mmproj or tiny_vision.mmproj]
        words += ["--images", tiny_vision.data, "--test", tiny_vision.test, "--output", report, "--threads", "2"]
        status = check_parity([*map(str, words), "--settings", json.dumps(settings)])
        log = capfd.readouterr().err
        assert status < 2, log
        line = log.splitlines()[-1].partition(" ERROR ")[2]
        return status, line, json.loads(report.read_text()) if report.exists() else None

    return run


def test_a_sound_pair_passes_and_the_report_says_what_was_compared(check):
    status, line, report = check()
    assert (status, line) == (0, "")
    assert report["conversations"]["equal"] == len(built_in_conversations()) + 2
    images = report["images"]
    assert images["conversations"] == images["modelfile"]["equal"] == 6
    assert list(images["special_tokens"]) == ["[IMG]", "[IMG_BREAK]", "[IMG_END]"]
    assert (images["images"], images["tokens"]) == (4, 4 * 5 + 2 * 5 + 4 * 3 + 3 * 5)
    assert 0 < images["embeddings"]["mean_error"] <= images["embeddings"]["max_error"] < 0.02
    assert 0 < images["divergence"]["mean"] <= images["divergence"]["max"] < 0.001
    assert 0 < report["divergence"]["mean"] < 0.001
    # libmtmd by itself: 30x95 and 100x40 pixels are made larger, to 8 tokens, and 301x203 stays below the 1024.
    assert images["otherwise_in_a_server"] == 3
    assert check()[2] == report
    status, _, smaller = check(longest_edge=56)  # as training had them
    assert (status, smaller["images"]["tokens"]) == (0, 2 * 3 + 1 * 3 + 2 * 2 + 2 * 3)


FAULTS = {
    "end of images as ordinary text": (None, "the special token '[IMG_END]' is"),
    "images at another place": ('part["text"] + turn.text', f"{OTHER_TOKENS}, text 1': 'L' instead of the end"),
    "something after images": ('turn.text + " " + part["text"]', f"{OTHER_TOKENS}, text 1'"),
    "larger images": (
        {"clip.vision.preproc_image_size": 224}, "images/large.png has (6, 8) rows and columns of tokens, not (3, 4)",
    ),
    "another projector": (("mm.input_norm.weight", 1.5), TOO_FAR),
    "another break": ((BREAK, -3.0), TOO_FAR),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_caught(tiny_vision, tmp_path, check, name):
    """A fault is another text in the template, other metadata of the tower, or a tensor of it and a factor."""
    (fault, expected), path = FAULTS[name], tmp_path / "spoilt.gguf"
    if fault is None:
        token = AutoTokenizer.from_pretrained(tiny_vision.merged).convert_tokens_to_ids("[IMG_END]")
        files = {"gguf": with_token_type(tiny_vision.gguf, path, token, 1)}
    elif isinstance(fault, str):
        template = GGUFReader(tiny_vision.gguf).fields[TEMPLATE_KEY].contents()
        assert TEXT_FIRST in template
        files = {"gguf": changed(tiny_vision.gguf, path, {TEMPLATE_KEY: template.replace(TEXT_FIRST, fault)})}
    elif isinstance(fault, dict):
        files = {"mmproj": changed(tiny_vision.mmproj, path, fault)}
    else:
        files = {"mmproj": with_scaled_tensor(tiny_vision.mmproj, path, *fault)}
    status, line, report = check(**files)
    assert (status, report) == (1, None)
    assert expected in line
