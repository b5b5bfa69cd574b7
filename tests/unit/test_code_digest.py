"""What of a step's code runs it again, and that nobody changes the code of a dear step in silence."""

import json
import re
import shutil
from pathlib import Path

import pytest

from scripts.train.train_model import RESULT_VERSION
from scripts.workflow import code_digest
from scripts.workflow.code_digest import (
    ROOT,
    WITHOUT_RESULT,
    codes_in,
    current_versions,
    digest_of,
    kept_step_code,
    main,
    state_of,
    step_code,
    unconfirmed,
)  # fmt: skip
from tests.support.data import FOLDER, load


@pytest.fixture
def step(tmp_path):
    """A script with a helper; return its path."""
    shutil.copytree(FOLDER / "digest", tmp_path / "scripts/stage")
    (tmp_path / "scripts/common").mkdir()
    shutil.copy(ROOT / "scripts/common/terminal.py", tmp_path / "scripts/common")
    return tmp_path / "scripts/stage/step.py"


def edited(step: Path, name: str, old: str, new: str) -> Path:
    """Copy a step's `scripts` folder and edit one of its files; return the copied step's path."""
    root = step.parents[2] / "edited"
    shutil.copytree(step.parents[1], root / "scripts")
    text = (root / "scripts" / name).read_text()
    assert old in text
    (root / "scripts" / name).write_text(text.replace(old, new))
    return root / "scripts/stage/step.py"


@pytest.mark.parametrize(("name", "old", "new", "same"), load("digest/edits.yaml"))
def test_what_only_people_read_changes_no_digest_and_what_computes_does(step, name, old, new, same):
    assert (step_code(edited(step, name, old, new)) == step_code(step)) == same


def test_modules_that_decide_no_result_import_nothing_that_computes():
    for name in WITHOUT_RESULT:
        imported = re.findall(r"^ *from scripts\.(\S+) import", (ROOT / "scripts" / name).read_text(), re.MULTILINE)
        files = {f"{module.replace('.', '/')}.py" for module in imported}
        assert files <= {*WITHOUT_RESULT, "common/plain_text.py"}, name


def test_a_result_version_takes_the_place_of_the_digest(step):
    step.write_text(step.read_text() + "RESULT_VERSION = 7\n")
    assert step_code(step) == "version 7"
    after = edited(step, "stage/helper.py", "2 *", "3 *")
    assert step_code(after) == "version 7"
    assert digest_of(after) != digest_of(step)


def test_codes_are_kept_until_a_file_of_the_code_changes(step, tmp_path, monkeypatch):
    def code() -> str:
        for function in (code_digest.known, codes_in, state_of):
            function.cache_clear()  # as in another process
        return kept_step_code(step, tmp_path / "folder/codes.json")

    first = code()
    assert first == step_code(step)
    with monkeypatch.context() as patch:
        patch.setattr(code_digest, "step_code", None)
        assert code() == first
    helper = step.with_name("helper.py")
    helper.write_text(helper.read_text().replace("2 *", "3 *"))
    assert first != code() == step_code(step)
    (tmp_path / "folder/codes.json").write_text("{")
    assert code() == step_code(step)


def test_the_code_of_no_dear_step_changed_in_silence():
    steps = "raise RESULT_VERSION, or confirm: python -m scripts.workflow.code_digest --same-numbers"
    assert unconfirmed() == [], steps
    assert len(current_versions()) == 9


def test_a_change_in_silence_is_refused_until_it_is_confirmed(tmp_path, monkeypatch, capsys):
    record = tmp_path / "result_versions.json"
    monkeypatch.setattr("scripts.workflow.code_digest.VERSIONS", record)
    record.write_text(json.dumps({"train/train_model.py": {"version": RESULT_VERSION, "digest": "another"}}))
    assert main([]) == 1
    assert "train/train_model.py" in capsys.readouterr().err
    assert main(["--same-numbers"]) == 0
    assert unconfirmed() == []
