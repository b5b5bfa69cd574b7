"""Prompt strategies: the same records, asked in other ways."""

import json

import pytest

from scripts.common.errors import UserError
from scripts.common.files import read_jsonl
from scripts.common.records import Record, content_id, with_text
from scripts.gguf.check_parity import main as check_parity
from scripts.predict.arguments import predict_parser, prompts_of
from scripts.predict.prompts import all_prompts
from scripts.predict.strategies import Strategies, chosen_examples
from scripts.score.entity_rows import entity_row
from tests.support.gguf_files import write_test_records
from tests.support.span_data import make_span_dataset

PERSONA = "You shout captions."
REFRAMED = "Caption this{% if label %} ({{ label }}){% endif %}: {{ prompt }}"
NAMED = {
    "none": {},
    "persona": {"system": PERSONA},
    "reframed": {"user": REFRAMED},
    "both": {"system": PERSONA, "user": REFRAMED},
}


def record(number: int, label: str | None = None, system: str | None = None, answer: str | None = None) -> Record:
    messages = [{"role": "system", "content": system}] if system else []
    messages += [
        {"role": "user", "content": f"Question {number}"},
        {"role": "assistant", "content": answer or f"Answer {number}!"},
    ]
    return Record(content_id(messages), messages, messages[-1]["content"], label=label)


def write(path, records):
    path.write_text("".join(json.dumps(r.to_row()) + "\n" for r in records), encoding="utf-8")
    return path


@pytest.fixture
def test(tmp_path):
    return write(tmp_path / "test.jsonl", [record(90, "goal", system="Be dry."), record(91)])


@pytest.fixture
def train(tmp_path):
    return write(tmp_path / "train.jsonl", [record(i, "goal" if i % 3 else "save") for i in range(12)])


def asked(test, settings, train=None, system=None, files=None):
    """Return the prompts by set and id."""
    prompts = all_prompts(test, files or {}, system, Strategies(settings, train))
    return {(p.prompt_set, p.id): [(m["role"], m["content"]) for m in p.messages] for p in prompts}


def test_each_strategy_is_a_set_of_its_own_with_the_ids_of_the_test_split(test):
    first, second = (row["id"] for row in read_jsonl(test))
    found = asked(test, {"strategies": NAMED, "strategy": None})
    assert [key for key in found if key[1] == first] == [(name, first) for name in ("test", *NAMED)]
    assert found["test", first] == found["none", first] == [("system", "Be dry."), ("user", "Question 90")]
    assert found["persona", first] == [("system", PERSONA), ("user", "Question 90")]
    assert found["reframed", first] == [("system", "Be dry."), ("user", "Caption this (goal): Question 90")]
    assert found["both", second] == [("system", PERSONA), ("user", "Caption this: Question 91")]


def test_the_chosen_strategy_is_what_the_test_split_is_asked_under_and_stands_only_there(test, tmp_path):
    more = tmp_path / "more.jsonl"
    more.write_text(json.dumps({"messages": [{"role": "user", "content": "More"}]}))
    found = asked(test, {"strategies": NAMED, "strategy": "both"}, files={"more": more})
    assert [name for name, _ in found] == ["test", "test", "more", *["none"] * 2, *["persona"] * 2, *["reframed"] * 2]
    [shown] = [messages for (name, _), messages in found.items() if name == "more"]
    assert shown == [("system", PERSONA), ("user", "Caption this: More")]
    [_, second, *_] = found.values()
    assert second == [("system", PERSONA), ("user", "Caption this: Question 91")]


def test_without_strategies_nothing_changes(test):
    assert asked(test, {}) == asked(test, {"strategies": {}, "strategy": None})
    assert {name for name, _ in asked(test, {})} == {"test"}


