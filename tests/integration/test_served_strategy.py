"""A bundle serves the chosen prompt strategy: system text, wording and examples are those that were scored."""

import json
import subprocess
import sys
from collections import Counter

import pytest

from scripts.common.errors import UserError
from scripts.common.records import Record, content_id
from scripts.deploy.modelfile import message_text
from scripts.deploy.served_strategy import ServedStrategy, asked_systems, context_of, lacking_system, served_strategy
from scripts.predict.prompts import all_prompts
from scripts.predict.strategies import Strategies
from tests.integration.test_deploy_bundle import build, run_folder, settings_of  # noqa: F401 (a fixture)
from tests.support.bundles import run_example
from tests.support.dataset_steps import write_lines
from tests.support.modelfile import parse_modelfile

WORDING = "Caption this{% if label %} ({{ label }}){% endif %}: {{ prompt }}"
STRATEGIES = {"plain": {}, "loud": {"system": "You shout.", "user": WORDING, "shots": 1}, "bare": {"system": ""}}
GOAL = [{"role": "user", "content": "Un but ?"}, {"role": "assistant", "content": "GOOOAL 🤷\u200d♂️ !\u202f"}]


@pytest.fixture
def train(tmp_path):
    row = Record(content_id(GOAL), GOAL, GOAL[-1]["content"], label="goal").to_row()
    return write_lines(tmp_path / "train.jsonl", [row])


@pytest.fixture
def test(run_folder, tmp_path):  # noqa: F811
    """The test split, its first record with a system message."""
    rows = [json.loads(line) for line in (run_folder / "test.jsonl").read_text().splitlines()]
    rows[0]["messages"].insert(0, {"role": "system", "content": "Be brief."})
    return write_lines(tmp_path / "test.jsonl", rows)


def run_section(system=None, strategy="loud"):
    return {"deploy": {"system": system}, "strategies": STRATEGIES, "strategy": strategy}


def test_the_system_text_is_the_strategys_unless_deploy_names_one_and_the_context_has_room_for_it(train):
    served, plain = served_strategy(run_section(), train), served_strategy(run_section(strategy="plain"), train)
    assert served.system == "You shout."
    assert served_strategy(run_section("Mine."), train).system == "Mine."
    assert plain == ServedStrategy(None, "plain")
    assert served_strategy({"deploy": {"system": "Mine."}}, None) == ServedStrategy("Mine.")
    header = {"general.architecture": "llama", "llama.context_length": 1000}
    texts = (served.system, served.user, *(m["content"] for m in served.examples))
    assert context_of(served, 256, header) == 256 + sum(len(text.encode()) for text in texts) // 2
    assert context_of(served, 990, header) == 1000
    assert context_of(plain, 256, header) == context_of(ServedStrategy("Of deploy."), 256, header) == 256


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
def test_system_texts_are_counted_as_the_questions_were_asked(test, train, strategy, generation, asked):
    settings = {"strategies": STRATEGIES, "strategy": strategy, "generation": {"system": generation}}
    assert asked_systems(settings, test) == asked
    prompts = all_prompts(test, {}, generation, Strategies(settings, train))
    first = [p.messages[0] for p in prompts if p.prompt_set == "test"]
    assert Counter(m["content"] if m["role"] == "system" else "" for m in first) == asked


def test_a_bundle_without_the_system_message_of_the_questions_says_so(run_folder, test, tmp_path, capfd):  # noqa: F811
    said = "1 of 2 test questions were asked with a system message; the bundle has none"
    for system, is_lacking in ((None, True), ("Be brief.", False)):
        assert build(run_folder, tmp_path / "bundle", settings_of(run_folder, system), "--test", test) == 0
        assert (said in capfd.readouterr().err) == is_lacking
        assert (f"- {said}" in (tmp_path / "bundle/README.md").read_text()) == is_lacking
    assert lacking_system(None, Counter({"": 4})) is None


def test_a_bundle_serves_the_chosen_strategy(run_folder, train, tmp_path, capfd):  # noqa: F811
    folder, settings = tmp_path / "bundle", settings_of(run_folder, None, strategies=STRATEGIES, strategy="loud")
    assert build(run_folder, folder, settings, "--train", train) == 0
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
