"""Tokenizers rebuilt from GGUF files: their token ids are llama.cpp's, on thousands of hard strings."""

import re

import pytest
from transformers import AutoTokenizer

from scripts.common.errors import UserError
from scripts.common.files import read_json
from scripts.gguf.base_tokenizer import build_tokenizer, write_tokenizer
from scripts.gguf.fetch_converter import read_pin
from scripts.gguf.llama import open_gguf
from scripts.gguf.reader import TEXT, read_gguf
from tests.support.gguf_files import CONVERTER
from tests.support.gguf_maker import Entry, Made, byte_level, language_model, sentencepiece
from tests.support.hard_strings import hard_strings
from tests.support.one_worker import one_worker_at_a_time
from tests.support.real_vocabularies import unpack_real_files
from tests.support.vocabularies import SPECIAL, write_byte_level_vocabulary

DIFFERENT = ("gpt-2", "smollm", "llama-bpe", "qwen2", "tekken")


def tokenizer_folder(path, folder):
    write_tokenizer(read_gguf(path), folder)
    return folder


def differing(path, tokenizer, strings: list[str]) -> list[str]:
    """Return the strings that llama.cpp cuts into other tokens."""
    with open_gguf(path, context=8, vocab_only=True) as model:

        def served(text: str) -> list[int]:
            return model.tokenize(text.encode(), add_bos=False, special=True)

        return [text for text in strings if tokenizer(text, add_special_tokens=False)["input_ids"] != served(text)]


def special_tokens(tokenizer) -> list[str]:
    return [entry.content for entry in tokenizer.added_tokens_decoder.values()][:40]


def test_smollm2_is_tokenized_as_llama_cpp_tokenizes_the_original_file(smollm2, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder(smollm2, tmp_path))
    assert differing(smollm2, tokenizer, hard_strings(special_tokens(tokenizer))) == []


@pytest.mark.parametrize("name", ["llama-spm", "llama-bpe", "qwen2"])
def test_real_vocabularies_are_tokenized_as_llama_cpp_tokenizes_them(request, tmp_path, name):
    folder = request.config.cache.mkdir("gguf_vocabularies") / read_pin(CONVERTER).sha256[:12]
    with one_worker_at_a_time(folder):
        if not folder.is_dir():
            unpack_real_files(folder, lambda file: re.fullmatch(r"ggml-vocab-.*\.gguf", file))
    path = folder / f"ggml-vocab-{name}.gguf"
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder(path, tmp_path))
    assert differing(path, tokenizer, hard_strings(special_tokens(tokenizer), 3000)) == []


@pytest.mark.parametrize("name", DIFFERENT)
def test_each_pre_tokenizer_cuts_as_llama_cpp_does(tmp_path, name):
    strings = hard_strings(SPECIAL, 1500)
    path = write_byte_level_vocabulary(tmp_path / "v.gguf", name, strings)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder(path, tmp_path))
    assert differing(path, tokenizer, strings) == []


@pytest.mark.parametrize("prefix", [True, False])
def test_a_space_goes_before_text_only_where_the_file_says_so(tmp_path, prefix):
    made = language_model("llama", sentencepiece()).with_values(tokenizer__ggml__add_space_prefix=prefix)
    path = made.written(tmp_path / "m.gguf")
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder(path, tmp_path))
    texts = ["ab", " ab", "[INST]ab[INST] b", "é[INST]é", "", "a  b", "ab\n", "<0x41>"]
    assert differing(path, tokenizer, texts) == []
    assert tokenizer.decode(tokenizer("ab b", add_special_tokens=False)["input_ids"]) == "ab b"


@pytest.mark.parametrize("vocabulary", [sentencepiece, byte_level])
@pytest.mark.parametrize("adds", [True, False])
def test_bos_is_added_to_plain_text_where_the_file_says_so(tmp_path, vocabulary, adds):
    made = language_model("llama", vocabulary()).with_values(tokenizer__ggml__add_bos_token=adds)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder(made.written(tmp_path / "m.gguf"), tmp_path))
    assert (tokenizer("ab")["input_ids"][0] == tokenizer.bos_token_id) == adds
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<s>", "</s>")


def test_user_defined_tokens_are_found_in_texts_but_are_not_special(tmp_path):
    made = language_model("llama", sentencepiece())
    made.entry("tokenizer.ggml.token_type").value[3] = 4  # [INST]
    path = made.written(tmp_path / "m.gguf")
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder(path, tmp_path))
    assert differing(path, tokenizer, ["a[INST]b", "[INST]"]) == []
    assert "[INST]" not in tokenizer.all_special_tokens


def refused(made: Made, path) -> str:
    file = read_gguf(made.written(path))
    with pytest.raises(UserError) as caught:
        build_tokenizer(file)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ["default", "falcon"])
def test_an_unknown_pre_tokenizer_is_refused_by_its_name(tmp_path, name):
    made = language_model("llama", byte_level()).with_values(tokenizer__ggml__pre=name)
    message = refused(made, tmp_path / "m.gguf")
    assert f"its pre-tokenizer (tokenizer.ggml.pre) is '{name}'; the known ones are gpt-2, smollm" in message


def test_a_vocabulary_of_another_kind_is_refused_by_its_name(tmp_path):
    made = Made([Entry("general.architecture", TEXT, "bert"), Entry("tokenizer.ggml.model", TEXT, "bert")])
    assert "tokenizer.ggml.model is 'bert'" in refused(made, tmp_path / "m.gguf")


def test_a_special_token_beyond_the_vocabulary_and_missing_scores_are_refused(tmp_path):
    made = language_model("llama", sentencepiece())
    assert "is 264, but there are 264" in refused(
        made.with_values(tokenizer__ggml__bos_token_id=264), tmp_path / "m.gguf"
    )
    made.entry("tokenizer.ggml.scores").value.pop()
    assert "scores has 263 entries, but there are 264" in refused(made, tmp_path / "m.gguf")


def test_scores_that_give_no_order_are_refused(tmp_path):
    made = language_model("llama", sentencepiece())
    made.entry("tokenizer.ggml.tokens").value.append("ba")
    made.entry("tokenizer.ggml.token_type").value.append(1)
    made.entry("tokenizer.ggml.scores").value[:] = [-1000.0] * 265
    made.entry("llama.vocab_size").value = 265
    for tensor in made.tensors:
        tensor.shape = tuple(265 if length == 264 else length for length in tensor.shape)
    assert "all of its pieces have the same score" in refused(made, tmp_path / "m.gguf")


def test_the_chat_template_is_the_files_own(smollm2, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder(smollm2, tmp_path))
    text = tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False, add_generation_prompt=True)
    assert text.endswith("<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n")
    assert read_json(tmp_path / "tokenizer_config.json")["model_max_length"] == 8192
