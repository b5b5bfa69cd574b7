"""GGUF files in llama.cpp: opened quietly, closed always; images and tokens are those that training saw."""

import json

import numpy
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from scripts.common.chat import conversation_ids
from scripts.common.errors import UserError
from scripts.common.files import read_jsonl
from scripts.common.records import images_of
from scripts.common.vision import VisionTokenizer, image_grid, load_image, load_processor, pixel_inputs
from scripts.gguf.llama import adds_bos, chat_text, ends_generation, open_gguf, token_ids, token_text
from scripts.gguf.llama_vision import media_marker, open_vision, prepared_image, read_image_spec, with_markers
from scripts.predict.llama_readers import ImageReader
from scripts.predict.predict_with_llama import main
from tests.support.gguf_files import changed
from tests.support.vision_run import SIZES, image_question

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


GENERATION = {
    "system": None, "temperature": 0.0, "top_k": 40, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0,
    "max_new_tokens": 8, "seed": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(tiny_vision):
    return VisionTokenizer(load_processor(tiny_vision.merged / "manifest.json"), tiny_vision.data)


@pytest.fixture(scope="module")
def served(tiny_vision):
    """The open model and how it reads conversations with images."""
    reader = ImageReader(tiny_vision.mmproj, tiny_vision.data, None)
    with open_gguf(tiny_vision.gguf, 256, 2, logits_all=True) as model, reader.opened(model, 2):
        yield model, reader


def predict(run, folder, test=None, generation=GENERATION) -> tuple[dict, dict]:
    """Run the step; return the answers without their time and the likelihoods, by id."""
    settings = {"task": "vision", "vision": {"longest_edge": None}, "generation": generation}
    answers, likelihood = folder / "answers" / "bf16.jsonl", folder / "likelihood.jsonl"
    words = [run.gguf, "--mmproj", run.mmproj, "--images", run.data, "--test", test or run.test, "--threads", "2"]
    words += ["--answers", answers, "--likelihood", likelihood, "--settings", json.dumps(settings)]
    assert main([*map(str, words)]) == 0
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in read_jsonl(answers)]
    return {row["id"]: row for row in rows}, {row["id"]: row for row in read_jsonl(likelihood)}


@pytest.fixture(scope="module")
def predicted(tiny_vision, tmp_path_factory):
    return predict(tiny_vision, tmp_path_factory.mktemp("predicted"))


@pytest.mark.parametrize("longest_edge", [None, 56])
def test_an_image_is_prepared_as_training_prepared_it(tiny_vision, longest_edge):
    processor = load_processor(tiny_vision.merged / "manifest.json", longest_edge)
    image_spec = read_image_spec(tiny_vision.mmproj, longest_edge)
    mean, deviation = (torch.tensor(getattr(processor.image_processor, f"image_{kind}")) for kind in ("mean", "std"))
    for name in SIZES:
        image = load_image(tiny_vision.data, f"images/{name}.png")
        trained = pixel_inputs(processor, [image])["pixel_values"][0]
        pixels = prepared_image(image, image_spec)
        assert pixels.dtype == numpy.uint8
        ours = ((torch.from_numpy(pixels) / 255 - mean) / deviation).permute(2, 0, 1)
        assert torch.allclose(ours, trained, atol=1e-6), name
        assert image_grid(image_spec, image.size) == image_grid(processor, image.size)


def test_the_largest_image_of_the_real_model_is_within_the_limit_that_llama_cpp_is_given(tiny_vision, tmp_path):
    values = {"clip.vision.preproc_image_size": 1540, "clip.vision.image_size": 1540}
    image_spec = read_image_spec(changed(tiny_vision.mmproj, tmp_path / "real.gguf", values))
    assert image_grid(image_spec, (4000, 4000)) == (55, 55)
    assert image_spec.most_tokens == 55 * 55
    with open_gguf(tiny_vision.gguf, 64) as model, open_vision(model, tmp_path / "real.gguf", image_spec) as vision:
        pixels = prepared_image(Image.new("RGB", (4000, 4000)), image_spec)
        with vision.chunks(model, media_marker(), [pixels]) as chunks:
            assert [chunk.tokens for chunk in chunks if chunk.ids is None] == [55 * 56 - 1]


