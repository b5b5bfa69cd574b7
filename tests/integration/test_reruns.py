"""What runs again after an edit: exactly the rules that depend on what was edited, and nothing else."""

import json
from collections import Counter
from contextlib import ExitStack

import pytest

from tests.support.data import load
from tests.support.project import Project

CASES = load("reruns.yaml")


def edited(project, path: str, old: str, new: str):
    """Edit a file of a project: replace a text that must be there, or add one."""

    def edit(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1) if old else text + new

    return project.edited(path, edit)


def counted(text: str) -> Counter:
    """Return rules and numbers of jobs from `rule rule*3 GROUP`."""
    found = Counter()
    for word in text.split():
        rule, _, count = word.partition("*")
        found += counted(CASES["groups"][rule]) if rule in CASES["groups"] else Counter({rule: int(count or 1)})
    return found


@pytest.mark.parametrize("what", CASES["edits"])
def test_an_edit_runs_exactly_what_depends_on_it(finished, what):
    *edit, rules = CASES["edits"][what]
    with edited(finished, *edit):
        planned = finished.planned()
    assert planned == counted(rules)


def test_a_training_without_trackers_is_recorded_by_its_plain_settings(finished):
    files = [path for path in finished.folder.glob(".snakemake/metadata/**/*") if path.is_file()]
    records = [json.loads(path.read_text()) for path in files]
    (params,) = {tuple(record["params"]) for record in records if record["rule"] == "train_adapter"}
    assert any(text.startswith("'{") and '"report_to": []' in text for text in params)


@pytest.fixture
def idle():
    """Return a function that makes all edits on which no result depends, until the test ends."""
    with ExitStack() as edits:
        yield lambda project: [edits.enter_context(edited(project, *edit)) for edit in CASES["idle"].values()]


def test_edits_on_which_no_result_depends_run_nothing(finished, idle):
    idle(finished)
    assert finished.planned() == Counter()


def test_another_checkout_that_differs_only_in_what_decides_no_result_runs_nothing(finished, idle, tmp_path):
    idle(Project.made_in(tmp_path))
    assert finished.planned("--snakefile", str(tmp_path / "Snakefile")) == Counter()
