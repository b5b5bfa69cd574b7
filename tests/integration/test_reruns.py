"""What runs again after an edit: exactly the rules that depend on what was edited, and nothing else."""

import json
from collections import Counter

import pytest

from tests.support.project import raw_records

CONFIG, SPLIT = "config/config.yaml", "scripts/dataset/split_records.py"
RESULTS_OF_SCORES = "decide_verdict write_run_report write_leaderboard build_bundle"
ALL_ANSWERS = f"predict_with_transformers*3 predict_with_llama score_answers*4 {RESULTS_OF_SCORES}"
# The base model's answers don't depend on the training.
AFTER_TRAINING = (
    "plot_curve merge_adapter convert_to_gguf check_parity predict_with_transformers*2 predict_with_llama "
    f"score_answers*3 {RESULTS_OF_SCORES}"
)
AFTER_SPLIT = (
    "write_dataset_ledger tokenize_conversations train_adapter plot_curve merge_adapter convert_to_gguf check_parity "
    + ALL_ANSWERS
)
AFTER_GGUF = f"check_parity predict_with_llama score_answers {RESULTS_OF_SCORES}"


def replaced(old, new):
    """Return an edit that replaces text that must be there."""

    def edit(text):
        assert old in text
        return text.replace(old, new)

    return edit


def with_comment(text):
    """Add a comment to a file."""
    return text + "\n# edited\n"


def with_a_constant(text):
    """Add code to a module."""
    return text + "\nEDITED = 1\n"


def edited_docstring(text):
    """Begin a module's docstring with another word."""
    return text.replace('"""', '"""Edited. ', 1)


def with_changed_record(text):
    """Change one word of the first raw record."""
    return text.replace("numéro 0", "numéro zéro", 1)


def with_new_dataset(text):
    """Add a dataset that no run uses."""
    return text.replace("models:\n", "  others:\n    files: [data/more.jsonl]\n    format: messages\nmodels:\n", 1)


