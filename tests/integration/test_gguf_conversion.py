"""Conversion and quantization: real files from a real model, their metadata, and what is mended on the way."""

import json
import os
import shutil
import tarfile

import llama_cpp
import numpy
import pytest
import torch
from gguf import GGUFReader, LlamaFileType
from gguf.quants import BF16
from safetensors.torch import load_file
from transformers import AutoTokenizer
from transformers.utils.chat_template_utils import render_jinja_template

from scripts.common.chat_template import render_template, without_generation_tags
from scripts.common.errors import UserError
from scripts.common.files import check_manifest, read_json
from scripts.config.runs import QUANTS
from scripts.gguf.convert_to_gguf import chat_changes, convert_to_gguf
from scripts.gguf.converter import quantize_blocks, run_converter
from scripts.gguf.fetch_converter import LICENSE, NEEDED, fetch_converter, read_pin, unpack
from scripts.gguf.llama import open_gguf
from scripts.gguf.metadata import general_metadata
from scripts.gguf.naming import model_name
from scripts.gguf.quantize_gguf import main, quantize_gguf
from scripts.gguf.reader import read_gguf
from scripts.gguf.tensor_types import quant_line
from scripts.gguf.tokenizer_repairs import mended_config
from tests.support.gguf_files import CONVERTER, ROOT, conversion_settings, convert, dequantized
from tests.support.tiny_model import TEMPLATE, copy_model, make_tiny_model

BOS, EOS = "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id"
ADD_BOS, ADD_EOS = "tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token"


def metadata(path) -> dict:
    fields = GGUFReader(path).fields
    return {key: field.contents() for key, field in fields.items() if not key.startswith("GGUF.")}


def test_the_converter_is_of_the_installed_version_and_pinned_like_it():
    pin = read_pin(CONVERTER)
    assert pin.version == llama_cpp.__version__
    assert f"{pin.package}=={pin.version} \\\n    --hash=sha256:{pin.sha256}\n" in (ROOT / "envs/gguf.lock").read_text()


def test_a_converter_that_is_not_the_pinned_one_is_refused(tmp_path):
    archive, tools = tmp_path / "archive.tar.gz", tmp_path / "tools"
    archive.write_bytes(b"something else")
    with pytest.raises(UserError, match=r"archive\.tar\.gz: has SHA-256 [0-9a-f]{64}, not 832db069"):
        fetch_converter(CONVERTER, tools, archive)
    (tmp_path / CONVERTER.name).write_text(CONVERTER.read_text().replace(read_pin(CONVERTER).version, "0.0.1"))
    with pytest.raises(UserError, match=r"holds llama-cpp-python 0\.0\.1, not .*; make containers"):
        fetch_converter(CONVERTER, tools, image_folder=tmp_path)
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(CONVERTER, arcname="llama_cpp_python-1/vendor/llama.cpp/conversion/../../outside.py")
    with pytest.raises(UserError, match="leads out of the folder"):
        unpack(archive, tools, NEEDED, (".py", LICENSE))
    assert not tools.exists()
    assert not list(tmp_path.rglob("outside.py"))


