"""Conversion and quantization: real files from a real model, their metadata, and what is mended on the way."""

import json
import logging
import shutil
import tarfile

import pytest
from gguf import GGUFReader
from transformers import AutoTokenizer

from scripts.common.chat_template import render_template, without_generation_tags
from scripts.common.config.runs import QUANTS
from scripts.common.errors import UserError
from scripts.common.files import check_manifest, read_json
from scripts.gguf.convert_to_gguf import chat_changes, convert_to_gguf
from scripts.gguf.fetch_converter import (
    fetch_converter,
    read_pin,
    unpack_converter,
)
from scripts.gguf.llama import open_gguf
from scripts.gguf.quantize_gguf import file_type, main, quantize_gguf
from scripts.gguf.tensor_types import quant_line
from scripts.gguf.tokenizer_repairs import mended_config
from tests.support.gguf_files import CONVERTER, ROOT, conversion_settings, convert
from tests.support.tiny_model import TEMPLATE, copy_model, make_tiny_model

NUMBERS = {
    "f16": 1, "q4_0": 2, "q8_0": 7, "q5_0": 8, "q3_k_m": 12, "q4_k_s": 14, "q4_k_m": 15, "q5_k_s": 16, "q5_k_m": 17,
    "q6_k": 18, "iq4_nl": 25, "iq4_xs": 30, "bf16": 32,
}  # fmt: skip


def metadata(path) -> dict:
    fields = GGUFReader(path).fields
    return {key: field.contents() for key, field in fields.items() if not key.startswith("GGUF.")}


def test_the_converter_is_of_the_installed_version_and_pinned_like_it():
    import llama_cpp

    pin = read_pin(CONVERTER)
    assert pin.version == llama_cpp.__version__
    lock = (ROOT / "envs" / "gguf.lock").read_text()
    assert f"{pin.package}=={pin.version} \\\n    --hash=sha256:{pin.sha256}\n" in lock


def test_an_archive_with_another_hash_is_refused(tmp_path):
    archive = tmp_path / "archive.tar.gz"
    archive.write_bytes(b"something else")
    folder = tmp_path / "tools"
    with pytest.raises(UserError, match=r"archive\.tar\.gz: has SHA-256 [0-9a-f]{64}, not 832db069"):
        fetch_converter(CONVERTER, folder, archive)
    assert not folder.exists()


def test_the_converter_of_a_container_image_makes_the_same_folder(converter_tools, tmp_path):
    image = shutil.copytree(converter_tools, tmp_path / "image")
    (image / "manifest.json").unlink()
    shutil.copyfile(CONVERTER, image / CONVERTER.name)
    folder = tmp_path / "tools"
    fetch_converter(CONVERTER, folder, image_folder=image)
    assert read_json(folder / "manifest.json") == read_json(converter_tools / "manifest.json")
    check_manifest(folder / "manifest.json", hashes=True)


