"""The same prompts through transformers: batches, samples, interruptions, likelihood, with and without images."""

import json
import math

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

from scripts.common.base_model import four_bit, load_base
from scripts.common.chat import conversation_ids
from scripts.common.errors import UserError
from scripts.common.files import read_jsonl, write_manifest
from scripts.common.records import images_of
from scripts.common.vision import VisionTokenizer, load_image, load_processor
from scripts.predict.answers import AnswerFile
from scripts.predict.arguments import predict_parser, prompts_of
from scripts.predict.predict_with_transformers import answer_prompts, load_variant, main, measure_likelihood
from scripts.predict.prompts import Prompt, all_prompts, prompts_of_file
from tests.support.dataset_steps import write_lines
from tests.support.training import make_dataset, run_settings
from tests.support.vision import asked, make_vision_dataset, save_picture

USER = {"role": "user", "content": "Minute 3."}


@pytest.fixture(scope="module")
def text(tiny_base, tmp_path_factory):
    """A model, its tokenizer, and prompts."""
    test = make_dataset(tmp_path_factory.mktemp("text"), test=7) / "test.jsonl"
    model = AutoModelForCausalLM.from_pretrained(tiny_base.parent, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(tiny_base.parent), all_prompts(test, {}, None)


@pytest.fixture(scope="module")
def vision(tiny_vision_base, tmp_path_factory):
    """A vision model, its tokenizer, and prompts of one image, of two, and of none: their batches hold them mixed."""
    folder = make_vision_dataset(tmp_path_factory.mktemp("vision") / "dataset", test=5)
    two = asked(save_picture(folder, "Invoice 7"), save_picture(folder, "Le chat", (50, 110)))
    further = [Prompt("test", name, [m], "Oui.", None) for name, m in (("two", two), ("none", USER))]
    model = AutoModelForImageTextToText.from_pretrained(tiny_vision_base.parent, dtype=torch.float32).eval()
    tokenizer = VisionTokenizer(load_processor(tiny_vision_base), folder)
    return model, tokenizer, [*all_prompts(folder / "test.jsonl", {}, None), *further]


def begin(model, tokenizer, prompts, path, **generation):
    """Answer prompts; return the file of the answers, which is not finished, and the settings."""
    settings = run_settings(generation={"max_new_tokens": 8, "batch_size": 3, **generation})["generation"]
    file = AnswerFile(path, {"settings": settings})
    answer_prompts(model, tokenizer, prompts, file, settings)
    return file


def answers(model, tokenizer, prompts, path, **generation):
    begin(model, tokenizer, prompts, path, **generation).finish(prompts)
    return [{key: row[key] for key in row if key != "seconds"} for row in read_jsonl(path)]


def inputs_of(tokenizer, messages, answer=""):
    """Return what transformers' own processor makes of a conversation, with images or without."""
    if not isinstance(tokenizer, VisionTokenizer):
        text = tokenizer.apply_chat_template(messages, tokenize=False) + answer
        return tokenizer(text, return_tensors="pt", add_special_tokens=False)
    text = tokenizer.tokenizer.apply_chat_template(messages, tokenize=False) + answer
    images = [load_image(tokenizer.folder, name) for name in images_of(messages)]
    return tokenizer.processor(text=text, images=images or None, return_tensors="pt", add_special_tokens=False)


@pytest.mark.parametrize("kind", ["text", "vision"])
def test_answers_keep_the_prompts_order_and_are_those_that_each_prompt_has_alone(request, tmp_path, kind):
    model, tokenizer, prompts = request.getfixturevalue(kind)
    rows = answers(model, tokenizer, prompts, tmp_path / "a.jsonl")
    assert [(row["id"], row["messages"]) for row in rows] == [(prompt.id, prompt.messages) for prompt in prompts]
    assert len({row["answer"] for row in rows}) > 2
    for row in rows:
        assert row["stop"] in ("end", "length")
        assert row["tokens"] <= 8
        inputs = inputs_of(tokenizer, row["messages"])
        start = inputs["input_ids"].shape[1]
        assert row["prompt_tokens"] == start == len(conversation_ids(tokenizer, row["messages"]))
        with torch.no_grad():
            said = model.generate(**inputs, max_new_tokens=8, do_sample=False)[0, start:]
        assert row["answer"] == tokenizer.decode(said, skip_special_tokens=True).strip()


def test_only_answers_to_prompts_that_are_all_asked_alone_have_seconds(text, tmp_path):
    """The last of seven prompts is alone in its batch of three only by chance."""
    for size, timed in ((3, 0), (1, 7)):
        begin(*text, tmp_path / "a.jsonl", batch_size=size).finish(text[2])
        assert ["seconds" in row for row in read_jsonl(tmp_path / "a.jsonl")].count(True) == timed


@pytest.mark.parametrize(("kind", "space"), [("text", " "), ("vision", "")])
def test_likelihood_is_that_of_the_expected_answers_tokens(request, kind, space):
    model, tokenizer, prompts = request.getfixturevalue(kind)
    for prompt, row in zip(prompts, measure_likelihood(model, tokenizer, prompts, batch_size=3), strict=True):
        start = len(conversation_ids(tokenizer, prompt.messages))
        inputs = inputs_of(tokenizer, prompt.messages, f"{space}{prompt.expected}</s>")
        ids = inputs["input_ids"][0].tolist()
        with torch.no_grad():
            logs = model(**inputs).logits[0].float().log_softmax(-1)
        nll = -sum(logs[i - 1, ids[i]].item() for i in range(start, len(ids)))
        assert row["tokens"] == len(ids) - start
        assert math.isclose(row["nll"], nll, rel_tol=1e-4)
        assert row["characters"] == len(prompt.expected)


def test_an_interrupted_step_continues_with_the_same_answers(text, tmp_path):
    whole = answers(*text, tmp_path / "whole.jsonl", temperature=1.5)
    file = begin(*text, tmp_path / "cut.jsonl", temperature=1.5)
    lines = file.partial.read_text().splitlines(keepends=True)
    # One of another version's form, and one that was being written when the step was killed.
    file.partial.write_text("".join([*lines[:2], f"0123456789abcdef {lines[2]}", lines[3], lines[4][:20]]))
    assert answers(*text, tmp_path / "cut.jsonl", temperature=1.5) == whole
    assert list(tmp_path.glob(".*.partial")) == []


def test_sampling_is_seeded_and_rows_of_other_settings_are_not_used(text, tmp_path):
    first, other = (answers(*text, tmp_path / "a.jsonl", temperature=2.0, seed=seed) for seed in (1, 2))
    begin(*text, tmp_path / "b.jsonl", temperature=2.0, seed=2)
    assert first == answers(*text, tmp_path / "b.jsonl", temperature=2.0, seed=1) != other


def test_a_batch_with_an_adapter_does_not_copy_the_output_layer_for_each_prompt(tiny_base, tmp_path):
    base = AutoModelForCausalLM.from_pretrained(tiny_base.parent)
    get_peft_model(base, LoraConfig(target_modules="all-linear")).save_pretrained(tmp_path)
    model = load_variant(tiny_base, write_manifest(tmp_path), run_settings())
    with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU]) as operators:
        model(torch.ones(64, 4, dtype=torch.long), use_cache=False, logits_to_keep=1)
    assert {"aten::mm"} == {each.key for each in operators.key_averages()} & {"aten::mm", "aten::bmm"}


