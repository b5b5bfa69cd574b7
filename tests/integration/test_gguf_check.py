"""A file that crashes llama.cpp is refused with one line: a child process tries it first."""

import os
import resource

import pytest

from scripts.common.errors import UserError
from scripts.gguf.check import LIMITS, check_gguf
from scripts.gguf.llama import open_gguf
from tests.support.gguf_maker import ALIGNMENT, Made, all_made, byte_level, language_model


def with_token(place: int, text: str) -> Made:
    """Return a model whose vocabulary has another ordinary token at a place."""
    made = language_model()
    made.entry("tokenizer.ggml.tokens").value[place] = text
    made.entry("tokenizer.ggml.token_type").value[place] = 1
    return made


def without_attention() -> Made:
    made = language_model("phi3")
    made.tensors = [tensor for tensor in made.tensors if "attn_qkv" not in tensor.name]
    return made


CRASHES = {
    "too many blocks": language_model().with_values(llama__block_count=513),
    "unknown scaling": language_model().with_values(llama__rope__scaling__type="x"),
    "a token twice": with_token(-1, "a"),
    "a byte without a token": with_token(200, "x"),
    "no attention": without_attention(),
}


@pytest.mark.parametrize("name", CRASHES)
def test_a_file_that_crashes_llama_cpp_is_refused_with_one_line_also_in_the_place_of_a_sound_one(tmp_path, name):
    path = language_model("llama", byte_level()).written(tmp_path / "m.gguf")
    if name == "a token twice":
        check_gguf(path)
    CRASHES[name].written(path)
    with pytest.raises(UserError, match=r"llama\.cpp can't load it \(SIG[A-Z]+\): .") as error, open_gguf(path):
        pass
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", all_made())
def test_a_valid_file_passes(tmp_path, name):
    check_gguf(all_made()[name].written(tmp_path / "m.gguf"))


def test_a_file_that_is_larger_than_the_childs_limit_of_memory_passes(tmp_path):
    made = language_model(width=40_960)
    path, size = made.written(tmp_path / "m.gguf"), sum(tensor.size + ALIGNMENT for tensor in made.tensors)
    assert size > LIMITS[resource.RLIMIT_AS]
    os.truncate(path, path.stat().st_size + size)
    check_gguf(path)