def test_a_strategys_system_message_goes_over_that_of_prediction_and_an_empty_one_removes_it(test):
    strategies = {"kept": {}, "own": {"system": "Mine."}, "none": {"system": ""}}
    found = asked(test, {"strategies": strategies, "strategy": None}, system="Of prediction.")
    starts = {name: messages[0] for (name, _), messages in found.items()}
    assert starts["test"] == starts["kept"] == ("system", "Of prediction.")
    assert starts["own"] == ("system", "Mine.")
    assert starts["none"][0] == "user"


def test_examples_stand_before_the_question_worded_as_it_is(test, train):
    found = asked(
        test, {"strategies": {"few": {"shots": 2, "user": REFRAMED, "system": PERSONA}}, "strategy": "few"}, train
    )
    messages = next(iter(found.values()))
    assert [role for role, _ in messages] == ["system", *["user", "assistant"] * 2, "user"]
    assert messages[1][1].startswith("Caption this (goal): Question ")
    assert messages[3][1].startswith("Caption this (save): Question ")
    assert messages[2][1] == messages[1][1].replace("Caption this (goal): Question", "Answer") + "!"
    assert messages[-1] == ("user", "Caption this (goal): Question 90")


def test_examples_cover_the_labels_evenly_and_do_not_depend_on_the_order_of_the_records():
    records = [record(i, ("a", "a", "a", "b", "c", "c")[i % 6]) for i in range(36)]
    found = chosen_examples(records, 6)
    assert [r.label for r in found] == ["a", "c", "b"] * 2
    assert chosen_examples(reversed(records), 6) == found
    assert found != chosen_examples(records[1:], 6) or records[0] not in found


def test_copies_with_the_same_answer_count_once():
    records = [record(i, answer="The same!") for i in range(5)] + [record(9)]
    assert len(chosen_examples(records, 4)) == 2


def test_several_turns_of_an_example_are_shown_without_its_system_message(test, tmp_path):
    turns = [("system", "Old."), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    messages = [{"role": role, "content": text} for role, text in turns]
    train = write(tmp_path / "t.jsonl", [Record("1" * 16, messages, "d")])
    shown = next(iter(asked(test, {"strategies": {"few": {"shots": 1}}, "strategy": "few"}, train).values()))
    assert shown == [("system", "Be dry."), *turns[1:], ("user", "Question 90")]


def test_more_examples_than_there_are_is_one_clear_line(train):
    with pytest.raises(
        UserError, match=r"train\.jsonl: strategies\.few shows 13 examples, the training split has 12 with"
    ):
        Strategies({"strategies": {"few": {"shots": 13}}}, train)
    with pytest.raises(
        UserError, match=r"strategies\.few shows examples of the training split, which --train has to name"
    ):
        Strategies({"strategies": {"few": {"shots": 1}}})


@pytest.mark.parametrize(
    ("template", "line"),
    [
        ("{{ label }}", "strategies.x.user: for the prompt 'Question 91': a field that the template prints is null"),
        ("{{ answer }}", "strategies.x.user: for the prompt 'Question 90': has no field 'answer'"),
        ("{{ ' ' }}", "strategies.x.user: makes an empty text of the prompt 'Question 90'"),
        ("{{ prompt.__class__ }}", "strategies.x.user: for the prompt 'Question 90': the template fails: access to"),
        ("{% if %}", "strategies.x.user: line 1 of the template: Expected an expression"),
    ],
)
def test_a_bad_template_names_itself(test, template, line):
    with pytest.raises(UserError) as error:
        asked(test, {"strategies": {"x": {"user": template}}, "strategy": "x"})
    assert str(error.value).startswith(line)


def test_images_keep_their_place():
    image = {"type": "image", "image": "images/a.png"}
    text = {"type": "text", "text": "What is it?"}
    assert with_text([image, text], "New") == [image, {"type": "text", "text": "New"}]
    assert with_text([text, image, text], "New") == [{"type": "text", "text": "New"}, image]
    assert with_text([image], "New") == [image, {"type": "text", "text": "New"}]


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
