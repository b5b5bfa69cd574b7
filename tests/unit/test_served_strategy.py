"""A bundle serves the chosen prompt strategy: system text, wording and examples are those that were scored."""

import json
import subprocess
import sys

import pytest

from scripts.common.errors import UserError
from scripts.common.records import Record, content_id
from scripts.deploy.build_bundle import main as build_bundle
from scripts.deploy.modelfile import message_text
from scripts.deploy.served_strategy import ServedStrategy, context_of, served_strategy, strategy_lines
from tests.support.modelfile import parse_modelfile
from tests.unit.test_deploy_bundle import run_folder, sections  # noqa: F401 (run_folder is a fixture)

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


def test_the_card_names_the_strategy_and_its_wording():
    lines = strategy_lines(run_section())
    assert "strategy `loud`" in lines[0]
    assert WORDING in lines
    assert len(strategy_lines(run_section(strategy="plain"))) == 2
    assert strategy_lines({"strategy": None}) == []


def test_a_bundle_serves_the_chosen_strategy(run_folder, train, tmp_path):  # noqa: F811
    settings = sections()
    settings["run"] |= {"strategies": STRATEGIES, "strategy": "loud"}
    settings["run"]["deploy"]["system"] = None
    folder = tmp_path / "bundle"
    words = [run_folder / "gguf" / "q8_0.gguf", "--quant", "q8_0", "--parity", run_folder / "parity.json", "--verdict"]
    words += [run_folder / "verdict.json", "--base", run_folder / "merged/manifest.json", "--folder", folder]
    words += ["--training", run_folder / "training.json", "--test", run_folder / "test.jsonl", "--train", train]
    words += ["--raw", run_folder / "raw.json", "--scores", run_folder / "scores/base.json"]
    assert build_bundle([*map(str, words), "--settings", json.dumps(settings)]) == 0
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
    answered = subprocess.run(
        [sys.executable, "example_llama_cpp.py", "--max-tokens", "4"], cwd=folder, capture_output=True, text=True
    )
    assert answered.returncode == 0, answered.stderr