def test_prompts_longer_than_the_model_sees_are_refused(text, tmp_path):
    with pytest.raises(UserError, match=r"max_new_tokens need \d+ tokens, the model sees 512"):
        answers(*text, tmp_path / "a.jsonl", max_new_tokens=500)


def test_test_records_limits_the_test_split_and_no_prompt_set_which_keeps_its_name(tmp_path):
    path = write_lines(tmp_path / "extra.jsonl", [{"messages": [USER, {"role": "assistant", "content": "But."}]}])
    test = make_dataset(tmp_path / "data", test=7) / "test.jsonl"
    words = ["--test", test, "--prompt-set", f"extra={path}", "--answers", "a", "--likelihood", "l", "--settings"]
    asked = {}
    for count in (None, 2):
        settings = run_settings(generation={"test_records": count})
        asked[count] = prompts_of(predict_parser("", "").parse_args(["model", *map(str, words), json.dumps(settings)]))
    assert asked[2] == [*asked[None][:2], asked[None][-1]]
    assert (asked[2][-1].prompt_set, asked[2][-1].messages, asked[2][-1].expected) == ("extra", [USER], "But.")


def test_a_bad_prompt_file_is_one_clear_line(tmp_path):
    path = tmp_path / "extra.jsonl"
    for line, message in (
        ('{"prompt": "x"}', "has no 'messages' list; write"),
        ('{"messages": [{"role": "bot", "content": "x"}]}', "holds a message without a known role"),
        ('{"messages": [{"role": "system", "content": "x"}]}', "does not end with a user message"),
        ('{"messages": [', "is not valid JSON"),
    ):
        path.write_text(json.dumps({"messages": [USER]}) + "\n" + line + "\n", encoding="utf-8")
        with pytest.raises(UserError, match=f"extra.jsonl:2: {message}"):
            prompts_of_file("extra", path)