def test_a_conversion_leaves_the_converters_folder_as_it_was(converter_tools, tiny_base, tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    tools = shutil.copytree(converter_tools, tmp_path / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    before = sorted(tools.rglob("*"))
    convert(copy_model(tiny_base.parent, tmp_path / "model"), tools, tmp_path / "bf16.gguf")
    assert sorted(tools.rglob("*")) == before


def test_a_converter_of_another_version_in_a_container_image_is_refused(tmp_path):
    text = CONVERTER.read_text().replace(read_pin(CONVERTER).version, "0.0.1")
    (tmp_path / CONVERTER.name).write_text(text)
    with pytest.raises(UserError, match=r"holds llama-cpp-python 0\.0\.1, not .*; make containers"):
        fetch_converter(CONVERTER, tmp_path / "tools", image_folder=tmp_path)
    assert not (tmp_path / "tools").exists()


def test_an_archive_that_leads_out_of_the_folder_is_refused(tmp_path):
    archive, source = tmp_path / "a.tar.gz", tmp_path / "source.py"
    source.write_text("print('x')\n")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(source, arcname="llama_cpp_python-1/vendor/llama.cpp/conversion/../../outside.py")
    with pytest.raises(UserError, match="leads out of the folder"):
        unpack_converter(archive, tmp_path / "out" / "tools")
    assert not list(tmp_path.rglob("outside.py"))


@pytest.mark.parametrize("quant", [quant for quant in QUANTS if quant != "bf16"])
def test_each_quant_loads_and_has_the_metadata_of_the_bf16_file(tiny_gguf, tmp_path, quant):
    path = tmp_path / f"{quant}.gguf"
    assert main([str(tiny_gguf), "--quant", quant, "--output", str(path), "--log", str(tmp_path / "log")]) == 0
    before, after = metadata(tiny_gguf), metadata(path)
    assert after.pop("general.file_type") == NUMBERS[quant] == file_type(quant)
    assert before.pop("general.file_type") == NUMBERS["bf16"]
    assert after == before
    if quant != "f16":
        assert path.stat().st_size < tiny_gguf.stat().st_size * 0.6
    with open_gguf(path, context=16) as model:
        model.eval([1, 5, 9])


def test_quantization_does_not_depend_on_threads(tiny_gguf, tmp_path):
    for threads in (1, 2):
        quantize_gguf(tiny_gguf, tmp_path / f"{threads}.gguf", "q4_k_m", threads)
    assert (tmp_path / "1.gguf").read_bytes() == (tmp_path / "2.gguf").read_bytes()


def test_the_types_of_tensors_with_odd_rows_are_reported(converter_tools, tmp_path):
    folder = make_tiny_model(tmp_path / "odd", intermediate=288)
    source = convert(folder, converter_tools, tmp_path / "bf16.gguf")
    types = tmp_path / "q4_k_m.types.json"
    words = ["--quant", "q4_k_m", "--output", str(tmp_path / "q4_k_m.gguf"), "--types", str(types)]
    assert main([str(source), *words]) == 0
    found = read_json(types)
    assert (found["quant"], found["odd_rows"]) == ("q4_k_m", [288])
    assert sum(found["types"].values()) == 12
    assert "rows of 288 weights are not a multiple of 256, so some tensors have another type" in quant_line(found)
    assert quantize_gguf(source, tmp_path / "q8_0.gguf", "q8_0", 1)["odd_rows"] == []


def test_a_file_that_is_no_gguf_is_not_quantized(tmp_path, capfd):
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"nothing")
    assert main([str(path), "--quant", "q8_0", "--output", str(tmp_path / "q.gguf")]) == 1
    assert "is not a valid GGUF file" in capfd.readouterr().err
    assert not (tmp_path / "q.gguf").exists()


def test_a_converted_file_has_the_specified_metadata_and_none_guessed(tiny_gguf):
    found = metadata(tiny_gguf)
    general = {key: value for key, value in found.items() if key.startswith("general.")}
    sampling = {key: general.pop(key) for key in list(general) if "sampling" in key}
    assert general == {
        "general.architecture": "llama",
        "general.type": "model",
        "general.file_type": 32,
        "general.quantization_version": 2,
        "general.name": "tiny football",
        "general.basename": "tiny",
        "general.size_label": "722K",
        "general.finetune": "football",
        "general.version": "v1.0",
        "general.quantized_by": "snaketune",
        "general.license": "CC0-1.0",
        "general.base_model.count": 1,
        "general.base_model.0.name": "tiny",
        "general.datasets": ["commentary"],
        "general.dataset.count": 1,
        "general.dataset.0.name": "commentary",
        "general.languages": ["fr"],
        "general.tags": ["text-generation", "snaketune"],
    }
    assert sampling == pytest.approx(
        {
            "general.sampling.temp": 0.7,
            "general.sampling.top_p": 0.9,
            "general.sampling.top_k": 40,
            "general.sampling.min_p": 0.0,
            "general.sampling.penalty_repeat": 1.1,
        }
    )


def test_the_template_in_the_file_has_no_generation_tags_and_renders_the_same(tiny_gguf):
    template = metadata(tiny_gguf)["tokenizer.chat_template"]
    assert "generation" not in template.replace("add_generation_prompt", "")
    messages = [{"role": "user", "content": " a\n"}, {"role": "assistant", "content": "b "}]
    texts = [render_template(text, messages, "<s>", "</s>", False) for text in (template, TEMPLATE)]
    assert texts[0] == texts[1] == "<s>[INST]  a\n [/INST] b </s>"


@pytest.mark.parametrize("before", ["{%", "{%-", "{%+", "  {%", "\n{%", "x \n {%-"])
@pytest.mark.parametrize("after", ["%}", "-%}", "%} ", "%}\n", "%}\n  y\n", "-%}\n y"])
def test_a_generation_tag_is_replaced_without_a_change_of_white_space(before, after):
    from transformers.utils.chat_template_utils import render_jinja_template

    text = f"a {before} generation {after}{{{{ messages[0].content }}}} {before} endgeneration {after} z\n"
    messages = [{"role": "user", "content": "c"}]
    [expected], _ = render_jinja_template([messages], chat_template=text)
    assert render_template(without_generation_tags(text), messages, "", "") == expected
    assert render_template(text, messages, "", "") == expected


def spoil_config(folder, **changes) -> None:
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    for key, value in changes.items():
        config.pop(key, None)
        if value is not None:
            config[key] = value
    path.write_text(json.dumps(config))


def test_a_mended_folder_converts_to_the_very_file_of_a_sound_one(
    tiny_base, tiny_gguf, converter_tools, tmp_path, caplog
):
    folder = copy_model(tiny_base.parent, tmp_path / "model")
    spoil_config(folder, add_prefix_space=None)
    with caplog.at_level(logging.WARNING):
        output = convert(folder, converter_tools, tmp_path / "out.gguf")
    assert "mended: add_prefix_space in tokenizer_config.json is missing" in caplog.text
    assert output.read_bytes() == tiny_gguf.read_bytes()


@pytest.mark.parametrize("stated", [None, True])
def test_add_prefix_space_is_what_the_tokenizer_does_not_what_its_file_says(tiny_base, tmp_path, stated):
    sound = AutoTokenizer.from_pretrained(tiny_base.parent)
    folder = copy_model(tiny_base.parent, tmp_path / "model")
    spoil_config(folder, add_prefix_space=stated)
    config, repairs = mended_config(folder, sound)
    assert config["add_prefix_space"] is False
    stated = "missing" if stated is None else stated
    assert repairs == [f"add_prefix_space in tokenizer_config.json is {stated}; the tokenizer behaves as False"]


def test_special_tokens_that_the_converter_would_miss_are_mended_and_said(tiny_base, tmp_path):
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    folder = copy_model(tiny_base.parent, tmp_path / "model")
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString((folder / "tokenizer.model").read_bytes())
    piece = next(piece for piece in model.pieces if piece.piece == "[INST]")
    piece.type = sentencepiece_model_pb2.ModelProto.SentencePiece.USER_DEFINED
    (folder / "tokenizer.model").write_bytes(model.SerializeToString())
    assert sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model")).id_to_piece(3) == "[INST]"
    config, repairs = mended_config(folder, AutoTokenizer.from_pretrained(folder))
    assert repairs == ["added_tokens_decoder in tokenizer_config.json lacks [INST]; taken from tokenizer.json"]
    assert config["added_tokens_decoder"]["3"]["special"] is True


def test_a_sound_tokenizer_is_left_alone(tiny_base):
    assert mended_config(tiny_base.parent, AutoTokenizer.from_pretrained(tiny_base.parent))[1] == []


@pytest.mark.parametrize(("template", "writes"), [(TEMPLATE, True), (TEMPLATE.replace("{{ bos_token }}", ""), False)])
@pytest.mark.parametrize("stated", [True, False, None])
def test_llama_cpp_adds_bos_only_where_the_template_writes_it(tiny_base, template, writes, stated):
    tokenizer = AutoTokenizer.from_pretrained(tiny_base.parent, chat_template=template)
    values = {"tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2}
    values |= {} if stated is None else {"tokenizer.ggml.add_bos_token": stated}
    changes, repairs = chat_changes(tokenizer, values)
    assert changes["tokenizer.ggml.add_bos_token"] is writes
    assert len(repairs) == (stated is not None and stated != writes)


def test_wrong_ids_and_an_eos_after_prompts_are_mended_and_said(tiny_base):
    tokenizer = AutoTokenizer.from_pretrained(tiny_base.parent)
    values = {"tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 7, "tokenizer.ggml.add_eos_token": True}
    changes, repairs = chat_changes(tokenizer, values)
    assert changes["tokenizer.ggml.eos_token_id"] == 2
    assert changes["tokenizer.ggml.add_eos_token"] is False
    assert "tokenizer.ggml.bos_token_id" not in changes
    assert repairs == [
        "tokenizer.ggml.eos_token_id is 7, not 2",
        "tokenizer.ggml.add_eos_token is true: an EOS would end each prompt",
    ]


def test_a_model_without_a_chat_template_is_refused(tiny_base):
    tokenizer = AutoTokenizer.from_pretrained(tiny_base.parent)
    tokenizer.chat_template = None
    with pytest.raises(UserError, match="the merged model has no chat template"):
        chat_changes(tokenizer, {})


def test_a_model_that_the_converter_does_not_know_is_one_line(tiny_base, converter_tools, tmp_path):
    folder = copy_model(tiny_base.parent, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["NobodyForCausalLM"]}))
    with pytest.raises(UserError) as error:
        convert(folder, converter_tools, tmp_path / "out.gguf")
    assert "llama.cpp's converter fails:" in str(error.value)
    assert "NobodyForCausalLM is not supported" in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.glob("*.gguf")) == list(tmp_path.glob(".convert*")) == []


def test_a_folder_that_changed_since_it_was_made_is_refused(tiny_base, converter_tools, tmp_path):
    folder = copy_model(tiny_base.parent, tmp_path / "model")
    with open(folder / "tokenizer.model", "ab") as file:
        file.write(b"x")
    with pytest.raises(UserError, match=r"tokenizer\.model: has \d+ bytes"):
        convert_to_gguf(folder, converter_tools, folder / "manifest.json", tmp_path / "x.gguf", conversion_settings())
