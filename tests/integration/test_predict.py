"""The same prompts through transformers: batches, samples, interruptions, likelihood."""

import json
import math

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from scripts.common.chat import prompt_ids
from scripts.common.errors import UserError
from scripts.common.files import read_jsonl
from scripts.predict.answers import AnswerFile
from scripts.predict.arguments import predict_parser, prompts_of
from scripts.predict.predict_with_transformers import (
    answer_prompts,
    batches_by_length,
    finished_answer,
    measure_likelihood,
)
from scripts.predict.prompts import Prompt, all_prompts, prompts_of_file, with_system
from tests.support.training import make_dataset, run_settings

SYSTEM = {"role": "system", "content": "Tu commentes."}
USER = {"role": "user", "content": "Minute 3."}


@pytest.fixture(scope="module")
def model(tiny_base):
    return AutoModelForCausalLM.from_pretrained(tiny_base.parent, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer(tiny_base):
    return AutoTokenizer.from_pretrained(tiny_base.parent)


@pytest.fixture
def prompts(tmp_path):
    return all_prompts(make_dataset(tmp_path / "data", test=7) / "test.jsonl", {}, None)


def answers(model, tokenizer, prompts, path, **generation):
    settings = run_settings(generation={"max_new_tokens": 12, "batch_size": 3, **generation})["generation"]
    file = AnswerFile(path, {"settings": settings})
    answer_prompts(model, tokenizer, prompts, file, settings, "test")
    file.finish(prompts)
    return [{key: row[key] for key in row if key != "seconds"} for row in read_jsonl(path)]


def test_answers_keep_the_prompts_order_and_say_how_they_ended(model, tokenizer, prompts, tmp_path):
    rows = answers(model, tokenizer, prompts, tmp_path / "a.jsonl")
    assert [row["id"] for row in rows] == [prompt.id for prompt in prompts]
    assert all(row["stop"] in ("end", "length") and row["tokens"] <= 12 for row in rows)
    assert all(row["prompt_tokens"] == len(prompt_ids(tokenizer, row["messages"])) for row in rows)


def test_a_greedy_answer_is_what_the_model_says_alone(model, tokenizer, prompts, tmp_path):
    rows = answers(model, tokenizer, prompts, tmp_path / "a.jsonl")
    ids = prompt_ids(tokenizer, prompts[2].messages)
    with torch.no_grad():
        for _ in range(rows[2]["tokens"]):
            ids.append(model(torch.tensor([ids])).logits[0, -1].argmax().item())
    said = tokenizer.decode(ids[rows[2]["prompt_tokens"] :], skip_special_tokens=True).strip()
    assert rows[2]["answer"] == said


def test_an_interrupted_step_goes_on_with_the_same_answers(model, tokenizer, prompts, tmp_path):
    whole = answers(model, tokenizer, prompts, tmp_path / "whole.jsonl", temperature=1.5)
    settings = run_settings(generation={"max_new_tokens": 12, "batch_size": 3, "temperature": 1.5})["generation"]
    file = AnswerFile(tmp_path / "cut.jsonl", {"settings": settings})
    answer_prompts(model, tokenizer, prompts, file, settings, "test")
    lines = file.partial.read_text().splitlines(keepends=True)
    damaged = lines[1].replace('"tokens": ', '"tokens": 9')
    assert damaged != lines[1]
    file.partial.write_text(lines[0] + damaged + "".join(lines[2:4]) + lines[4][:20])
    assert answers(model, tokenizer, prompts, tmp_path / "cut.jsonl", temperature=1.5) == whole
    assert list(tmp_path.glob(".*.partial")) == []


def test_sampling_is_seeded(model, tokenizer, prompts, tmp_path):
    first = answers(model, tokenizer, prompts, tmp_path / "1.jsonl", temperature=2.0, seed=1)
    again = answers(model, tokenizer, prompts, tmp_path / "2.jsonl", temperature=2.0, seed=1)
    other = answers(model, tokenizer, prompts, tmp_path / "3.jsonl", temperature=2.0, seed=2)
    assert first == again != other


def test_rows_of_other_settings_are_not_taken_up(prompts, tmp_path):
    AnswerFile(tmp_path / "a.jsonl", {"seed": 1}).add(prompts[0], {"answer": "x"})
    assert AnswerFile(tmp_path / "a.jsonl", {"seed": 1}).has(prompts[0])
    assert not AnswerFile(tmp_path / "a.jsonl", {"seed": 2}).has(prompts[0])


def test_batches_hold_rows_of_like_length():
    assert batches_by_length([3, 9, 1, 9, 4], 2) == [[1, 3], [4, 0], [2]]


def test_an_answer_ends_before_its_end_token(tokenizer):
    ids = tokenizer("But de la tête", add_special_tokens=False)["input_ids"]
    answer = finished_answer(tokenizer, [*ids, 2, 0, 0], [2], 5, 0.5)
    assert answer == {"answer": "But de la tête", "prompt_tokens": 5, "tokens": len(ids), "stop": "end", "seconds": 0.5}


def test_likelihood_is_that_of_the_expected_answers_tokens(model, tokenizer, prompts):
    rows = measure_likelihood(model, tokenizer, prompts, batch_size=3)
    prompt, row = prompts[3], rows[3]
    start = prompt_ids(tokenizer, prompt.messages)
    text = f" {prompt.expected}</s>"
    ids = start + tokenizer(text, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logs = model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
    nll = -sum(logs[i - 1, ids[i]].item() for i in range(len(start), len(ids)))
    assert row["tokens"] == len(ids) - len(start)
    assert math.isclose(row["nll"], nll, rel_tol=1e-4)
    assert row["characters"] == len(prompt.expected)


def test_the_configured_system_message_replaces_adds_or_removes():
    assert with_system([SYSTEM, USER], None) == [SYSTEM, USER]
    assert with_system([SYSTEM, USER], "") == [USER]
    assert with_system([USER], "Oui.") == [{"role": "system", "content": "Oui."}, USER]


def test_further_prompt_sets_keep_their_name(tmp_path):
    path = tmp_path / "extra.jsonl"
    path.write_text(json.dumps({"messages": [USER, {"role": "assistant", "content": "But."}]}), encoding="utf-8")
    test = make_dataset(tmp_path / "data") / "test.jsonl"
    assert all_prompts(test, {"extra": path}, None)[-1] == Prompt(
        "extra", prompts_of_file("extra", path)[0].id, [USER], "But.", None
    )


def test_test_records_limits_the_test_split_and_no_prompt_set(tmp_path):
    path = tmp_path / "extra.jsonl"
    path.write_text(json.dumps({"messages": [USER]}), encoding="utf-8")
    test = make_dataset(tmp_path / "data", test=7) / "test.jsonl"
    words = ["--test", test, "--prompt-set", f"extra={path}", "--answers", "a", "--likelihood", "l", "--settings"]
    asked = {}
    for count in (None, 2):
        settings = run_settings(generation={"test_records": count})
        asked[count] = prompts_of(predict_parser("").parse_args([*map(str, words), json.dumps(settings)]))
    assert [prompt.prompt_set for prompt in asked[2]] == ["test", "test", "extra"]
    assert asked[2] == [*asked[None][:2], asked[None][-1]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "x"}', "extra.jsonl:2: has no 'messages' list; write"),
        ('{"messages": [{"role": "bot", "content": "x"}]}', "extra.jsonl:2: holds a message without a known role"),
        ('{"messages": [{"role": "system", "content": "x"}]}', "extra.jsonl:2: does not end with a question"),
        ('{"messages": [', "extra.jsonl:2: is not valid JSON"),
    ],
)
def test_a_bad_prompt_file_is_one_clear_line(tmp_path, line, message):
    path = tmp_path / "extra.jsonl"
    path.write_text(json.dumps({"messages": [USER]}) + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=message):
        prompts_of_file("extra", path)
