"""What a provenance record says of code and of the files read beside raw data, and that a change of them changes it."""

import subprocess

import pytest

from scripts.common.config.load import load_config
from scripts.common.config.sections import sections_of
from scripts.common.files import sha256_of
from scripts.deploy.provenance import code_state
from scripts.deploy.read_files import read_facts, read_paths
from tests.support.needs import need

RAW = {
    "datasets": {
        "pages": {"files": ["raw.jsonl"], "format": "messages", "images": "pictures"},
        "letters": {"files": ["letters.jsonl"], "format": "spans", "span_label_map": {"name": "NAME"}},
        "clean": {"files": ["raw.jsonl"], "format": "messages", "redact": {"run": "finder"}},
    },
    "models": {
        "mine": {"path": "models/mine", "architecture": "mistral3", "chat_template": "mine.jinja"},
        "small": {"embedded": {}, "chat_template": "chatml"},
    },
    "runs": {
        "seen": {
            "dataset": "pages",
            "model": "mine",
            "task": "vision",
            "prompt_sets": {"style.2": {"file": "style.jsonl"}},
        },
        "finder": {"dataset": "letters", "model": "small", "task": "token_classification", "method": "head"},
        "cleaned": {"dataset": "clean", "model": "small"},
    },
    "gates": {
        "all": {"metric": "perplexity", "comparison": "below", "threshold": 9, "runs": ["seen", "cleaned"]},
        "one": {"metric": "distinct_2", "comparison": "above", "threshold": 0.1, "runs": ["cleaned"]},
    },
}


def sections(run: str) -> dict:
    """Return the sections of a run."""
    return sections_of(load_config(RAW), run)


def test_the_files_and_folders_that_a_run_names_are_found():
    assert read_paths(sections("seen")) == {
        "run.prompt_sets.style.2.file": "style.jsonl",
        "dataset.images": "pictures",
        "model.path": "models/mine",
        "model.chat_template": "mine.jinja",
    }
    assert read_paths(sections("cleaned")) == {}


def test_the_sections_have_the_gates_of_the_run_and_the_run_that_redacts():
    found = sections("cleaned")
    assert (list(sections("seen")["gates"]), list(found["gates"])) == (["all"], ["all", "one"])
    assert (found["redaction"]["run_key"], found["redaction"]["model_key"]) == ("finder", "small")
    assert "redaction" not in sections("seen")


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one.write_bytes(b"a/ONE.png"),
        lambda one: one.rename(one.with_name("three.png")),
        lambda one: one.with_name("three.png").write_bytes(b""),
        lambda one: one.unlink(),
    ],
    ids=["content", "name", "more", "less"],
)
def test_a_change_in_a_folder_of_images_changes_its_hash(tmp_path, change):
    for name in ("a/one.png", "two.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    before = read_facts("dataset.images", tmp_path)
    assert (before["files"], before["bytes"]) == (2, 16)
    change(tmp_path / "a" / "one.png")
    assert read_facts("dataset.images", tmp_path)["sha256"] != before["sha256"]


def test_of_a_local_model_the_files_that_are_taken_count_and_no_weights(tmp_path):
    (tmp_path / "more").mkdir()
    for name in ("config.json", "model.safetensors", "code.py", "notes.bin", "more/config.json"):
        (tmp_path / name).write_text(name)
    before = read_facts("model.path", tmp_path)
    assert (before["files"], read_facts("model.path", tmp_path, with_code=True)["files"]) == (1, 2)
    (tmp_path / "model.safetensors").write_text("other")
    assert read_facts("model.path", tmp_path) == before
    (tmp_path / "config.json").write_text("other")
    assert read_facts("model.path", tmp_path)["sha256"] != before["sha256"]


def git(folder, *words):
    identity = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


def test_a_commit_is_clean_until_code_changes(tmp_path):
    need("git", "git of the distribution")
    (tmp_path / "rules").mkdir()
    for name in ("Snakefile", "rules/score.smk", "notes.txt"):
        (tmp_path / name).write_text("one\n")
    for words in (["init"], ["add", "."], ["commit", "-m", "one"]):
        git(tmp_path, *words)
    clean = code_state(tmp_path)
    assert len(clean["commit"]) == 40
    (tmp_path / "notes.txt").write_text("two\n")
    assert code_state(tmp_path)["dirty"] is clean["dirty"] is False
    (tmp_path / "rules" / "score.smk").write_text("two\n")
    changed = code_state(tmp_path)
    assert (changed["dirty"], changed["commit"]) == (True, clean["commit"])
    assert changed["sha256"] != clean["sha256"]


@pytest.mark.parametrize("in_another_project", [False, True])
def test_a_copy_without_a_commit_of_its_own_has_files_alone(tmp_path, in_another_project):
    copy = tmp_path / "snaketune"
    if in_another_project:
        need("git", "git of the distribution")
        (tmp_path / "other.txt").write_text("one\n")
        for words in (["init"], ["add", "."], ["commit", "-m", "one"]):
            git(tmp_path, *words)
    copy.mkdir()
    (copy / "Snakefile").write_text("rule all:\n")
    state = code_state(copy)
    assert (state["commit"], state["dirty"]) == (None, None)
    assert state["files"] == {"Snakefile": sha256_of(copy / "Snakefile")}
