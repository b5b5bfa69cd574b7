"""Tokenizers rebuilt from GGUF files: their token ids are llama.cpp's, on thousands of hard strings."""

import json
import re

import pytest
from tokenizers import Tokenizer, models, trainers
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoTokenizer

from scripts.common.errors import UserError
from scripts.gguf.base_tokenizer import write_tokenizer
from scripts.gguf.fetch_converter import read_pin
from scripts.gguf.llama import open_gguf
from scripts.gguf.reader import TEXT, read_gguf
from tests.support.gguf_files import CONVERTER
from tests.support.gguf_maker import Entry, Made, byte_level, language_model, sentencepiece
from tests.support.hard_strings import hard_strings
from tests.support.one_worker import one_worker_at_a_time
from tests.support.real_vocabularies import unpack_real_files


def tokenizer_of(path, folder):
    """Return the tokenizer that is rebuilt from a GGUF file."""
    write_tokenizer(read_gguf(path), folder)
    return AutoTokenizer.from_pretrained(folder)


def differing(path, tokenizer, strings: list[str]) -> list[str]:
    """Return the strings that llama.cpp cuts into other tokens."""
    with open_gguf(path, context=8, vocab_only=True) as model:

        def served(text: str) -> list[int]:
            return model.tokenize(text.encode(), add_bos=False, special=True)

        return [text for text in strings if tokenizer(text, add_special_tokens=False)["input_ids"] != served(text)]


def special_tokens(tokenizer) -> list[str]:
    return [entry.content for entry in tokenizer.added_tokens_decoder.values()][:40]


def test_smollm2_is_tokenized_as_llama_cpp_tokenizes_the_original_file_and_has_its_chat_template(smollm2, tmp_path):
    tokenizer = tokenizer_of(smollm2, tmp_path)
    assert differing(smollm2, tokenizer, hard_strings(special_tokens(tokenizer))) == []
    text = tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False, add_generation_prompt=True)
    assert text.endswith("<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer.model_max_length == 8192


@pytest.mark.parametrize("name", ["llama-spm", "llama-bpe", "qwen2"])
def test_real_vocabularies_are_tokenized_as_llama_cpp_tokenizes_them(request, converter_archive, tmp_path, name):
    folder = request.config.cache.mkdir("gguf_vocabularies") / read_pin(CONVERTER).sha256[:12]
    with one_worker_at_a_time(folder):
        if not folder.is_dir():
            unpack_real_files(converter_archive, folder, lambda file: re.fullmatch(r"ggml-vocab-.*\.gguf", file))
    path = folder / f"ggml-vocab-{name}.gguf"
    tokenizer = tokenizer_of(path, tmp_path)
    assert differing(path, tokenizer, hard_strings(special_tokens(tokenizer), 3000)) == []


@pytest.mark.parametrize("name", ["gpt-2", "smollm", "llama-bpe", "qwen2", "tekken"])
def test_each_pre_tokenizer_cuts_as_llama_cpp_does(tmp_path, name):
    """The merges are learnt from whole texts, so that many of them cross the places where a pre-tokenizer cuts."""
    special = ["<|beginning|>", "<|the-end-of|>", "<|instruction|>"]
    strings, learner = hard_strings(special, 1500), Tokenizer(models.BPE())
    learner.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(vocab_size=3000, initial_alphabet=ByteLevel.alphabet(), max_token_length=12)
    learner.train_from_iterator(strings, trainer)
    model = json.loads(learner.to_str())["model"]
    pieces, merges = sorted(model["vocab"], key=model["vocab"].get), map(" ".join, model["merges"])
    made = Made([Entry("general.architecture", TEXT, "llama"), *byte_level(name, pieces, [*merges], special)])
    path = made.written(tmp_path / "v.gguf")
    assert differing(path, tokenizer_of(path, tmp_path), strings) == []


@pytest.mark.parametrize("value", [True, False])
def test_a_space_and_bos_go_before_text_only_where_the_file_says_so(tmp_path, value):
    path, vocabulary = tmp_path / "m.gguf", sentencepiece()
    values = {"tokenizer__ggml__add_space_prefix": value, "tokenizer__ggml__add_bos_token": value}
    language_model("llama", vocabulary).with_values(**values).written(path)
    tokenizer = tokenizer_of(path, tmp_path)
    texts = ["ab", " ab", "[INST]ab[INST] b", "é[INST]é", "", "a  b", "ab\n", "<0x41>"]
    assert differing(path, tokenizer, texts) == []
    assert tokenizer.decode(tokenizer("ab b", add_special_tokens=False)["input_ids"]) == "ab b"
    made = language_model("llama", byte_level()).with_values(tokenizer__ggml__add_bos_token=value)
    for found in (tokenizer, tokenizer_of(made.written(path), tmp_path)):
        assert (found("ab")["input_ids"][0] == found.bos_token_id) == value
        assert (found.bos_token, found.eos_token) == ("<s>", "</s>")


def test_user_defined_tokens_are_found_in_texts_but_are_not_special(tmp_path):
    made = language_model("llama", sentencepiece())
    made.entry("tokenizer.ggml.token_type").value[3] = 4  # [INST]
    tokenizer = tokenizer_of(made.written(tmp_path / "m.gguf"), tmp_path)
    assert differing(tmp_path / "m.gguf", tokenizer, ["a[INST]b", "[INST]"]) == []
    assert "[INST]" not in tokenizer.all_special_tokens


def test_another_kind_of_tokenizer_is_refused_by_its_name(tmp_path):
    path = language_model().with_values(tokenizer__ggml__model="bert").written(tmp_path / "m.gguf")
    with pytest.raises(UserError, match=r"m\.gguf: tokenizer\.ggml\.model is 'bert'; 'llama' .* are supported"):
        write_tokenizer(read_gguf(path), tmp_path)
    assert not (tmp_path / "tokenizer.json").exists()
