"""GGUF files in llama.cpp: opened quietly, closed always; images are those that training saw.

Answers and likelihoods do not depend on the prompts before, though the beginning that prompts share is evaluated once.
"""

import json

import llama_cpp
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
from scripts.gguf.llama import chat_text, open_gguf
from scripts.gguf.llama_vision import media_marker, open_vision, prepared_image, read_image_spec, with_markers
from scripts.predict import predict_with_llama
from scripts.predict.answers import AnswerFile
from scripts.predict.llama_readers import TextReader
from scripts.predict.predict_with_llama import answer_prompt, answer_prompts, main
from scripts.predict.prompts import Prompt
from tests.support.gguf_files import changed
from tests.support.training import run_settings
from tests.support.vision_run import image_question


def test_a_file_opens_without_a_word_and_is_closed_even_when_the_work_fails(tiny_gguf, capfd):
    with open_gguf(tiny_gguf, context=16, threads=1) as model:
        model.eval([1, 3, 4])
        assert model.n_tokens == 3
    assert model._model.model is None
    assert capfd.readouterr() == ("", "")
    with pytest.raises(ZeroDivisionError), open_gguf(tiny_gguf, context=8, vocab_only=True) as model:
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


def test_a_refusal_of_the_template_and_a_missing_template_are_lines(tiny_gguf, tmp_path):
    none = changed(tiny_gguf, tmp_path / "none.gguf", {"tokenizer.chat_template": None})
    for path, line in ((tiny_gguf, "refuses the conversation: Roles must alternate"), (none, "has no chat template")):
        with open_gguf(path, context=8, vocab_only=True) as model, pytest.raises(UserError, match=line):
            chat_text(model, [{"role": "user", "content": "x"}] * 2)


def predict(run, folder, test=None, tokens: int = 8) -> tuple[dict, dict]:
    """Run the step; return the answers without their time and the likelihoods, by id."""
    settings = run_settings(task="vision", generation={"max_new_tokens": tokens})
    answers, likelihood = folder / "answers" / "bf16.jsonl", folder / "likelihood.jsonl"
    words = [run.gguf, "--mmproj", run.mmproj, "--images", run.data, "--test", test or run.test, "--threads", "2"]
    words += ["--answers", answers, "--likelihood", likelihood, "--settings", json.dumps(settings)]
    assert main([*map(str, words)]) == 0
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in read_jsonl(answers)]
    return {row["id"]: row for row in rows}, {row["id"]: row for row in read_jsonl(likelihood)}


@pytest.fixture(scope="module")
def predicted(tiny_vision, tmp_path_factory):
    return predict(tiny_vision, tmp_path_factory.mktemp("predicted"))


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
    values = {"clip.vision.preproc_image_size": 896}
    image_spec = read_image_spec(changed(tiny_vision.mmproj, tmp_path / "real.gguf", values))
    with open_gguf(tiny_vision.gguf, 64) as model, open_vision(model, tiny_vision.mmproj, None) as server:
        for size in ((112, 56), (300, 211), (896, 896), (3000, 1100), (100, 4000)):
            rows, columns = image_grid(image_spec, size)
            pixels = prepared_image(Image.new("RGB", size), image_spec)
            with server.chunks(model, media_marker(), [pixels]) as chunks:
                assert sum(chunk.tokens for chunk in chunks if chunk.ids is None) == rows * (columns + 1) - 1


def test_answers_do_not_depend_on_the_prompts_before(tiny_vision, predicted, tmp_path):
    lines = tiny_vision.test.read_text().splitlines(keepends=True)
    (tmp_path / "test.jsonl").write_text("".join(reversed(lines)))
    answers, likelihood = predict(tiny_vision, tmp_path, tmp_path / "test.jsonl")
    assert list(answers) == ["d", "c", "b", "a"]
    assert (answers, likelihood) == predicted


def test_rows_hold_the_prompt_and_the_likelihood_is_that_of_the_merged_model(tiny_vision, predicted):
    tokenizer = VisionTokenizer(load_processor(tiny_vision.merged / "manifest.json"), tiny_vision.data)
    model = AutoModelForImageTextToText.from_pretrained(tiny_vision.merged, dtype=torch.float32).eval()
    for row in read_jsonl(tiny_vision.test):
        answer, found = (rows[row["id"]] for rows in predicted)
        ids = conversation_ids(tokenizer, row["messages"])
        start = len(conversation_ids(tokenizer, row["messages"][:-1]))
        assert (answer["messages"], answer["prompt_tokens"]) == (row["messages"][:-1], start)
        assert 0 < answer["tokens"] <= 8
        images = [load_image(tiny_vision.data, name) for name in images_of(row["messages"])]
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([ids]), **pixel_inputs(tokenizer.processor, images)).logits[0]
        expected = torch.nn.functional.cross_entropy(logits[start - 1 : -1], torch.tensor(ids[start:]), reduction="sum")
        assert found["tokens"] == len(ids) - start
        assert found["nll"] == pytest.approx(float(expected), rel=0.005)


def test_a_prompt_that_does_not_fit_is_refused_in_one_line(tiny_vision, tmp_path, capfd):
    with pytest.raises(AssertionError):
        predict(tiny_vision, tmp_path, tokens=500)
    assert "prompts and answers need" in capfd.readouterr().err.splitlines()[-1]


