"""Prompt strategies: the same records, asked in other ways; a bundle serves the chosen one as it was scored."""

import json
import re
import subprocess
import sys
from collections import Counter

import pytest

from scripts.common.errors import UserError
from scripts.common.files import read_json, read_jsonl
from scripts.common.records import Record, content_id
from scripts.deploy.modelfile import message_text
from scripts.deploy.served_strategy import ServedStrategy, asked_systems, context_of, lacking_system, served_strategy
from scripts.gguf.check_parity import main as check_parity
from scripts.gguf.conversations import built_in_conversations
from scripts.predict.prompts import all_prompts
from scripts.predict.strategies import Strategies, chosen_examples
from scripts.score.entity_rows import entity_row
from tests.integration.test_deploy_bundle import build, run_folder, settings_of  # noqa: F401 (a fixture)
from tests.support.bundles import run_example
from tests.support.dataset_steps import write_lines
from tests.support.gguf_files import write_test_records
from tests.support.modelfile import parse_modelfile
from tests.support.span_data import make_span_dataset

PERSONA = "You shout captions."
REFRAMED = "Caption this{% if label %} ({{ label }}){% endif %}: {{ prompt }}"
BOTH = {"system": PERSONA, "user": REFRAMED}
NAMED = {"none": {}, "persona": {"system": PERSONA}, "reframed": {"user": REFRAMED}, "both": BOTH}


def record(number: int, label: str | None = None, system: str | None = None, answer: str | None = None) -> Record:
    turns = [("system", system), ("user", f"Question {number}"), ("assistant", answer or f"Answer {number}!")]
    messages = [{"role": role, "content": content} for role, content in turns if content]
    return Record(content_id(messages), messages, messages[-1]["content"], label=label)


def write(path, *records: Record):
    return write_lines(path, [each.to_row() for each in records])


@pytest.fixture
def test(tmp_path):
    return write(tmp_path / "test.jsonl", record(90, "goal", system="Be dry."), record(91))


@pytest.fixture
def train(tmp_path):
    return write(tmp_path / "train.jsonl", *(record(i, "goal" if i % 3 else "save") for i in range(12)))


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
    starts = {name: messages[0][1] for (name, _), messages in found.items()}
    of_prediction = dict.fromkeys(("test", "kept"), "Of prediction.")
    assert starts == {**of_prediction, "own": "Mine.", "none": "Question 91"}