def test_a_mended_folder_converts_to_the_file_of_a_sound_one_by_the_converter_of_a_container_image(
    tiny_base, tiny_gguf, converter_tools, tmp_path, caplog
):
    image = shutil.copytree(converter_tools, tmp_path / "image", ignore=shutil.ignore_patterns("__pycache__"))
    (image / "manifest.json").unlink()
    shutil.copyfile(CONVERTER, image / CONVERTER.name)
    tools = tmp_path / "tools"
    fetch_converter(CONVERTER, tools, image_folder=image)
    assert read_json(tools / "manifest.json") == read_json(converter_tools / "manifest.json")
    before = sorted(tools.rglob("*"))
    folder = copy_model(tiny_base.parent, tmp_path / "model")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["add_prefix_space"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    output = convert(folder, tools, tmp_path / "out.gguf")
    assert "repaired: add_prefix_space in tokenizer_config.json is missing" in caplog.text
    assert output.read_bytes() == tiny_gguf.read_bytes()
    check_manifest(tools / "manifest.json", hashes=True)
    assert sorted(tools.rglob("*")) == before


@pytest.mark.parametrize("quant", QUANTS)
def test_each_quant_loads_keeps_the_metadata_and_is_dequantized_as_llama_cpp_does_it(tiny_gguf, tmp_path, quant):
    path, plain = tmp_path / f"{quant}.gguf", tmp_path / "f32.gguf"
    assert main([str(tiny_gguf), "--quant", quant, "--output", str(path), "--log", str(tmp_path / "log")]) == 0
    file_type = {"general.file_type": LlamaFileType[f"MOSTLY_{quant.upper()}"].value}
    assert metadata(path) == metadata(tiny_gguf) | file_type
    if quant not in ("bf16", "f16"):
        assert path.stat().st_size < tiny_gguf.stat().st_size * 0.6
    with open_gguf(path, context=16) as model:
        model.eval([1, 5, 9])
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype, parameters.allow_requantize, parameters.nthread = 0, True, 1
    assert llama_cpp.llama_model_quantize(str(path).encode(), str(plain).encode(), parameters) == 0
    folders = (dequantized(path, tmp_path / "ours", "mistral"), dequantized(plain, tmp_path / "theirs"))
    ours, theirs = (load_file(folder / "model.safetensors") for folder in folders)
    assert all(torch.allclose(ours[name].float(), theirs[name].float(), rtol=2**-7, atol=0) for name in theirs)


def test_the_types_of_tensors_with_odd_rows_are_reported_and_threads_change_nothing(converter_tools, tmp_path):
    folder = make_tiny_model(tmp_path / "odd", intermediate=288)
    source, types = convert(folder, converter_tools, tmp_path / "bf16.gguf"), tmp_path / "q4_k_m.types.json"
    words = ["--quant", "q4_k_m", "--output", str(tmp_path / "q4_k_m.gguf"), "--types", str(types)]
    assert main([str(source), *words]) == 0
    found = read_json(types)
    assert (found["quant"], found["odd_rows"], sum(found["types"].values())) == ("q4_k_m", [288], 12)
    assert "row sizes 288 are not multiples of 256, so some tensors have another type" in quant_line(found)
    assert quantize_gguf(source, tmp_path / "2.gguf", "q4_k_m", 2) == found
    assert (tmp_path / "q4_k_m.gguf").read_bytes() == (tmp_path / "2.gguf").read_bytes()
    assert quantize_gguf(source, tmp_path / "q8_0.gguf", "q8_0", 1)["odd_rows"] == []


def test_values_are_rounded_to_bf16_as_the_converter_rounds_them_whatever_their_bits():
    bits = numpy.random.default_rng(0).integers(0, 2**32, 100_000, dtype=numpy.uint32)
    edges = numpy.uint32([0x3F808000, 0x3F818000, 0x7F7FFFFF, 0x7F800000, 0x7F800001, 0xFFFFFFFF, 0x80000001])
    blocks = numpy.concatenate([bits, edges]).view(numpy.float32)[:, None]
    assert numpy.array_equal(quantize_blocks(None, blocks), BF16.quantize_blocks(blocks))


def test_a_damaged_file_is_not_quantized(tiny_gguf, tmp_path):
    for name in (tiny_gguf.name, f".{tiny_gguf.name}.sha256"):
        shutil.copyfile(tiny_gguf.with_name(name), tmp_path / name)
    with open(tmp_path / tiny_gguf.name, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x55")
    with pytest.raises(UserError, match=r"bf16\.gguf: has changed since it was made"):
        quantize_gguf(tmp_path / tiny_gguf.name, tmp_path / "q8_0.gguf", "q8_0", 1)
    assert not (tmp_path / "q8_0.gguf").exists()


def test_a_converted_file_has_the_specified_metadata_and_none_guessed(tiny_gguf):
    """What the specification has, tests/unit/test_gguf_naming.py says."""
    found, name = metadata(tiny_gguf), model_name("tiny", read_gguf(tiny_gguf).parameters, "football", "v1.0")
    general = general_metadata(name, conversion_settings(), "CC0-1.0") | {"general.architecture": "llama"}
    general |= {"general.type": "model", "general.file_type": 32, "general.quantization_version": 2}
    general = {key: pytest.approx(value) if isinstance(value, float) else value for key, value in general.items()}
    assert {key: value for key, value in found.items() if key.startswith("general.")} == general
    template = found["tokenizer.chat_template"]
    assert "generation" not in template.replace("add_generation_prompt", "")
    messages = [{"role": "user", "content": " a\n"}, {"role": "assistant", "content": "b "}]
    assert render_template(template, messages, "<s>", "</s>", False) == "<s>[INST]  a\n [/INST] b </s>"


@pytest.mark.parametrize("before", ["{%", "{%-", "{%+", "  {%", "\n{%", "x \n {%-"])
@pytest.mark.parametrize("after", ["%}", "-%}", "%} ", "%}\n", "%}\n  y\n", "-%}\n y"])
def test_a_generation_tag_is_replaced_without_a_change_of_white_space(before, after):
    text = f"a {before} generation {after}{{{{ messages[0].content }}}} {before} endgeneration {after} z\n"
    messages = [{"role": "user", "content": "c"}]
    [expected], _ = render_jinja_template([messages], chat_template=text)
    assert {render_template(version, messages, "", "") for version in (without_generation_tags(text), text)} == {
        expected
    }


def test_what_a_chat_needs_of_the_special_tokens_is_mended_and_said(tiny_base, caplog):
    """llama.cpp adds BOS only where the template writes it, and no EOS after a prompt."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_base.parent)
    mended_config(tiny_base.parent, tokenizer)
    assert "repaired" not in caplog.text
    changes = chat_changes(tokenizer, {BOS: 1, EOS: 7, ADD_EOS: True})
    assert (changes[EOS], changes[ADD_EOS], changes[BOS]) == (2, False, 1)
    assert [line.split(",")[0] for line in caplog.messages] == [f"repaired: {EOS} is 7", f"repaired: {ADD_EOS} is True"]
    for template, writes in ((TEMPLATE, True), (TEMPLATE.replace("{{ bos_token }}", ""), False)):
        tokenizer.chat_template = template
        for stated in ({}, {ADD_BOS: True}, {ADD_BOS: False}):
            caplog.clear()
            assert chat_changes(tokenizer, {BOS: 1, EOS: 2, **stated})[ADD_BOS] is writes
            assert len(caplog.messages) == (stated.get(ADD_BOS, writes) != writes)
    tokenizer.chat_template = None
    with pytest.raises(UserError, match="the merged model has no chat template"):
        chat_changes(tokenizer, {})


def test_a_converter_that_ends_without_a_file_is_one_line(tmp_path):
    (tmp_path / "convert_hf_to_gguf.py").write_text("import gguf\ndef main(): pass\n")
    writer = "class GGUFWriter:\n    write_ti_data_to_file = None\n"
    (tmp_path / "gguf.py").write_text(f"{writer}class quants:\n    class BF16:\n        quantize_blocks = None\n")
    with pytest.raises(UserError, match=r"^model: llama.cpp's converter failed: it wrote no file$"):
        run_converter(tmp_path, tmp_path / "model", tmp_path / "out.gguf", dict)


def test_a_model_that_the_converter_does_not_know_or_that_has_changed_is_one_line(tiny_base, converter_tools, tmp_path):
    folder = copy_model(tiny_base.parent, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["NobodyForCausalLM"]}))
    with pytest.raises(UserError, match=r"llama.cpp's converter failed:.*NobodyForCausalLM is not supported") as error:
        convert(folder, converter_tools, tmp_path / "out.gguf")
    assert "\n" not in str(error.value)
    assert list(tmp_path.glob("*.gguf")) == list(tmp_path.glob(".convert*")) == []
    with open(folder / "tokenizer.model", "ab") as file:
        file.write(b"x")
    with pytest.raises(UserError, match=r"tokenizer\.model: has \d+ bytes"):
        convert_to_gguf(folder, converter_tools, folder / "manifest.json", tmp_path / "x.gguf", conversion_settings())
