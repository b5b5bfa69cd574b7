"""The tokenizers and templates of Llama 3 and Phi-3 on the way to GGUF: the real ones, on tiny random models."""

import json

import pytest
import torch

from scripts.common.chat_shape import shape_of_template
from scripts.common.errors import UserError
from scripts.common.files import read_json, write_manifest
from scripts.gguf.base_tokenizer import write_tokenizer
from scripts.gguf.check_parity import main as check_parity
from scripts.gguf.convert_to_gguf import convert_to_gguf
from scripts.gguf.fetch_converter import read_pin
from scripts.gguf.llama import open_gguf
from scripts.gguf.reader import read_gguf
from scripts.gguf.tokenizer_repairs import name_for_llama_cpp
from scripts.model.template_date import pin_template_date, pinned_template
from tests.support.chat_templates import LLAMA
from tests.support.gguf_files import CONVERTER, conversion_settings, write_test_records
from tests.support.one_worker import one_worker_at_a_time
from tests.support.real_vocabularies import (
    NAMES,
    TEMPLATES,
    unpack_real_files,
    write_phi3_tokenizer,
)

PHI3 = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m['content'] + '<|end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"
)
SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2}
LLAMA_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


@pytest.fixture(scope="module")
def real_files(request):
    """The folder of the vocabularies and templates; unpacked once and kept in pytest's cache."""
    folder = request.config.cache.mkdir("real_files") / read_pin(CONVERTER).sha256[:12]
    with one_worker_at_a_time(folder):
        if not folder.is_dir():
            unpack_real_files(folder)
    return folder


def converted(folder, tools, model: str):
    """Convert a model folder whose hub name is `model`; return the GGUF file."""
    manifest = write_manifest(folder, name="m", source="hub", license=None, revision=None)
    settings = conversion_settings()
    settings["model"] |= {"name": model}
    convert_to_gguf(folder, tools, manifest, folder.with_suffix(".gguf"), settings)
    return folder.with_suffix(".gguf")


def parity(folder, gguf, tmp_path) -> tuple[int, dict | None]:
    """Run the parity check; return its status and report."""
    report = tmp_path / "parity.json"
    settings = {"parity": {"max_kl": 0.02, "prompts": 1}, "generation": {"system": None}}
    words = [folder, gguf, "--test", write_test_records(tmp_path / "test.jsonl"), "--output", report, "--threads", "2"]
    status = check_parity([*map(str, words), "--settings", json.dumps(settings)])
    return status, json.loads(report.read_text()) if report.exists() else None


@pytest.mark.parametrize(
    ("template", "day", "opening"),
    [
        (TEMPLATES[0], None, "Today Date: 26 Jul 2024\n\n<|eot_id|>"),
        (TEMPLATES[1], None, "Today Date: 26 Jul 2024\n\n<|eot_id|>"),
        (TEMPLATES[1], "2025-03-17", "Today Date: 17 Mar 2025\n\n<|eot_id|>"),
        (TEMPLATES[2], "2025-03-17", "The current date is 2025-03-17."),
    ],
)
def test_the_templates_of_real_models_are_known_once_their_date_is_fixed(real_files, template, day, opening):
    pinned, _ = pinned_template((real_files / template).read_text(encoding="utf-8"), day)
    ends = ("<|begin_of_text|>", "<|eot_id|>") if "Llama" in template else ("<s>", "</s>")
    shape = shape_of_template(pinned, *ends)
    assert opening in shape.opening
    assert shape.system == "at_start"


def test_llama_3s_own_tokenizer_and_dated_template_pass_parity(real_files, converter_tools, tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path / "llama"
    folder.mkdir()
    write_tokenizer(read_gguf(real_files / NAMES[0]), folder)
    settings = read_json(folder / "tokenizer_config.json") | {"eos_token": "<|eot_id|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text((real_files / TEMPLATES[1]).read_text(encoding="utf-8"))
    pin_template_date(folder, "2025-03-17")
    own = {"bos_token_id": 128000, "eos_token_id": 128009, "max_position_embeddings": 131072}
    config = LlamaConfig(**SMALL, **own, vocab_size=128256, num_key_value_heads=1, rope_parameters=LLAMA_ROPE)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    gguf = converted(folder, converter_tools, "Llama-3.1-8B-Instruct")
    with open_gguf(gguf, context=8, vocab_only=True) as model:
        assert model.metadata["tokenizer.ggml.pre"] == "llama-bpe"
    status, report = parity(folder, gguf, tmp_path)
    assert status == 0
    assert report["conversations"]["refused_by_both"] == []
    assert report["modelfile"]["equal"] > 20
    assert (report["shape"]["system"], report["shape"]["trims"]) == ("at_start", ["system", "user", "assistant"])
    assert "\nToday Date: 17 Mar 2025\n" in report["shape"]["opening"]
    assert report["eos"] == "<|eot_id|>"


def test_another_byte_level_tokenizer_is_refused_in_one_line(tiny_base, converter_tools, tmp_path):
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path / "own"
    folder.mkdir()
    own = Tokenizer(BPE({letter: number for number, letter in enumerate(sorted(ByteLevel.alphabet()))}, []))
    own.pre_tokenizer = ByteLevel(add_prefix_space=False)
    names = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}
    PreTrainedTokenizerFast(tokenizer_object=own, chat_template=LLAMA, **names).save_pretrained(folder)
    config = LlamaConfig(**SMALL, vocab_size=258, num_key_value_heads=1)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    with pytest.raises(UserError) as error:
        converted(folder, converter_tools, "own")
    assert "llama.cpp's converter fails: NotImplementedError: BPE pre-tokenizer was not recognized" in str(error.value)


@pytest.mark.parametrize("model", ["Phi-3-mini-4k-instruct", "mini-4k"])
def test_phi_3s_own_tokenizer_and_template_pass_parity_under_any_name(real_files, converter_tools, tmp_path, model):
    from transformers import Phi3Config, Phi3ForCausalLM

    folder = tmp_path / "phi"
    folder.mkdir()
    write_phi3_tokenizer(real_files / NAMES[1], folder, PHI3)
    own = {"bos_token_id": 1, "eos_token_id": 32000, "pad_token_id": 32000, "sliding_window": 2047}
    context = {"max_position_embeddings": 4096, "original_max_position_embeddings": 4096}
    config = Phi3Config(**SMALL, **own, **context, vocab_size=32064, num_key_value_heads=2)
    Phi3ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    status, report = parity(folder, converted(folder, converter_tools, model), tmp_path)
    assert status == 0
    assert report["modelfile"]["not_expressible"] == []
    assert (report["shape"]["closing"], report["adds_bos"]) == ("<|endoftext|>", False)


def test_a_name_with_phi_3_is_changed_where_llama_cpp_would_draw_the_wrong_conclusion(tiny_base):
    from transformers import AutoTokenizer

    plain = AutoTokenizer.from_pretrained(tiny_base.parent)
    name, line = name_for_llama_cpp("better than PHI-3", plain)
    assert name == "better than Phi 3"
    assert line.startswith("general.name is 'better than Phi 3', not 'better than PHI-3': for a name with Phi-3")
    assert name_for_llama_cpp("Phi 3 mini", plain) == ("Phi 3 mini", None)