def test_examples_stand_before_the_question_worded_as_it_is_without_their_system_message(test, tmp_path):
    turns = [("system", "Old."), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    messages = [{"role": role, "content": text} for role, text in turns]
    train = write(tmp_path / "t.jsonl", Record("1" * 16, messages, "d", label="save"))
    shown = next(iter(asked(test, {"few": {"shots": 1, **BOTH}}, "few", train).values()))
    reworded = [(role, f"Caption this (save): {text}" if role == "user" else text) for role, text in turns[1:]]
    assert shown == [("system", PERSONA), *reworded, ("user", "Caption this (goal): Question 90")]


def test_examples_cover_the_labels_evenly_without_copies_and_whatever_the_order_of_the_records():
    records = [record(i, ("a", "a", "a", "b", "c", "c")[i % 6]) for i in range(36)]
    found = chosen_examples(records, 6)
    assert [r.label for r in found] == ["a", "c", "b"] * 2
    assert chosen_examples(reversed(records), 6) == found
    assert len(chosen_examples([record(i, answer="The same!") for i in range(5)] + [record(9)], 4)) == 2


@pytest.mark.parametrize(
    ("strategy", "line"),
    [
        ({"shots": 13}, r".*train\.jsonl: strategies\.x shows 13 examples, the training split has 12 with"),
        ({"user": "{{ label }}"}, r"strategies\.x\.user: for the prompt 'Question 91': a field that .* prints is null"),
        ({"user": "{{ ' ' }}"}, r"strategies\.x\.user: renders an empty text for the prompt 'Question 90'"),
        ({"user": "{% if %}"}, r"strategies\.x\.user: line 1 of the template: Expected an expression"),
    ],
)
def test_a_strategy_that_can_not_be_used_names_itself(test, train, strategy, line):
    with pytest.raises(UserError) as error:
        asked(test, {"x": strategy}, "x", train)
    assert re.match(line, str(error.value))


def test_parity_is_checked_on_the_prompts_of_all_strategies(tiny_base, tiny_gguf, train, tmp_path):
    settings = {"parity": {"max_kl": 0.02, "prompts": 1}, "generation": {"system": None}}
    settings |= {"strategies": {**NAMED, "few": {"shots": 1}}, "strategy": None}
    words = [tiny_base.parent, tiny_gguf, "--test", write_test_records(tmp_path / "t.jsonl"), "--train", train]
    words += ["--output", tmp_path / "parity.json", "--settings", json.dumps(settings)]
    assert check_parity([*map(str, words)]) == 0
    compared = read_json(tmp_path / "parity.json")["conversations"]["equal"]
    # Of each record its prompt and its answer, and what prediction asks without a strategy and under each of five.
    assert compared == len(built_in_conversations()) + 2 * (2 + 1 + 5)


def test_a_record_with_spans_keeps_its_own_text_under_every_strategy(tmp_path):
    test = make_span_dataset(tmp_path / "d") / "test.jsonl"
    strategies = Strategies({"strategies": {"asked": {"user": "Find: {{ prompt }}"}}, "strategy": "asked"})
    for prompt in all_prompts(test, {}, None, strategies):
        row = prompt.to_row()
        assert row["messages"][-1]["content"] == f"Find: {row['text']}"
        assert entity_row({**row, "answer": row["expected"]}).found == [tuple(span) for span in row["spans"]]


STRATEGIES = {"plain": {}, "loud": {"system": "You shout.", "user": REFRAMED, "shots": 1}, "bare": {"system": ""}}
GOAL = [{"role": "user", "content": "Un but ?"}, {"role": "assistant", "content": "GOOOAL 🤷\u200d♂️ !\u202f"}]


@pytest.fixture
def goal(tmp_path):
    """A training split of one record."""
    return write(tmp_path / "train.jsonl", Record(content_id(GOAL), GOAL, GOAL[-1]["content"], label="goal"))


@pytest.fixture
def served_test(run_folder, tmp_path):  # noqa: F811
    """The test split, its first record with a system message."""
    rows = list(read_jsonl(run_folder / "test.jsonl"))
    rows[0]["messages"].insert(0, {"role": "system", "content": "Be brief."})
    return write_lines(tmp_path / "test.jsonl", rows)


def test_the_system_text_is_the_strategys_unless_deploy_names_one_and_the_context_has_room_for_it(goal):
    def served(strategy, system=None):
        run = {"deploy": {"system": system}, "strategies": STRATEGIES, "strategy": strategy}
        return served_strategy(run, goal)

    assert [served("loud").system, served("loud", "Mine.").system] == ["You shout.", "Mine."]
    assert [served("plain"), served(None, "Mine.")] == [ServedStrategy(None, "plain"), ServedStrategy("Mine.")]
    header = {"general.architecture": "llama", "llama.context_length": 1000}
    texts = (served("loud").system, served("loud").user, *(m["content"] for m in served("loud").examples))
    assert context_of(served("loud"), 256, header) == 256 + sum(len(text.encode()) for text in texts) // 2
    assert context_of(served("loud"), 990, header) == 1000
    assert context_of(served("plain"), 256, header) == context_of(served(None, "Mine."), 256, header) == 256


@pytest.mark.parametrize("strategy", [None, *STRATEGIES])
@pytest.mark.parametrize("generation", [None, "", "All."])
def test_system_texts_are_counted_as_the_questions_are_asked(served_test, goal, strategy, generation):
    settings = {"strategies": STRATEGIES, "strategy": strategy, "generation": {"system": generation}}
    prompts = all_prompts(served_test, {}, generation, Strategies(settings, goal))
    first = [p.messages[0] for p in prompts if p.prompt_set == "test"]
    assert asked_systems(settings, served_test) == Counter(m["content"] * (m["role"] == "system") for m in first)


def test_a_bundle_without_the_system_message_of_the_questions_says_so(run_folder, served_test, tmp_path, capfd):  # noqa: F811
    said = "1 of 2 test questions were asked with a system message; the bundle has none"
    for system, is_lacking in ((None, True), ("Be brief.", False)):
        assert build(run_folder, tmp_path / "bundle", settings_of(run_folder, system), "--test", served_test) == 0
        assert (said in capfd.readouterr().err) == is_lacking
        assert (f"- {said}" in (tmp_path / "bundle/README.md").read_text()) == is_lacking
    assert lacking_system(None, Counter({"": 4})) is None


def test_a_bundle_serves_the_chosen_strategy(run_folder, goal, tmp_path, capfd):  # noqa: F811
    folder, settings = tmp_path / "bundle", settings_of(run_folder, None, strategies=STRATEGIES, strategy="loud")
    assert build(run_folder, folder, settings, "--train", goal) == 0
    assert "without the characters that Ollama drops" in capfd.readouterr().err
    commands = parse_modelfile((folder / "Modelfile").read_text())
    assert ("system", "You shout.") in commands
    said = [value for name, value in commands if name == "message"]
    assert said == ['user """Caption this (goal): Un but ?"""', 'assistant """GOOOAL 🤷♂️ ! """']
    assert "strategy `loud`" in (folder / "README.md").read_text()
    asked = "import json, example_llama_cpp as e; print(json.dumps(e.messages_of('Et alors ?', e.SYSTEM, 'goal')))"
    done = subprocess.run([sys.executable, "-c", asked], cwd=folder, capture_output=True, text=True, check=True)
    assert [message["content"] for message in json.loads(done.stdout)] == [
        "You shout.", "Caption this (goal): Un but ?", GOAL[1]["content"], "Caption this (goal): Et alors ?",
    ]  # fmt: skip
    assert run_example(folder / "example_llama_cpp.py", "--max-tokens", "4").endswith("\n")
    with pytest.raises(UserError, match='an example of the strategy holds """'):
        message_text('"""')
