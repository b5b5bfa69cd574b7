"""Prompt strategies: the same records, asked in other ways."""

import json
import re

import pytest

from scripts.common.errors import UserError
from scripts.common.files import read_jsonl
from scripts.common.records import Record, content_id, with_text
from scripts.gguf.check_parity import main as check_parity
from scripts.predict.arguments import predict_parser, prompts_of
from scripts.predict.prompts import all_prompts
from scripts.predict.strategies import Strategies, chosen_examples
from scripts.score.entity_rows import entity_row
from tests.support.dataset_steps import write_lines
from tests.support.gguf_files import write_test_records
from tests.support.span_data import make_span_dataset

PERSONA = "You shout captions."
REFRAMED = "Caption this{% if label %} ({{ label }}){% endif %}: {{ prompt }}"
BOTH = {"system": PERSONA, "user": REFRAMED}
NAMED = {"none": {}, "persona": {"system": PERSONA}, "reframed": {"user": REFRAMED}, "both": BOTH}


def record(number: int, label: str | None = None, system: str | None = None, answer: str | None = None) -> Record:
    turns = [("system", system), ("user", f"Question {number}"), ("assistant", answer or f"Answer {number}!")]
    messages = [{"role": role, "content": content} for role, content in turns if content]
    return Record(content_id(messages), messages, messages[-1]["content"], label=label)


@pytest.fixture
def test(tmp_path):
    records = [record(90, "goal", system="Be dry."), record(91)]
    return write_lines(tmp_path / "test.jsonl", [each.to_row() for each in records])


@pytest.fixture
def train(tmp_path):
    records = [record(i, "goal" if i % 3 else "save") for i in range(12)]
    return write_lines(tmp_path / "train.jsonl", [each.to_row() for each in records])


def asked(test, named=None, chosen=None, train=None, system=None, files=None):
    """Return the prompts by set and id."""
    settings = {"strategies": named or {}, "strategy": chosen}
    prompts = all_prompts(test, files or {}, system, Strategies(settings, train))
    return {(p.prompt_set, p.id): [(m["role"], m["content"]) for m in p.messages] for p in prompts}


def test_each_strategy_is_a_set_of_its_own_with_the_ids_of_the_test_split(test):
    first, second = (row["id"] for row in read_jsonl(test))
    found = asked(test, NAMED)
    assert [key for key in found if key[1] == first] == [(name, first) for name in ("test", *NAMED)]
    assert found["test", first] == found["none", first] == [("system", "Be dry."), ("user", "Question 90")]
    assert found["persona", first] == [("system", PERSONA), ("user", "Question 90")]
    assert found["reframed", first] == [("system", "Be dry."), ("user", "Caption this (goal): Question 90")]
    assert found["both", second] == [("system", PERSONA), ("user", "Caption this: Question 91")]
    assert {name for name, _ in asked(test)} == {"test"}


def test_the_chosen_strategy_is_what_the_test_split_is_asked_under_and_stands_only_there(test, tmp_path):
    more = write_lines(tmp_path / "more.jsonl", [{"messages": [{"role": "user", "content": "More"}]}])
    found = asked(test, NAMED, "both", files={"more": more})
    assert [name for name, _ in found] == ["test", "test", "more", *["none"] * 2, *["persona"] * 2, *["reframed"] * 2]
    _, second, shown, *_ = found.values()
    assert shown == [("system", PERSONA), ("user", "Caption this: More")]
    assert second == [("system", PERSONA), ("user", "Caption this: Question 91")]


def test_a_strategys_system_message_replaces_that_of_prediction_and_an_empty_one_removes_it(test):
    found = asked(test, {"kept": {}, "own": {"system": "Mine."}, "none": {"system": ""}}, system="Of prediction.")
    starts = {name: messages[0] for (name, _), messages in found.items()}
    assert starts["test"] == starts["kept"] == ("system", "Of prediction.")
    assert starts["own"] == ("system", "Mine.")
    assert starts["none"][0] == "user"


def test_examples_stand_before_the_question_worded_as_it_is(test, train):
    messages = next(iter(asked(test, {"few": {"shots": 2, **BOTH}}, "few", train).values()))
    assert [role for role, _ in messages] == ["system", *["user", "assistant"] * 2, "user"]
    texts = [text for _, text in messages]
    assert texts[1].startswith("Caption this (goal): Question ")
    assert texts[3].startswith("Caption this (save): Question ")
    assert texts[2] == texts[1].replace("Caption this (goal): Question", "Answer") + "!"
    assert texts[-1] == "Caption this (goal): Question 90"