EDITS = {
    "nothing": (None, None, ""),
    # data
    "a raw record": ("data/cards.jsonl", with_changed_record, f"ingest_records split_records {AFTER_SPLIT}"),
    "a label map": (CONFIG, replaced("goal: But", "goal: Goal"), f"ingest_records split_records {AFTER_SPLIT}"),
    "the split seed": (CONFIG, replaced("seed: 1}", "seed: 2}"), f"split_records {AFTER_SPLIT}"),
    "a file of validation records": (
        CONFIG,
        replaced(
            "splits: {train: 0.6, validation: 0.2, test",
            "validation_files: [data/more.jsonl]\n    splits: {train: 0.8, validation: 0, test",
        ),
        f"ingest_records split_records {AFTER_SPLIT}",
    ),
    "a dataset added": (CONFIG, with_new_dataset, "ingest_records split_records write_dataset_ledger"),
    "the prompts of a prompt set": ("data/more.jsonl", replaced("99", "98"), f"check_parity {ALL_ANSWERS}"),
    # training
    "a LoRA rank": (CONFIG, replaced("r: 4", "r: 8"), f"train_adapter {AFTER_TRAINING}"),
    "the learning rate": (CONFIG, replaced("1.0e-3", "2.0e-3"), f"train_adapter {AFTER_TRAINING}"),
    "the truncation": (
        CONFIG,
        replaced("max_length: 256", "max_length: 256, truncation: drop"),
        f"tokenize_conversations train_adapter {AFTER_TRAINING}",
    ),
    "the settings of the embedded model": (
        CONFIG,
        replaced("context: 256}", "context: 256, seed: 1}"),
        f"build_embedded_model tokenize_conversations train_adapter plot_curve merge_adapter convert_to_gguf "
        f"check_parity {ALL_ANSWERS}",
    ),
    # quants, parity, answers
    "a quant added": (
        CONFIG,
        replaced("quants: [bf16]", "quants: [bf16, q8_0]"),
        f"quantize_gguf predict_with_llama score_answers {RESULTS_OF_SCORES}",
    ),
    "the limit of the parity": (CONFIG, replaced("max_kl: 1.0", "max_kl: 0.9"), "check_parity build_bundle"),
    "the generation temperature": (
        CONFIG,
        replaced("{max_new_tokens: 4}", "{max_new_tokens: 4, temperature: 0.5}"),
        ALL_ANSWERS,
    ),
    # scores, gates
    "a gate threshold": (CONFIG, replaced("threshold: 0.1", "threshold: 0.2"), RESULTS_OF_SCORES),
    "a generic phrase": (
        CONFIG,
        replaced("{bootstrap: 100}", "{bootstrap: 100, generic_phrases: [but]}"),
        f"score_answers*4 {RESULTS_OF_SCORES}",
    ),
    "a prompt strategy": (
        CONFIG,
        replaced("    prompt_sets:", "    strategies: {loud: {system: Crie.}}\n    prompt_sets:"),
        f"check_parity {ALL_ANSWERS}",
    ),
    "the price of an hour": (
        CONFIG,
        replaced("{bootstrap: 100}", "{bootstrap: 100, price_per_hour: 1.5}"),
        f"score_answers*4 {RESULTS_OF_SCORES}",
    ),
    # code
    "a metric's code": ("scripts/score/diversity.py", with_a_constant, f"score_answers*4 {RESULTS_OF_SCORES}"),
    "a helper that one script imports": ("scripts/dataset/ledger_charts.py", with_a_constant, "write_dataset_ledger"),
    "the code of the verdict": ("scripts/score/decide_verdict.py", with_a_constant, RESULTS_OF_SCORES),
    "a comment in a script": ("scripts/score/decide_verdict.py", with_comment, ""),
    "a docstring": ("scripts/score/decide_verdict.py", edited_docstring, ""),
    "a log line": (
        "scripts/dataset/split_records.py",
        replaced("\ndef step(", "\nlog.info('edited')\n\n\ndef step("),
        "",
    ),
    "the text of a bar": (
        "scripts/dataset/split_records.py",
        replaced('Progress("comparing"', 'Progress("edited"'),
        "",
    ),
    "a module that only reports": ("scripts/common/terminal.py", with_a_constant, ""),
    "the code of the trainer": ("scripts/train/trainer.py", with_a_constant, ""),
    "the result version of the training": (
        "scripts/train/train_model.py",
        replaced("RESULT_VERSION = 1", "RESULT_VERSION = 2"),
        f"train_adapter {AFTER_TRAINING}",
    ),
    "a comment in the configuration": (CONFIG, replaced("models:\n", "# a comment\nmodels:\n"), ""),
    "a file of the documentation": ("docs/tutorial.md", with_comment, ""),
}


def counted(text):
    """Return rules and numbers of jobs from `rule rule*3`."""
    return Counter({rule: int(count or 1) for rule, _, count in (word.partition("*") for word in text.split())})


@pytest.mark.parametrize("what", EDITS)
def test_an_edit_runs_exactly_what_depends_on_it(finished, what):
    path, edit, rules = EDITS[what]
    if path is None:
        assert finished.planned() == counted(rules)
        return
    with finished.edited(path, edit):
        planned = finished.planned()
    assert planned == counted(rules)


def test_after_all_edits_are_taken_back_nothing_runs(finished):
    assert finished.planned() == Counter()


def test_a_record_that_is_added_moves_no_other_to_another_split(finished, tmp_path):
    project = finished.copy(tmp_path / "project")

    def splits():
        names = ("train", "validation", "test")
        folder = project.folder / "results/datasets/cards"
        lines = ((name, line) for name in names for line in (folder / f"{name}.jsonl").read_text().splitlines())
        return {json.loads(line)["id"]: name for name, line in lines}

    before = splits()
    added = {"prompt": "Minute 90", "completion": "Trois coups de sifflet, c’est fini.", "kind": "commentary"}
    with project.edited("data/cards.jsonl", lambda text: text + json.dumps(added) + "\n"):
        done = project.snakemake("results/datasets/cards/train.jsonl", "--quiet", "host", "reason", "rules")
        assert done.returncode == 0, done.stdout
        after = splits()
    assert len(before) == len(raw_records())
    assert len(after) == len(before) + 1
    assert {identity: after[identity] for identity in before} == before
