"""A sweep with prompt strategies, from end to end: both are chosen on the validation split, and judged on test."""

from collections import Counter

import pytest

from scripts.common.files import read_json, read_jsonl
from tests.integration.test_reruns import CASES, counted, edited
from tests.support.pages import Page

TEMPERATURES = ("cards-temperature0", "cards-temperature2")
EDITS = {
    "{max_new_tokens: 4}": "{max_new_tokens: 4}\n    sweep: {generation.temperature: [0, 2]}\n    select: chrf\n"
    "    variants: [bf16]\n    strategies: {plain: {}, loud: {system: Crie.}}\n    strategy: plain",
    "comparison: above, threshold: 0.1": "comparison: above, threshold: -1",
}


@pytest.fixture(scope="module")
def swept(finished, tmp_path_factory):
    """A copy of the finished project with a sweep over the temperature, and its results."""
    project = finished.copy(tmp_path_factory.mktemp("swept") / "project")
    path = project.folder / "config/config.yaml"
    text = path.read_text(encoding="utf-8")
    for old, new in EDITS.items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    done = project.snakemake("--quiet", "host", "reason", "rules")
    assert done.returncode == 0, done.stdout
    return project


def rows_by_set(path) -> Counter:
    """Return how many answers of each prompt set are in a file."""
    return Counter(row["prompt_set"] for row in read_jsonl(path))


def test_the_shipped_variant_answers_the_validation_split_in_all_strategies_and_test_in_the_chosen_one(swept):
    datasets = swept.folder / "results/datasets/cards"
    validation, test = (len(list(read_jsonl(datasets / f"{split}.jsonl"))) for split in ("validation", "test"))
    for run in TEMPERATURES:
        folder = swept.folder / "results/runs" / run
        assert rows_by_set(folder / "answers/bf16.jsonl") == {"test": test, "more": 1}
        assert rows_by_set(folder / "validation/answers/bf16.jsonl") == {"test": validation, "loud": validation}
        assert f"On the {validation} records of the validation split" in Page((folder / "report.html").read_text()).text
    trained = [(swept.folder / "results/runs" / run / "training.json").exists() for run in TEMPERATURES]
    assert trained == [True, False]


def test_one_run_of_the_sweep_is_chosen_and_the_other_says_so(swept):
    choice = read_json(swept.folder / "results/sweeps/cards/choice.json")
    values = {row["run"]: row["value"] for row in choice["runs"]}
    assert (choice["metric"], list(values)) == ("chrf", list(TEMPERATURES))
    assert values[choice["chosen"]] == max(values.values())
    for run in TEMPERATURES:
        verdict = read_json(swept.folder / f"results/runs/{run}/verdict.json")
        assert verdict["chosen"] == {"run": choice["chosen"], "metric": "chrf"}
        says_so = f"the sweep chose {choice['chosen']} on the validation split" in verdict["reason"]
        assert says_so == (run != choice["chosen"])
    assert choice["chosen"] in Page((swept.folder / "results/leaderboard.html").read_text()).text


@pytest.mark.parametrize("what", CASES["sweep"])
def test_an_edit_runs_exactly_what_depends_on_it(swept, what):
    *edit, rules = CASES["sweep"][what]
    assert not swept.planned()
    with edited(swept, *edit):
        assert swept.planned() == counted(rules)
