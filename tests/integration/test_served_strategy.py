"""A bundle serves the chosen prompt strategy: system text, wording and examples are those that were scored."""

import json
import subprocess
import sys
from collections import Counter

import pytest

from scripts.common.errors import UserError
from scripts.common.records import Record, content_id
from scripts.deploy.modelfile import message_text
from scripts.deploy.served_strategy import (
    ServedStrategy,
    asked_systems,
    context_of,
    lacking_system,
    served_strategy,
)
from scripts.predict.prompts import all_prompts
from scripts.predict.strategies import Strategies
from tests.integration.test_deploy_bundle import build, run_folder, settings_of  # noqa: F401 (a fixture)
from tests.support.bundles import run_example
from tests.support.modelfile import parse_modelfile

WORDING = "Caption this{% if label %} ({{ label }}){% endif %}: {{ prompt }}"
STRATEGIES = {"plain": {}, "loud": {"system": "You shout.", "user": WORDING, "shots": 1}}


@pytest.fixture
def train(tmp_path):
    messages = [{"role": "user", "content": "Un but ?"}, {"role": "assistant", "content": "GOOOAL 🤷\u200d♂️ !\u202f"}]
    row = Record(content_id(messages), messages, messages[-1]["content"], label="goal").to_row()
    (tmp_path / "train.jsonl").write_text(json.dumps(row) + "\n")
    return tmp_path / "train.jsonl"


def run_section(system=None, strategy="loud"):
    return {"deploy": {"system": system}, "strategies": STRATEGIES, "strategy": strategy}


def test_the_system_text_is_the_strategys_unless_deploy_names_one(train):
    assert served_strategy(run_section(), train).system == "You shout."
    assert served_strategy(run_section("Mine."), train).system == "Mine."
    assert served_strategy(run_section(strategy="plain"), train) == ServedStrategy(None, "plain")
    assert served_strategy({"deploy": {"system": "Mine."}}, None) == ServedStrategy("Mine.")


def test_the_context_has_room_for_what_the_strategy_adds_but_is_never_longer_than_the_models(train):
    header = {"general.architecture": "llama", "llama.context_length": 1000}
    served = served_strategy(run_section(), train)
    bytes_added = sum(
        len(text.encode()) for text in (served.system, served.user, *(m["content"] for m in served.examples))
    )
    assert context_of(served, 256, header) == 256 + bytes_added // 2
    assert context_of(served, 990, header) == 1000
    assert context_of(served_strategy(run_section(strategy="plain"), train), 256, header) == 256
    assert context_of(ServedStrategy("Of deploy."), 256, header) == 256


def test_characters_that_ollama_drops_are_dropped_from_examples_and_said(caplog):
    assert message_text("🤷\u200d♂️ !\u202f") == '"""🤷♂️ ! """'
    assert "without the characters that Ollama drops" in caplog.text
    with pytest.raises(UserError, match='an example of the strategy holds """'):
        message_text('"""')


@pytest.fixture
def with_system(run_folder, tmp_path):  # noqa: F811
    """The test split, its first record with a system message."""
    rows = [json.loads(line) for line in (run_folder / "test.jsonl").read_text().splitlines()]
    rows[0]["messages"].insert(0, {"role": "system", "content": "Be brief."})
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "test.jsonl"


@pytest.mark.parametrize(
    ("strategy", "generation", "asked"),
    [
        (None, None, {"Be brief.": 1, "": 1}),
        (None, "All.", {"All.": 2}),
        (None, "", {"": 2}),
        ("plain", None, {"Be brief.": 1, "": 1}),
        ("plain", "All.", {"All.": 2}),
        ("loud", "All.", {"You shout.": 2}),
        ("bare", "All.", {"": 2}),
    ],
)
def test_system_texts_are_counted_as_the_questions_were_asked(with_system, train, strategy, generation, asked):
    named = {**STRATEGIES, "bare": {"system": ""}}
    settings = {"strategies": named, "strategy": strategy, "generation": {"system": generation}}
    assert asked_systems(settings, with_system) == asked
    prompts = all_prompts(with_system, {}, generation, Strategies(settings, train))
    first = [p.messages[0] for p in prompts if p.prompt_set == "test"]
    assert Counter(m["content"] if m["role"] == "system" else "" for m in first) == asked


def test_a_system_message_that_the_bundle_lacks_is_said():
    assert lacking_system(None, Counter({"": 4})) is None
    assert lacking_system("Mine.", Counter({"Be brief.": 4})) is None
    assert lacking_system("", Counter({"Be brief.": 1, "": 3})).startswith("1 of 4 test questions were asked with")


def test_a_bundle_without_the_system_message_of_the_questions_says_so(run_folder, with_system, tmp_path, capfd):  # noqa: F811
    said = "1 of 2 test questions were asked with a system message; the bundle has none"
    for system, is_lacking in ((None, True), ("Be brief.", False)):
        settings = settings_of(run_folder, system)
        assert build(run_folder, tmp_path / "bundle", settings, "--test", with_system) == 0
        assert (said in capfd.readouterr().err) == is_lacking
        assert (f"- {said}" in (tmp_path / "bundle" / "README.md").read_text()) == is_lacking


def test_a_bundle_serves_the_chosen_strategy(run_folder, train, tmp_path):  # noqa: F811
    folder, settings = tmp_path / "bundle", settings_of(run_folder, None, strategies=STRATEGIES, strategy="loud")
    assert build(run_folder, folder, settings, "--train", train) == 0
    commands = parse_modelfile((folder / "Modelfile").read_text())
    assert ("system", "You shout.") in commands
    said = [value for name, value in commands if name == "message"]
    assert said == ['user """Caption this (goal): Un but ?"""', 'assistant """GOOOAL 🤷♂️ ! """']
    assert "strategy `loud`" in (folder / "README.md").read_text()
    asked = "import json, example_llama_cpp as e; print(json.dumps(e.messages_of('Et alors ?', e.SYSTEM, 'goal')))"
    done = subprocess.run([sys.executable, "-c", asked], cwd=folder, capture_output=True, text=True, check=True)
    assert [message["content"] for message in json.loads(done.stdout)] == [
        "You shout.",
        "Caption this (goal): Un but ?",
        "GOOOAL 🤷\u200d♂️ !\u202f",
        "Caption this (goal): Et alors ?",
    ]
    assert run_example(folder / "example_llama_cpp.py", "--max-tokens", "4").endswith("\n")
