"""GGUF files are opened quietly, closed always, and one that can't be loaded is one line."""

import pytest

from scripts.common.errors import UserError
from scripts.gguf.llama import adds_bos, chat_text, ends_generation, open_gguf, token_ids, token_text
from tests.support.gguf_files import changed

USER = [{"role": "user", "content": "x"}]


def vocabulary(path):
    return open_gguf(path, context=8, vocab_only=True)


def test_a_file_opens_without_a_word_and_is_closed_even_when_the_work_fails(tiny_gguf, capfd):
    with open_gguf(tiny_gguf, context=16, threads=1) as model:
        model.eval([1, 3, 4])
        assert model.n_tokens == 3
    assert model._model.model is None
    assert capfd.readouterr() == ("", "")
    with pytest.raises(ZeroDivisionError), vocabulary(tiny_gguf) as model:
        raise ZeroDivisionError
    assert model._model.model is None


def test_a_file_that_llama_cpp_can_not_load_is_one_line(tiny_gguf, tmp_path, capfd):
    path = changed(tiny_gguf, tmp_path / "alien.gguf", {"general.architecture": "alien"})
    with pytest.raises(UserError, match="alien") as error, open_gguf(path):
        pass
    assert str(error.value).startswith(f"{path}: llama.cpp can't load it:")
    assert "\n" not in str(error.value)
    assert "unknown model architecture" in capfd.readouterr().err
    path.write_bytes(tiny_gguf.read_bytes()[:-1000])
    with pytest.raises(UserError, match="is not a valid GGUF file"), open_gguf(path):
        pass


def test_the_context_is_the_models_own_unless_one_is_asked_for(tiny_gguf):
    for asked, context in ((None, 512), (256, 256)):
        with open_gguf(tiny_gguf, **({"context": asked} if asked else {})) as model:
            assert model.n_ctx() == context


def test_bos_is_there_once_an_eos_where_the_file_asks_for_it_and_tokens_have_texts(tiny_gguf, tmp_path):
    with vocabulary(tiny_gguf) as model:
        assert adds_bos(model)
        assert token_ids(model, "<s>[INST]") == token_ids(model, "[INST]") == [1, 3]
        assert [token_text(model, token) for token in (-1, 1, 2, 3)] == ["", "<s>", "</s>", "[INST]"]
        assert [ends_generation(model, token) for token in (1, 2, 3)] == [False, True, False]
    with vocabulary(changed(tiny_gguf, tmp_path / "none.gguf", {"tokenizer.ggml.add_bos_token": False})) as model:
        assert token_ids(model, "<s>[INST]") == [1, 3]
        assert token_ids(model, "[INST]") == [3]
    with vocabulary(changed(tiny_gguf, tmp_path / "eos.gguf", {"tokenizer.ggml.add_eos_token": True})) as model:
        assert token_ids(model, "[INST]") == [1, 3, 2]


def test_a_refusal_of_the_template_and_a_missing_template_are_lines(tiny_gguf, tmp_path):
    with vocabulary(tiny_gguf) as model:
        assert chat_text(model, USER) == "<s>[INST] x [/INST]"
        with pytest.raises(UserError, match=r"refuses the conversation: Roles must alternate"):
            chat_text(model, USER + USER)
    file = changed(tiny_gguf, tmp_path / "none.gguf", {"tokenizer.chat_template": None})
    with vocabulary(file) as model, pytest.raises(UserError, match=r"none\.gguf: has no chat template"):
        chat_text(model, USER)
