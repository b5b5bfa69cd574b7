"""A file that crashes llama.cpp is refused with one line: a child process tries it first."""

import os
import resource
from dataclasses import replace

import pytest

from scripts.common.errors import UserError
from scripts.gguf.check import LIMITS, check_gguf
from scripts.gguf.llama import open_gguf
from tests.support.gguf_maker import ALIGNMENT, WIDTH, Made, all_made, byte_level, language_model
from tests.support.vocabularies import write_byte_level_vocabulary


def without_attention() -> Made:
    made = language_model("phi3")
    made.tensors = [tensor for tensor in made.tensors if "attn_qkv" not in tensor.name]
    return made


def with_token_twice() -> Made:
    made = language_model()
    made.entry("tokenizer.ggml.tokens").value[-1] = "a"
    return made


def without_a_byte() -> Made:
    made = language_model("llama")
    made.entry("tokenizer.ggml.tokens").value[200] = "x"
    made.entry("tokenizer.ggml.token_type").value[200] = 1
    return made


CRASHES = {
    "too many blocks": language_model().with_values(llama__block_count=513),
    "unknown scaling": language_model().with_values(llama__rope__scaling__type="x"),
    "a token twice": with_token_twice(),
    "a byte without a token": without_a_byte(),
    "no attention": without_attention(),
}


@pytest.mark.parametrize("name", CRASHES)
def test_a_file_that_crashes_llama_cpp_is_refused_with_one_line(tmp_path, name):
    path = CRASHES[name].written(tmp_path / "m.gguf")
    with pytest.raises(UserError, match=r"llama\.cpp can't load it \(SIG[A-Z]+\): .") as error, open_gguf(path):
        pass
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", all_made())
def test_a_valid_file_passes(tmp_path, name):
    check_gguf(all_made()[name].written(tmp_path / "m.gguf"))


def test_a_file_that_is_larger_than_the_childs_limit_of_memory_passes(tmp_path):
    width, layers = 16_384, 6
    heads = {f"llama__attention__head_count{suffix}": width // 128 for suffix in ("", "_kv")}
    heads |= {f"llama__attention__{side}_length": 128 for side in ("key", "value")}
    sizes = {"llama__embedding_length": width, "llama__feed_forward_length": width, "llama__block_count": layers}
    made = language_model().with_values(**sizes, **heads, llama__rope__dimension_count=128)
    for tensor in made.tensors:
        tensor.shape = tuple(width if length == WIDTH else length for length in tensor.shape)
    blocks = [tensor for tensor in made.tensors if tensor.name.startswith("blk.0.")]
    made.tensors += [replace(t, name=t.name.replace("0", str(n), 1)) for n in range(1, layers) for t in blocks]
    path, size = made.written(tmp_path / "m.gguf"), sum(tensor.size + ALIGNMENT for tensor in made.tensors)
    assert size > LIMITS[resource.RLIMIT_AS]
    os.truncate(path, path.stat().st_size + size)
    check_gguf(path)


def test_a_vocabulary_without_weights_passes(tmp_path):
    check_gguf(write_byte_level_vocabulary(tmp_path / "v.gguf", "gpt-2", ["a b"]))


def test_a_file_that_changed_is_tried_again(tmp_path):
    path = tmp_path / "m.gguf"
    check_gguf(language_model("llama", byte_level()).written(path))
    with_token_twice().written(path)
    with pytest.raises(UserError, match=r"llama\.cpp can't load it"):
        check_gguf(path)