def test_examples_cover_the_labels_evenly_without_copies_and_whatever_the_order_of_the_records():
    records = [record(i, ("a", "a", "a", "b", "c", "c")[i % 6]) for i in range(36)]
    found = chosen_examples(records, 6)
    assert [r.label for r in found] == ["a", "c", "b"] * 2
    assert chosen_examples(reversed(records), 6) == found
    assert len(chosen_examples([record(i, answer="The same!") for i in range(5)] + [record(9)], 4)) == 2


def test_several_turns_of_an_example_are_shown_without_its_system_message(test, tmp_path):
    turns = [("system", "Old."), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    messages = [{"role": role, "content": text} for role, text in turns]
    train = write_lines(tmp_path / "t.jsonl", [Record("1" * 16, messages, "d").to_row()])
    shown = next(iter(asked(test, {"few": {"shots": 1}}, "few", train).values()))
    assert shown == [("system", "Be dry."), *turns[1:], ("user", "Question 90")]


@pytest.mark.parametrize(
    ("strategy", "line"),
    [
        ({"shots": 13}, r".*train\.jsonl: strategies\.x shows 13 examples, the training split has 12 with"),
        ({"user": "{{ label }}"}, r"strategies\.x\.user: for the prompt 'Question 91': a field that .* prints is null"),
        ({"user": "{{ answer }}"}, r"strategies\.x\.user: for the prompt 'Question 90': has no field 'answer'"),
        ({"user": "{{ ' ' }}"}, r"strategies\.x\.user: makes an empty text of the prompt 'Question 90'"),
        ({"user": "{{ prompt.__class__ }}"}, r"strategies\.x\.user: for the prompt 'Question 90': the template fails"),
        ({"user": "{% if %}"}, r"strategies\.x\.user: line 1 of the template: Expected an expression"),
    ],
)
def test_a_strategy_that_can_not_be_used_names_itself(test, train, strategy, line):
    with pytest.raises(UserError) as error:
        asked(test, {"x": strategy}, "x", train)
    assert re.match(line, str(error.value))


def test_images_keep_their_place():
    image, text = {"type": "image", "image": "images/a.png"}, {"type": "text", "text": "What is it?"}
    new = {"type": "text", "text": "New"}
    for before, after in (([image, text], [image, new]), ([text, image, text], [new, image]), ([image], [image, new])):
        assert with_text(before, "New") == after


def test_the_command_line_of_both_predict_steps_takes_the_training_split(test, train):
    settings = {"generation": {"system": None}, "strategies": {"few": {"shots": 1}}, "strategy": "few"}
    words = ["--test", str(test), "--train", str(train), "--answers", "a", "--likelihood", "l"]
    arguments = predict_parser("x").parse_args([*words, "--settings", json.dumps(settings)])
    assert len(prompts_of(arguments)[0].messages) == 4


def test_parity_is_checked_on_the_prompts_of_all_strategies(tiny_base, tiny_gguf, train, tmp_path):
    counts = []
    for strategies in ({}, {**NAMED, "few": {"shots": 1}}):
        settings = {"parity": {"max_kl": 0.02, "prompts": 1}, "generation": {"system": None}}
        settings |= {"strategies": strategies, "strategy": None}
        words = [tiny_base.parent, tiny_gguf, "--test", write_test_records(tmp_path / "t.jsonl"), "--train", train]
        words += ["--output", tmp_path / "parity.json", "--settings", json.dumps(settings)]
        assert check_parity([*map(str, words)]) == 0
        counts.append(json.loads((tmp_path / "parity.json").read_text())["conversations"]["equal"])
    assert counts[1] == counts[0] + 2 * 6


def test_a_record_with_spans_keeps_its_own_text_under_every_strategy(tmp_path):
    test = make_span_dataset(tmp_path / "d") / "test.jsonl"
    strategies = Strategies({"strategies": {"asked": {"user": "Find: {{ prompt }}"}}, "strategy": "asked"})
    for prompt in all_prompts(test, {}, None, strategies):
        row = prompt.to_row()
        assert row["messages"][-1]["content"] == f"Find: {row['text']}"
        assert entity_row({**row, "answer": row["expected"]}).found == [tuple(span) for span in row["spans"]]
