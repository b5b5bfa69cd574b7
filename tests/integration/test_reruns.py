"""What runs again after an edit: exactly the rules that depend on what was edited, and nothing else."""

import json
from collections import Counter
from contextlib import ExitStack

import pytest

from tests.support.data import load
from tests.support.project import Project, raw_records

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


def test_an_edit_on_which_no_result_depends_runs_nothing(finished):
    with ExitStack() as edits:
        for edit in CASES["idle"].values():
            edits.enter_context(edited(finished, *edit))
        assert finished.planned() == Counter()
    assert finished.planned() == Counter()


def test_a_record_that_is_added_moves_no_other_to_another_split(finished, tmp_path):
    project = finished.copy(tmp_path / "project")

    def splits():
        folder = project.folder / "results/datasets/cards"
        return {
            json.loads(line)["id"]: name
            for name in ("train", "validation", "test")
            for line in (folder / f"{name}.jsonl").read_text().splitlines()
        }

    before = splits()
    added = {"prompt": "Minute 90", "completion": "Trois coups de sifflet, c’est fini.", "kind": "commentary"}
    with project.edited("data/cards.jsonl", lambda text: text + json.dumps(added) + "\n"):
        done = project.snakemake("results/datasets/cards/train.jsonl", "--quiet", "host", "reason", "rules")
        assert done.returncode == 0, done.stdout
        after = splits()
    assert len(before) == len(raw_records())
    assert len(after) == len(before) + 1
    assert before.items() <= after.items()


def test_another_checkout_that_differs_only_in_what_decides_no_result_runs_nothing(finished, tmp_path):
    checkout = Project.made_in(tmp_path)
    with ExitStack() as edits:
        for edit in CASES["idle"].values():
            edits.enter_context(edited(checkout, *edit))
        assert finished.planned("--snakefile", str(tmp_path / "Snakefile")) == Counter()