def test_a_text_that_looks_like_an_image_or_has_another_number_of_them_is_refused(tiny_vision):
    for messages in (image_question("images/a.png", "see <__media__>"), [{"role": "user", "content": "<__media__>"}]):
        with pytest.raises(UserError, match="a message contains '<__media__>'"):
            with_markers(messages)
    with open_gguf(tiny_vision.gguf, 64) as model, open_vision(model, tiny_vision.mmproj, None) as vision:
        chunks = vision.chunks(model, "[INST]none[/INST]", [numpy.zeros((28, 28, 3), numpy.uint8)])
        with pytest.raises(UserError, match="the chat template writes 0 of 1 images"), chunks:
            pass


def test_an_mmproj_file_that_is_none_or_of_another_model_is_refused(tiny_gguf, tiny_vision):
    with pytest.raises(UserError, match=r"bf16\.gguf: has no clip\.vision\.preproc_image_size"):
        read_image_spec(tiny_vision.gguf)
    with open_gguf(tiny_gguf, 64) as model:
        vision = open_vision(model, tiny_vision.mmproj, read_image_spec(tiny_vision.mmproj))
        with pytest.raises(UserError, match=r"mmproj\.gguf: llama\.cpp can't load it: .*mismatch"), vision:
            pass


SYSTEM = {"role": "system", "content": "Tu commentes un match en direct."}
SHOWN = [{"role": "user", "content": "Minute 1."}, {"role": "assistant", "content": "Le match commence."}]
GENERATION = run_settings(generation={"max_new_tokens": 8})["generation"]


def prompt(question: str, before: list[dict] = SHOWN) -> Prompt:
    messages = [SYSTEM, *before, {"role": "user", "content": question}]
    return Prompt("test", question + str(len(before)), messages, "But de la tête.", None)


PROMPTS = [prompt(question) for question in ("Minute 3 : but.", "Minute 3 : but.", "0", "0")] + [prompt("Corner.", [])]


def answers(path, prompts) -> list[dict]:
    with open_gguf(path, context=256, threads=1) as model:
        reader = TextReader()
        rows = [answer_prompt(model, reader, asked.messages, GENERATION, seed=1) for asked in prompts]
    return [{key: row[key] for key in row if key != "seconds"} for row in rows]


def likelihoods(path, prompts, folder, answered=(), timed: int = 9) -> tuple[list[dict], list[int]]:
    """Return the likelihoods, and the beginning that was kept for the next prompt; `answered` have answers already.

    The first `timed` prompts are asked one after the other, the others in a batch.
    """
    reader, file = TextReader(), AnswerFile(folder / "answers.jsonl", {})
    for asked in answered:
        file.add(asked, {"answer": ""})
    with open_gguf(path, context=256, threads=1) as model, pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict_with_llama, "TIMED", timed)
        return answer_prompts(model, reader, prompts, file, {"generation": GENERATION}, threads=1), reader.prefix


def test_an_answer_does_not_depend_on_the_prompts_before_it(tiny_gguf):
    assert answers(tiny_gguf, PROMPTS) == [answers(tiny_gguf, [asked])[0] for asked in PROMPTS]


def nll_of_whole(model, asked) -> float:
    """Evaluate a conversation with its answer from an empty cache; return the answer's negative log likelihood."""
    reader = TextReader()
    ids = reader.tail(model, asked.answered)
    start = reader.count(model, asked.messages)
    model.reset()
    model.eval(ids)
    logits = torch.from_numpy(model.scores[start - 1 : len(ids) - 1]).double()
    return -logits.log_softmax(-1).gather(1, torch.tensor(ids[start:])[:, None]).sum().item()


def assert_those_of_whole_conversations(path, found: list[dict]) -> None:
    with open_gguf(path, context=256, threads=1, logits_all=True) as model:
        assert [row["nll"] for row in found] == pytest.approx([nll_of_whole(model, p) for p in PROMPTS], rel=1e-3)


def test_likelihoods_are_those_of_whole_conversations_though_the_shared_beginning_is_kept(tiny_gguf, tmp_path):
    found, kept = likelihoods(tiny_gguf, PROMPTS, tmp_path / "whole")
    assert kept
    assert_those_of_whole_conversations(tiny_gguf, found)
    # After an interruption, when some questions have answers:
    assert likelihoods(tiny_gguf, PROMPTS, tmp_path / "cut", answered=PROMPTS[1:4]) == (found, kept)


@pytest.mark.parametrize("state", ["llama_model_n_swa", "llama_model_is_recurrent"])
def test_likelihoods_are_right_where_no_tokens_can_be_removed_from_the_cache(tiny_gguf, tmp_path, monkeypatch, state):
    # The converter here makes no model with a sliding window or a recurrent state. Only llama.cpp's statement about the
    # model is replaced: every prompt is evaluated whole then.
    monkeypatch.setattr(llama_cpp, state, lambda weights: 64)
    found, kept = likelihoods(tiny_gguf, PROMPTS, tmp_path, timed=0)
    assert not kept
    assert_those_of_whole_conversations(tiny_gguf, found)


@pytest.mark.parametrize("timed", [0, 9])
def test_likelihoods_are_right_with_a_template_that_renders_answered_questions_differently(tiny_gguf, tmp_path, timed):
    turns = "{% for m in messages %}[INST] {{ m['content'] }} [/INST]{% endfor %}"
    template = {"tokenizer.chat_template": "{{ bos_token }}[{{ messages | length }}]" + turns}
    path = changed(tiny_gguf, tmp_path / "other.gguf", template)
    assert_those_of_whole_conversations(path, likelihoods(path, PROMPTS, tmp_path, timed=timed)[0])