def test_a_server_leaves_images_alone_that_were_scaled_before(tiny_vision, tmp_path):
    image_spec = read_image_spec(
        changed(tiny_vision.mmproj, tmp_path / "real.gguf", {"clip.vision.preproc_image_size": 896})
    )
    with open_gguf(tiny_vision.gguf, 64) as model, open_vision(model, tiny_vision.mmproj, None) as server:
        for size in ((112, 56), (300, 211), (896, 896), (3000, 1100), (100, 4000)):
            rows, columns = image_grid(image_spec, size)
            pixels = prepared_image(Image.new("RGB", size), image_spec)
            with server.chunks(model, media_marker(), [pixels]) as chunks:
                assert sum(chunk.tokens for chunk in chunks if chunk.ids is None) == rows * (columns + 1) - 1


def test_chunks_are_the_tokens_of_training(tiny_vision, tokenizer, served):
    model, reader = served
    for row in read_jsonl(tiny_vision.test):
        messages = row["messages"][:-1]
        ids = conversation_ids(tokenizer, messages)
        images = [prepared_image(load_image(tiny_vision.data, name), reader.image_spec) for name in images_of(messages)]
        with reader.vision.chunks(model, chat_text(model, with_markers(messages)), images) as chunks:
            assert sum(chunk.tokens for chunk in chunks) == len(ids) == reader.count(model, messages)
            texts = [token for chunk in chunks for token in chunk.ids or []]
            tail = chunks[-1].ids
        inside = (tokenizer.processor.image_token_id, tokenizer.processor.image_break_token_id)
        assert texts == [token for token in ids if token not in inside]
        assert reader.tail(model, messages) == tail == ids[-len(tail) :]


def test_answers_do_not_depend_on_the_prompts_before(tiny_vision, predicted, tmp_path):
    lines = tiny_vision.test.read_text().splitlines(keepends=True)
    (tmp_path / "test.jsonl").write_text("".join(reversed(lines)))
    answers, likelihood = predict(tiny_vision, tmp_path, tmp_path / "test.jsonl")
    assert list(answers) == ["d", "c", "b", "a"]
    assert (answers, likelihood) == predicted


def test_rows_hold_the_prompt_and_the_likelihood_is_that_of_the_merged_model(tiny_vision, tokenizer, predicted):
    model = AutoModelForImageTextToText.from_pretrained(tiny_vision.merged, dtype=torch.float32).eval()
    for row in read_jsonl(tiny_vision.test):
        answer, found = (rows[row["id"]] for rows in predicted)
        ids = conversation_ids(tokenizer, row["messages"])
        start = len(conversation_ids(tokenizer, row["messages"][:-1]))
        assert (answer["messages"], answer["prompt_tokens"]) == (row["messages"][:-1], start)
        assert 0 < answer["tokens"] <= GENERATION["max_new_tokens"]
        images = [load_image(tiny_vision.data, name) for name in images_of(row["messages"])]
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([ids]), **pixel_inputs(tokenizer.processor, images)).logits[0]
        expected = torch.nn.functional.cross_entropy(logits[start - 1 : -1], torch.tensor(ids[start:]), reduction="sum")
        assert found["tokens"] == len(ids) - start
        assert found["nll"] == pytest.approx(float(expected), rel=0.005)


def test_a_prompt_that_does_not_fit_is_refused_in_one_line(tiny_vision, tmp_path, capfd):
    with pytest.raises(AssertionError):
        predict(tiny_vision, tmp_path, generation={**GENERATION, "max_new_tokens": 500})
    assert "prompts and answers need" in capfd.readouterr().err.splitlines()[-1]


def test_a_text_that_looks_like_an_image_or_has_another_number_of_them_is_refused(served):
    for messages in (image_question("images/a.png", "see <__media__>"), [{"role": "user", "content": "<__media__>"}]):
        with pytest.raises(UserError, match="a message contains '<__media__>'"):
            with_markers(messages)
    model, reader = served
    chunks = reader.vision.chunks(model, "[INST]none[/INST]", [numpy.zeros((28, 28, 3), numpy.uint8)])
    with pytest.raises(UserError, match="the chat template writes 0 of 1 images"), chunks:
        pass


def test_an_mmproj_file_that_is_none_or_of_another_model_is_refused(tiny_gguf, tiny_vision):
    with pytest.raises(UserError, match=r"bf16\.gguf: has no clip\.vision\.preproc_image_size"):
        read_image_spec(tiny_vision.gguf)
    with open_gguf(tiny_gguf, 64) as model:
        vision = open_vision(model, tiny_vision.mmproj, read_image_spec(tiny_vision.mmproj))
        with pytest.raises(UserError, match=r"mmproj\.gguf: llama\.cpp can't load it: .*mismatch"), vision:
            pass
