"""Prompts with images through transformers: batches of images, likelihood, and what the command line needs."""

import json
import math

import pytest
import torch
from transformers import AutoModelForImageTextToText

from scripts.common.base_model import four_bit, load_base
from scripts.common.chat import prompt_ids
from scripts.common.errors import UserError
from scripts.common.files import read_jsonl
from scripts.common.records import images_of
from scripts.common.vision import VisionTokenizer, load_image, load_processor
from scripts.predict.answers import AnswerFile
from scripts.predict.predict_with_transformers import answer_prompts, main, measure_likelihood
from scripts.predict.prompts import Prompt, all_prompts
from tests.support.training import run_settings
from tests.support.vision import asked, make_vision_dataset, save_picture


@pytest.fixture(scope="module")
def model(tiny_vision_base):
    return AutoModelForImageTextToText.from_pretrained(tiny_vision_base.parent, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_vision_dataset(tmp_path_factory.mktemp("vision") / "dataset", test=5)


@pytest.fixture(scope="module")
def tokenizer(tiny_vision_base, dataset):
    return VisionTokenizer(load_processor(tiny_vision_base), dataset)


@pytest.fixture
def prompts(dataset):
    """Prompts of one image, of two, and of none: their batches hold them mixed."""
    two = asked(save_picture(dataset, "Invoice 7"), save_picture(dataset, "Le chat", (50, 110)))
    none = {"role": "user", "content": "Sans image ?"}
    further = [Prompt("test", name, [m], "Oui.", None) for name, m in (("two", two), ("none", none))]
    return [*all_prompts(dataset / "test.jsonl", {}, None), *further]


def answers(model, tokenizer, prompts, path, **generation):
    settings = run_settings(generation={"max_new_tokens": 8, "batch_size": 3, **generation})["generation"]
    file = AnswerFile(path, {"settings": settings})
    answer_prompts(model, tokenizer, prompts, file, settings, "test")
    file.finish(prompts)
    return list(read_jsonl(path))


def inputs_of(tokenizer, dataset, messages, answer=""):
    """Return what transformers' own processor makes of a conversation."""
    text = tokenizer.tokenizer.apply_chat_template(messages, tokenize=False) + answer
    images = [load_image(dataset, name) for name in images_of(messages)]
    return tokenizer.processor(text=text, images=images or None, return_tensors="pt", add_special_tokens=False)


def test_answers_in_batches_of_images_are_those_that_each_prompt_has_alone(
    model, tokenizer, dataset, prompts, tmp_path
):
    rows = answers(model, tokenizer, prompts, tmp_path / "a.jsonl")
    assert [row["id"] for row in rows] == [prompt.id for prompt in prompts]
    assert rows[0]["messages"] == prompts[0].messages
    assert len({row["answer"] for row in rows}) > 2
    for row in rows:
        inputs = inputs_of(tokenizer, dataset, row["messages"])
        start = inputs["input_ids"].shape[1]
        assert row["prompt_tokens"] == start == len(prompt_ids(tokenizer, row["messages"]))
        with torch.no_grad():
            said = model.generate(**inputs, max_new_tokens=8, do_sample=False)[0, start:]
        assert row["answer"] == tokenizer.decode(said, skip_special_tokens=True).strip()


def test_likelihood_is_that_of_the_expected_answers_tokens(model, tokenizer, dataset, prompts):
    rows = measure_likelihood(model, tokenizer, prompts, batch_size=3)
    for prompt, row in zip(prompts, rows, strict=True):
        start = inputs_of(tokenizer, dataset, prompt.messages)["input_ids"].shape[1]
        inputs = inputs_of(tokenizer, dataset, prompt.messages, f"{prompt.expected}</s>")
        ids = inputs["input_ids"][0].tolist()
        with torch.no_grad():
            logs = model(**inputs).logits[0].float().log_softmax(-1)
        nll = -sum(logs[i - 1, ids[i]].item() for i in range(start, len(ids)))
        assert row["tokens"] == len(ids) - start
        assert math.isclose(row["nll"], nll, rel_tol=1e-4)


def step(base, dataset, folder, *words) -> int:
    sections = {"generation": {"max_new_tokens": 4}, "vision": {"longest_edge": 84}}
    settings = json.dumps(run_settings(task="vision", **sections))
    paths = ["--test", dataset / "test.jsonl", "--answers", folder / "a.jsonl", "--likelihood", folder / "l.jsonl"]
    return main([str(word) for word in [base, *paths, "--settings", settings, *words]])


def test_the_step_takes_the_images_folder_and_the_runs_longest_edge(tiny_vision_base, dataset, tmp_path):
    assert step(tiny_vision_base, dataset, tmp_path) == 1
    assert step(tiny_vision_base, dataset, tmp_path, "--images", dataset) == 0
    rows = list(read_jsonl(tmp_path / "a.jsonl"))
    tokenizer = VisionTokenizer(load_processor(tiny_vision_base, 84), dataset)
    assert [row["prompt_tokens"] for row in rows] == [len(prompt_ids(tokenizer, row["messages"])) for row in rows]
    assert len(list(read_jsonl(tmp_path / "l.jsonl"))) == 5


def test_prompts_longer_than_the_model_sees_are_refused(model, tokenizer, prompts, tmp_path):
    with pytest.raises(UserError, match=r"max_new_tokens need \d+ tokens, the model sees 512"):
        answers(model, tokenizer, prompts, tmp_path / "a.jsonl", max_new_tokens=500)


def test_a_vision_model_in_4_bits_keeps_its_eyes(tiny_vision_base):
    quantization = four_bit(run_settings("qlora", task="vision")["qlora"], "fp32", "vision")
    model = load_base(tiny_vision_base, torch.float32, quantization, task="vision")
    linear = {name for name, m in model.named_modules() if type(m).__name__ == "Linear4bit"}
    assert linear
    assert all(name.startswith("model.language_model.") for name in linear)


def test_the_row_of_an_answer_to_an_image_is_the_record_with_what_was_answered(tmp_path):
    shown = [{"role": "user", "content": [{"type": "image", "image": "images/a.png"}, {"type": "text", "text": "?"}]}]
    seen = Prompt("test", "1", shown, "Right", "en", meta={"layout": "letter"}, origin="records.jsonl:3")
    told = Prompt("test", "2", [{"role": "user", "content": "?"}], "Right", "en", meta={}, origin="records.jsonl:4")
    file = AnswerFile(tmp_path / "answers.jsonl", {})
    for prompt in (seen, told):
        file.add(prompt, {"answer": "Wrong", "stop": "end"})
    file.finish([seen, told])
    with_image, without = read_jsonl(tmp_path / "answers.jsonl")
    assert (with_image["expected"], with_image["actual"], with_image["answer"]) == ("Right", "Wrong", "Wrong")
    assert (with_image["meta"], with_image["origin"]) == ({"layout": "letter"}, "records.jsonl:3")
    assert not {"actual", "meta", "origin"} & set(without)