def test_the_step_needs_the_images_folder_and_takes_the_runs_longest_edge(tiny_vision_base, vision, tmp_path, capfd):
    pictures = vision[1].folder
    sections = {"generation": {"max_new_tokens": 4}, "vision": {"longest_edge": 84}}
    words = [tiny_vision_base, "--test", pictures / "test.jsonl", "--answers", tmp_path / "a.jsonl", "--likelihood"]
    words += [tmp_path / "l.jsonl", "--settings", json.dumps(run_settings(task="vision", **sections))]
    assert main([*map(str, words)]) == 1
    assert "a vision run needs the folder of its images; name it with --images" in capfd.readouterr().err
    assert main([*map(str, words), "--images", str(pictures)]) == 0
    rows = list(read_jsonl(tmp_path / "a.jsonl"))
    tokenizer = VisionTokenizer(load_processor(tiny_vision_base, 84), pictures)
    assert [row["prompt_tokens"] for row in rows] == [len(conversation_ids(tokenizer, row["messages"])) for row in rows]


def test_a_vision_model_in_4_bits_keeps_its_tower(tiny_vision_base):
    quantization = four_bit(run_settings("qlora", task="vision")["qlora"], "fp32", reads_images=True)
    model = load_base(tiny_vision_base, torch.float32, quantization, reads_images=True)
    linear = {name for name, m in model.named_modules() if type(m).__name__ == "Linear4bit"}
    assert linear
    assert all(name.startswith("model.language_model.") for name in linear)


def test_the_row_of_an_answer_to_an_image_is_the_record_with_what_was_answered(tmp_path):
    seen = Prompt("test", "1", [asked("images/a.png")], "Right", "en", meta={"layout": "letter"}, origin="r.jsonl:3")
    told = Prompt("test", "2", [USER], "Right", "en", meta={}, origin="r.jsonl:4")
    file = AnswerFile(tmp_path / "answers.jsonl", {})
    for prompt in (seen, told):
        file.add(prompt, {"answer": "Wrong", "stop": "end"})
    file.finish([seen, told])
    with_image, without = read_jsonl(tmp_path / "answers.jsonl")
    added = {"expected": "Right", "actual": "Wrong", "meta": {"layout": "letter"}, "origin": "r.jsonl:3"}
    assert with_image.items() >= {**added, "answer": "Wrong"}.items()
    assert {*added} & set(without) == {"expected"}
